"""The pixels of a region that a client sends, as a source for the pipeline."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

from conceptseg.domain.errors import ImageError, InvalidRequestError
from conceptseg.domain.region import PixelGrid
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.glass import Overview
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.source import mirrored, take_pixels
from conceptseg.imaging.tiles import Tile
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.rpc.errors import LimitError
from conceptseg.rpc.limits import LARGEST_MARGIN_PX, LARGEST_TILE_PX, Limits
from conceptseg.rpc.plan import SENT_TILE_PX, rows_to_hold
from conceptseg.rpc.requests import SentRegion, require_plausible
from conceptseg.v1 import segment_pb2 as pb

_PICTURE_FORMATS = {pb.PIXEL_ENCODING_JPEG: "JPEG", pb.PIXEL_ENCODING_PNG: "PNG"}
_PICTURE_MODES = ("RGB", "RGBA", "L", "P")

_MIRRORED_PX = LARGEST_TILE_PX + LARGEST_MARGIN_PX
"""No encoder's window, surroundings included, reaches further beyond a region."""

NextTile = Callable[[], pb.PixelTile | None]
"""Waits for the next tile of the region; None when there are no more."""


class Canvas:
    """A `PixelSource` that fills as tiles arrive.

    A read takes tiles from the client until it has what it needs. So work begins with the first tiles, and flow
    control stops a client that is faster than the work. Decoded pixels are kept once, in bands of rows. A band is
    given back when the pipeline has gone past it, so a whole slide does not have to fit into memory.
    """

    def __init__(
        self,
        *,
        name: str,
        grid: PixelGrid,
        window: Tile,
        next_tile: NextTile,
        most_tiles: int,
        most_px: int,
        overview: Overview | None = None,
    ) -> None:
        """Expect the tiles of ``window``, which contains the whole grid.

        Args:
            name: What messages call the image.
            grid: The output px of the region.
            window: The output px that come.
            next_tile: Waits for the next tile. It is called by one thread at a time, and not again after the end.
            most_tiles: Tiles that may come.
            most_px: Output px that may be held in memory at the same time, 3 bytes each.
            overview: The whole image as a small picture, where the client sent it.
        """
        self.name, self.grid, self._overview = name, grid, overview
        self._window, self._next_tile = window, next_tile
        self._most_tiles, self._most_px = most_tiles, most_px
        # Several readers may miss a tile at once. One of them takes tiles, the others wait and look again.
        self._taking = threading.Lock()
        self._failure: Exception | None = None
        self._bands: dict[int, Rgb] = {}  # by number from the top of the window; only those in use
        self._first_band = 0
        self._boxes = np.empty((64, 4), np.int64)  # left, top, right, bottom of the tiles so far
        self._count = 0
        self._missing = window.width * window.height

    @property
    def held_px(self) -> int:
        """Output px for which there is memory."""
        return sum(len(band) for band in self._bands.values()) * self._window.width

    def read(self, *, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a block of output pixels; beyond the window its mirror image. See `RegionSource.read`."""
        window = self._window
        columns = mirrored(x, width, low=window.x, high=window.x + window.width)
        rows = mirrored(y, height, low=window.y, high=window.y + window.height)
        left, top = int(columns.min()), int(rows.min())
        right, bottom = int(columns.max()) + 1, int(rows.max()) + 1
        with self._taking:
            while self._missing and self._covered(left, top, right, bottom) < (right - left) * (bottom - top):
                self._take_one_or_fail()
            bands = {number: self._bands[number] for number in self._numbers(top, bottom)}
        block = np.empty((bottom - top, right - left, 3), np.uint8)
        for number, band in bands.items():
            first = window.y + number * SENT_TILE_PX
            low, high = max(top, first), min(bottom, first + len(band))
            block[low - top : high - top] = band[low - first : high - first, left - window.x : right - window.x]
        if left == x and top == y and block.shape[:2] == (height, width):
            return block
        return take_pixels(block, rows=rows - top, columns=columns - left)

    def overview(self) -> Overview | None:
        """The whole image as the client sent it; see `PixelSource.overview`."""
        return self._overview

    def forget(self, *, before_row: int) -> None:
        """Give back the bands above ``before_row``, which nobody reads any more; see `PixelSource.forget`."""
        window = self._window
        # Reads beyond the lower edge see the mirror image of what lies above it.
        row = min(before_row, window.y + window.height - _MIRRORED_PX)
        with self._taking:
            self._first_band = max(self._first_band, (row - window.y) // SENT_TILE_PX)
            for number in [number for number in self._bands if number < self._first_band]:
                del self._bands[number]

    def complete(self, *, until_end: bool) -> None:
        """Take the rest of the tiles and check that they covered the window exactly once.

        Args:
            until_end: Also wait for the end of the stream, so that a surplus tile is noticed.

        Raises:
            InvalidRequestError: tiles are missing, or overlap.
        """
        with self._taking:
            while self._missing:
                self._take_one_or_fail()
        self._require_no_overlap()
        if until_end and self._next_tile() is not None:
            raise InvalidRequestError("More tiles came after the window was complete. Send every pixel once.")

    def _take_one_or_fail(self) -> None:
        """Take a tile. A failure stays, so that no other reader waits for tiles that never come."""
        if self._failure is None:
            try:
                return self._take_one()
            except Exception as error:
                # A copy, since the error that is raised leads to the frames that hold the pixels.
                self._failure = copy.copy(error)
                raise
        raise copy.copy(self._failure)

    def _take_one(self) -> None:
        tile = self._next_tile()
        if tile is None:
            self._require_no_overlap()
            raise InvalidRequestError(
                f"The stream ended before the window was complete: {self._missing} of "
                f"{self._window.width * self._window.height} px are missing. Send tiles that cover all of it."
            )
        rect = tile.rect
        x, y = rect.x - self._window.x, rect.y - self._window.y
        if rect.width < 1 or rect.height < 1:
            raise InvalidRequestError(f"The tile {_text(tile)} is empty: expected width and height >= 1 px.")
        if x < 0 or y < 0 or x + rect.width > self._window.width or y + rect.height > self._window.height:
            raise InvalidRequestError(
                f"The tile {_text(tile)} is not inside the window {self._window.x},{self._window.y},"
                f"{self._window.width},{self._window.height} (x,y,width,height in output px)."
            )
        if self._count == self._most_tiles:
            raise LimitError(f"The region comes in more than {self._most_tiles} tiles. Send larger tiles.")
        if rect.width * rect.height > self._missing:
            self._require_no_overlap(also=tile)
        pixels = decode(tile)
        for number in self._numbers(rect.y, rect.y + rect.height):
            if number < self._first_band:
                continue  # the pipeline is past these rows
            band, first = self._band(number), number * SENT_TILE_PX
            low, high = max(y, first), min(y + rect.height, first + len(band))
            band[low - first : high - first, x : x + rect.width] = pixels[low - y : high - y]
        if self._count == len(self._boxes):
            self._boxes = np.concatenate([self._boxes, np.empty_like(self._boxes)])
        self._boxes[self._count] = rect.x, rect.y, rect.x + rect.width, rect.y + rect.height
        self._count += 1
        self._missing -= rect.width * rect.height

    def _numbers(self, top: int, bottom: int) -> range:
        """The bands that hold the output rows from ``top`` to before ``bottom``."""
        return range((top - self._window.y) // SENT_TILE_PX, (bottom - self._window.y - 1) // SENT_TILE_PX + 1)

    def _band(self, number: int) -> Rgb:
        """A band of rows, (rows, window width, 3), made when its first tile comes."""
        if number not in self._bands:
            rows = min(SENT_TILE_PX, self._window.height - number * SENT_TILE_PX)
            if self.held_px + rows * self._window.width > self._most_px:
                raise LimitError(
                    f"The tiles that came ahead of the work fill the {self._most_px / 1e6:.0f} million px that this "
                    "server holds of one region. Send the tiles row by row from the top, or start the server with a "
                    "larger --max-sent-megapixels."
                )
            self._bands[number] = np.empty((rows, self._window.width, 3), np.uint8)
        return self._bands[number]

    def _covered(self, left: int, top: int, right: int, bottom: int) -> int:
        """Output px of a box that have arrived, tiles that overlap counted twice."""
        boxes = self._boxes[: self._count]
        width = np.minimum(boxes[:, 2], right) - np.maximum(boxes[:, 0], left)
        height = np.minimum(boxes[:, 3], bottom) - np.maximum(boxes[:, 1], top)
        return int((np.maximum(width, 0) * np.maximum(height, 0)).sum())

    def _require_no_overlap(self, *, also: pb.PixelTile | None = None) -> None:
        boxes = self._boxes[: self._count]
        if also is not None:
            r = also.rect
            boxes = np.vstack([boxes, [r.x, r.y, r.x + r.width, r.y + r.height]])
        # Tiles that only touch share an edge; half a px less on every side tells them from those that overlap.
        shrunk = shapely.box(*(boxes + np.array([0.25, 0.25, -0.25, -0.25])).T)
        first, second = shapely.STRtree(shrunk).query(shrunk, predicate="intersects")
        twice = first[first != second]
        if twice.size:
            x, y, right, bottom = boxes[twice.max()]
            raise InvalidRequestError(
                f"The tile {x},{y},{right - x},{bottom - y} (x,y,width,height in output px) overlaps another one. "
                "Send every pixel once."
            )


def make_canvas(
    region: SentRegion, *, encoder: Encoder, settings: SegmentSettings, limits: Limits, next_tile: NextTile
) -> Canvas:
    """A canvas for the pixels that a client has announced.

    Raises:
        InvalidRequestError: the pixels are nothing that the encoder could make sense of.
        LimitError: too many pixels.
    """
    require_plausible(region.grid, encoder.spec)
    rows = None if settings.reads_twice else rows_to_hold(region.grid, encoder, tile_px=settings.tile_px)
    limits.require_sent_px(region.window, rows_held=rows)
    return Canvas(
        name=region.image_name,
        grid=region.grid,
        window=region.window,
        next_tile=next_tile,
        most_tiles=limits.tiles,
        most_px=limits.sent_region_px,
        overview=region.overview,
    )


def decode(tile: pb.PixelTile) -> NDArray[np.uint8]:
    """The pixels of a tile, uint8 (height, width, 3).

    Raises:
        InvalidRequestError: no encoding, or a wrong number of pixels.
        ImageError: a damaged picture.
    """
    width, height = tile.rect.width, tile.rect.height
    if tile.encoding == pb.PIXEL_ENCODING_RAW_RGB:
        if len(tile.data) != 3 * width * height:
            raise InvalidRequestError(
                f"The tile {_text(tile)} has {len(tile.data)} bytes: expected 3 × {width} × {height} = "
                f"{3 * width * height} bytes of raw RGB."
            )
        return np.frombuffer(tile.data, np.uint8).reshape(height, width, 3)
    kind = _PICTURE_FORMATS.get(tile.encoding)
    if kind is None:
        raise InvalidRequestError(f"The tile {_text(tile)} has no known encoding: expected RAW_RGB, JPEG or PNG.")
    try:
        with Image.open(io.BytesIO(tile.data), formats=[kind]) as picture:
            # The size is known before anything is unpacked, so a small file cannot become a huge picture.
            size, mode = picture.size, picture.mode
            if size == (width, height) and mode in _PICTURE_MODES:
                return np.asarray(picture.convert("RGB"))
    except Exception as error:  # decoders raise a dozen types on damaged data
        raise ImageError(f"The tile {_text(tile)} is not a readable {kind} picture ({str(error)[:200]}).") from error
    if size != (width, height):
        raise InvalidRequestError(f"The tile {_text(tile)} holds a {kind} picture of {size[0]} × {size[1]} px.")
    raise ImageError(f"The tile {_text(tile)} is a {kind} picture of mode {mode}: expected 8-bit RGB.")


def _text(tile: pb.PixelTile) -> str:
    return f"{tile.rect.x},{tile.rect.y},{tile.rect.width},{tile.rect.height}"
