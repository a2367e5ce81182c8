"""Regions in full-resolution pixels and the pixel grid they are analysed on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from conceptseg.domain.errors import InvalidRequestError, RegionError

_FARTHEST_PX = 1 << 30
"""Beyond any slide; what lies around such a region can still be told in 32 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A rectangle in full-resolution pixels of an image, top-left origin, as in a QuPath region request.

    Attributes:
        x: Left edge in full-resolution px.
        y: Top edge in full-resolution px.
        width: Width in full-resolution px, at least 1.
        height: Height in full-resolution px, at least 1.
        z: Index of the z-slice.
        t: Index of the time point.
    """

    x: int
    y: int
    width: int
    height: int
    z: int = 0
    t: int = 0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise RegionError(f"The region is empty: expected width and height >= 1 px, got {self}.")
        if min(self.x, self.y) < -_FARTHEST_PX or max(self.x + self.width, self.y + self.height) > _FARTHEST_PX:
            raise RegionError(
                f"The region {self} (x,y,width,height) goes beyond {_FARTHEST_PX:,} px: no image is there."
            )

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    def around(self, bounds: tuple[float, float, float, float]) -> Region | None:
        """The smallest part of this region that holds what lies in it of a shape; None if nothing does.

        Args:
            bounds: Left, top, right and bottom of the shape in full-resolution px.
        """
        left, top, right, bottom = bounds
        x, y = max(self.x, math.floor(left)), max(self.y, math.floor(top))
        width = min(self.x + self.width, math.ceil(right)) - x
        height = min(self.y + self.height, math.ceil(bottom)) - y
        return Region(x=x, y=y, width=width, height=height, z=self.z, t=self.t) if min(width, height) > 0 else None

    def require_inside(self, width: int, height: int, *, of: str) -> None:
        """Raise RegionError unless the region lies inside an image of ``width`` × ``height`` px named ``of``."""
        if self.x < 0 or self.y < 0 or self.x + self.width > width or self.y + self.height > height:
            raise RegionError(
                f"The region {self} (x,y,width,height in full-resolution px) is not inside {of}, "
                f"which is {width} × {height} px. Choose a region with 0 <= x, x + width <= {width}, "
                f"0 <= y, y + height <= {height}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelGrid:
    """The output pixels on which a region is analysed.

    A region of ``region.width`` full-resolution px at a downsample d becomes ``max(1, round(width / d))``
    output px, as in QuPath; the downsample that results differs a little between the axes, so geometry
    uses `scale_x` and `scale_y` and never the nominal downsample.

    Attributes:
        region: The region in full-resolution px.
        width: Output px per row.
        height: Output px per column.
        pixel_size_um: µm per output px (mean of both axes).
    """

    region: Region
    width: int
    height: int
    pixel_size_um: float

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidRequestError(f"Expected a grid of at least 1 × 1 px, got {self.width} × {self.height}.")
        if not (math.isfinite(self.pixel_size_um) and self.pixel_size_um > 0):
            raise InvalidRequestError(f"Expected a pixel size > 0 µm, got {self.pixel_size_um}.")

    @classmethod
    def at_downsample(cls, region: Region, *, downsample: float, full_pixel_size_um: float) -> PixelGrid:
        """The grid of ``region`` at ``downsample`` full-resolution px per output px (>= 1, may be fractional)."""
        if not (math.isfinite(downsample) and downsample >= 1):
            raise InvalidRequestError(f"Expected a downsample >= 1, got {downsample}.")
        width = max(1, math.floor(region.width / downsample + 0.5))
        height = max(1, math.floor(region.height / downsample + 0.5))
        mean_scale = 0.5 * (region.width / width + region.height / height)
        return cls(region=region, width=width, height=height, pixel_size_um=full_pixel_size_um * mean_scale)

    @property
    def scale_x(self) -> float:
        """Full-resolution px per output px along x."""
        return self.region.width / self.width

    @property
    def scale_y(self) -> float:
        """Full-resolution px per output px along y."""
        return self.region.height / self.height

    @property
    def full_pixel_size_um(self) -> float:
        """µm per full-resolution px."""
        return self.pixel_size_um / (0.5 * (self.scale_x + self.scale_y))

    @property
    def full_pixel_area_um2(self) -> float:
        """µm² per full-resolution px."""
        return self.full_pixel_size_um**2

    @property
    def pixel_area_um2(self) -> float:
        """µm² per output px."""
        return self.full_pixel_area_um2 * self.scale_x * self.scale_y
