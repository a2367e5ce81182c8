"""Which pixels a client should send for a region."""

from __future__ import annotations

from collections.abc import Iterator

from conceptseg.domain.region import PixelGrid, Region
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.source import image_span
from conceptseg.imaging.tiles import Tile
from conceptseg.pipeline.tokens import needed_px, rows_held, tile_grid

SENT_TILE_PX = 1024
"""Side of the tiles that clients are told to send: 3 MiB of raw pixels, a good size for a message. A canvas holds
and gives back as many rows together."""


def needed_window(grid: PixelGrid, encoder: Encoder, *, tile_px: int | None) -> Tile:
    """The output px that the result depends on, those outside the image included."""
    return needed_px(tile_grid(grid, encoder, tile_px=tile_px), encoder.spec)


def rows_to_hold(grid: PixelGrid, encoder: Encoder, *, tile_px: int | None) -> int:
    """Rows of a window that a canvas holds at the same time for a method that reads once."""
    # A canvas holds whole bands of rows, which are as high as the tiles: the first and the last are in use in part.
    return rows_held(tile_grid(grid, encoder, tile_px=tile_px), encoder) + 2 * SENT_TILE_PX


def cut_to_image(window: Tile, grid: PixelGrid, *, image_width: int, image_height: int) -> Tile:
    """The part of ``window`` that lies in the image; beyond it the server mirrors, as the file reader does."""
    left, right = image_span(origin=grid.region.x, scale=grid.scale_x, full=image_width)
    top, bottom = image_span(origin=grid.region.y, scale=grid.scale_y, full=image_height)
    x, y = max(window.x, left), max(window.y, top)
    return Tile(
        x=x,
        y=y,
        width=max(grid.width, min(window.x + window.width, right)) - x,
        height=max(grid.height, min(window.y + window.height, bottom)) - y,
    )


def tiles_to_send(window: Tile) -> Iterator[Tile]:
    """Tiles that cover ``window`` exactly once, row by row."""
    right, bottom = window.x + window.width, window.y + window.height
    for y in range(window.y, bottom, SENT_TILE_PX):
        for x in range(window.x, right, SENT_TILE_PX):
            yield Tile(x=x, y=y, width=min(SENT_TILE_PX, right - x), height=min(SENT_TILE_PX, bottom - y))


def region_of(tile: Tile, grid: PixelGrid) -> Region:
    """The full-resolution px of a tile, rounded to whole px."""
    left, top = grid.region.x + tile.x * grid.scale_x, grid.region.y + tile.y * grid.scale_y
    return Region(
        x=round(left),
        y=round(top),
        width=max(1, round(tile.width * grid.scale_x)),
        height=max(1, round(tile.height * grid.scale_y)),
        z=grid.region.z,
        t=grid.region.t,
    )
