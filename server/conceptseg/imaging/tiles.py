"""How a grid of output pixels is cut into units of compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.region import PixelGrid


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A rectangle of output px relative to the top-left of the grid.

    Attributes:
        x: Left edge in output px; negative where a halo reaches out of the region.
        y: Top edge in output px.
        width: Output px per row.
        height: Output px per column.
    """

    x: int
    y: int
    width: int
    height: int

    def grown(self, margin_px: int) -> Tile:
        """This tile with ``margin_px`` output px more on every side."""
        return Tile(
            x=self.x - margin_px,
            y=self.y - margin_px,
            width=self.width + 2 * margin_px,
            height=self.height + 2 * margin_px,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TileGrid:
    """Cores of tiles that cover a grid without gap or overlap, row by row.

    The cores are anchored at the grid's top-left, so a token (stride × stride output px) is the same token
    whatever the tile size. The last core of a row or column ends at the first multiple of the stride at or
    beyond the region: up to ``stride_px - 1`` px of the neighbourhood are read with it.

    Attributes:
        width: Output px per row of the grid.
        height: Output px per column of the grid.
        tile_px: Side of a core in output px, a multiple of ``stride_px``.
        stride_px: Output px per token side.
        halo_px: Context around each core in output px, a multiple of ``stride_px``.
    """

    width: int
    height: int
    tile_px: int
    stride_px: int
    halo_px: int = 0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidRequestError(f"Expected a grid of at least 1 × 1 px, got {self.width} × {self.height}.")
        if self.stride_px < 1 or self.tile_px < self.stride_px or self.tile_px % self.stride_px:
            raise InvalidRequestError(
                f"Expected a tile size that is a positive multiple of the stride of {self.stride_px} px, "
                f"got {self.tile_px} px."
            )
        if self.halo_px < 0 or self.halo_px % self.stride_px:
            raise InvalidRequestError(
                f"Expected a halo of 0 or a multiple of the stride of {self.stride_px} px, got {self.halo_px} px."
            )

    @classmethod
    def over(cls, grid: PixelGrid, *, tile_px: int, stride_px: int, halo_px: int = 0) -> TileGrid:
        """The tiles of an analysis grid."""
        return cls(width=grid.width, height=grid.height, tile_px=tile_px, stride_px=stride_px, halo_px=halo_px)

    @property
    def tokens_wide(self) -> int:
        """Tokens per row of the whole grid."""
        return -(-self.width // self.stride_px)

    @property
    def tokens_high(self) -> int:
        """Tokens per column of the whole grid."""
        return -(-self.height // self.stride_px)

    @property
    def columns(self) -> int:
        """Tiles per row."""
        return -(-self.width // self.tile_px)

    @property
    def rows(self) -> int:
        """Tiles per column."""
        return -(-self.height // self.tile_px)

    def __len__(self) -> int:
        return self.columns * self.rows

    def __iter__(self) -> Iterator[Tile]:
        right, bottom = self.tokens_wide * self.stride_px, self.tokens_high * self.stride_px
        for y in range(0, self.height, self.tile_px):
            for x in range(0, self.width, self.tile_px):
                yield Tile(x=x, y=y, width=min(self.tile_px, right - x), height=min(self.tile_px, bottom - y))
