"""The pixels of single pages of a TIFF file, as RGB.

Only the tiles or strips that a box touches are read and decoded.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from conceptseg.imaging.levels import Rgb

_CACHE_BYTES = 64 << 20
"""Decoded segments kept for the next block, whose halo overlaps this one's."""

Page = tifffile.TiffPage | tifffile.TiffFrame
"""A page, or one of which only the place in the file is known: all else it shares with its keyframe."""


_Key = tuple[str, int, int]
"""File, first byte of a page, number of a tile or strip: an image may be spread over several files."""


class RgbBoxes(Protocol):
    """One level of one plane."""

    def rgb(self, x0: int, y0: int, x1: int, y1: int) -> Rgb:
        """Read a box in px of the level: uint8 (y1 - y0, x1 - x0, 3)."""


class SegmentCache:
    """The threads that decode, and the segments decoded last; shared by all pages of a file."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="tiff")
        self.file_lock = threading.Lock()
        self._lock = threading.Lock()
        self._segments: OrderedDict[_Key, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def get(self, key: _Key) -> NDArray[np.uint8] | None:
        """A decoded segment; None if it is no longer kept."""
        with self._lock:
            segment = self._segments.get(key)
            if segment is not None:
                self._segments.move_to_end(key)
            return segment

    def put(self, key: _Key, segment: NDArray[np.uint8]) -> None:
        """Keep a decoded segment."""
        with self._lock:
            if key not in self._segments:
                self._bytes += segment.nbytes
            self._segments[key] = segment
            # The newest stays whatever its size: a file may be one single huge strip.
            while self._bytes > _CACHE_BYTES and len(self._segments) > 1:
                self._bytes -= self._segments.popitem(last=False)[1].nbytes

    def close(self) -> None:
        """End the threads and forget the segments."""
        self.pool.shutdown()
        self._segments.clear()


class PagePixels:
    """Boxes of one page."""

    def __init__(self, page: Page, cache: SegmentCache) -> None:
        """Take a page whose file is open."""
        self.page = _keyframe(page)
        self._place = page
        self._file = page.parent.filehandle
        self._cache = cache
        self._decode = self.page.decode
        self._tables = {"jpegtables": page.jpegtables, "jpegheader": self.page.jpegheader}
        self._width = self.page.tilewidth if self.page.is_tiled else self.page.imagewidth
        self._height = (
            self.page.tilelength if self.page.is_tiled else min(self.page.rowsperstrip, self.page.imagelength)
        )
        self._across = -(-self.page.imagewidth // self._width)
        self._down = -(-self.page.imagelength // self._height)
        self._planes = self.page.samplesperpixel if self.page.planarconfig == 2 else 1
        self._samples = self.page.samplesperpixel
        self._colours = _colours(self.page)
        self._mapped = self._map()

    def _map(self) -> NDArray[np.uint8] | None:
        """The pixels as the operating system pages them in, where the file holds them as they are."""
        page, offsets, counts = self.page, self._place.dataoffsets, self._place.databytecounts
        plain = page.is_memmappable and page.is_contiguous and not page.is_tiled
        if not plain or self._planes > 1 or page.dtype != np.uint8:
            return None
        if any(at + count != after for at, count, after in zip(offsets, counts, offsets[1:], strict=False)):
            return None
        shape = (page.imagelength, page.imagewidth, self._samples)
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        count = shape[0] * shape[1] * shape[2]
        return np.frombuffer(mapped, np.uint8, count=count, offset=offsets[0]).reshape(shape)

    def rgb(self, x0: int, y0: int, x1: int, y1: int) -> Rgb:
        """Read a box; see `RgbBoxes.rgb`."""
        box = self.box(x0, y0, x1, y1)
        if self._colours is not None:
            return self._colours[box[:, :, 0]]
        return box if self._samples == 3 else _over_white(box, self.page)

    def box(self, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.uint8]:
        """Box (y1 - y0, x1 - x0, samples) in the page's own type."""
        if self._mapped is not None:
            return self._mapped[y0:y1, x0:x1]
        out = np.empty((y1 - y0, x1 - x0, self._samples), self.page.dtype)
        tiles = [
            (plane, row, column)
            for plane in range(self._planes)
            for row in range(y0 // self._height, -(-y1 // self._height))
            for column in range(x0 // self._width, -(-x1 // self._width))
        ]

        def place(some: Iterable[tuple[int, int, int]]) -> None:
            for plane, row, column in some:
                segment = self._segment((plane * self._down + row) * self._across + column)
                top, left = row * self._height, column * self._width
                ya, yb = max(y0, top), min(y1, top + self._height)
                xa, xb = max(x0, left), min(x1, left + self._width)
                planes = slice(plane, plane + 1) if self._planes > 1 else slice(None)
                part = segment[ya - top : yb - top, xa - left : xb - left]
                out[ya - y0 : yb - y0, xa - x0 : xb - x0, planes] = part

        if len(tiles) < 4:
            place(tiles)
        else:
            # Runs of tiles, not single ones: strips can be one row high.
            run = max(1, min(16, len(tiles) // 8))
            list(self._cache.pool.map(place, (tiles[i : i + run] for i in range(0, len(tiles), run))))
        return out

    def _segment(self, index: int) -> NDArray[np.uint8]:
        key = (self._file.name, self._place.dataoffsets[0], index)
        segment = self._cache.get(key)
        if segment is None:
            segment = self._decoded(index)
            self._cache.put(key, segment)
        return segment

    def _decoded(self, index: int) -> NDArray[np.uint8]:
        offset, count = self._place.dataoffsets[index], self._place.databytecounts[index]
        samples = 1 if self._planes > 1 else self._samples
        if count == 0:
            # A tile that the scanner left out because there is only glass.
            glass = 255 if self._colours is None else int(self._colours.sum(axis=1, dtype=int).argmax())
            return np.full((self._height, self._width, samples), glass, self.page.dtype)
        with self._cache.file_lock:
            self._file.seek(offset)
            data = self._file.read(count)
        segment: Any = self._decode(data, index, **self._tables)[0]
        decoded: NDArray[np.uint8] = segment[0]
        return decoded


class ThreePages:
    """Boxes of an image whose red, green and blue are in pages, or in samples, of their own."""

    def __init__(self, red: PagePixels, green: PagePixels, blue: PagePixels, *, samples: Sequence[int]) -> None:
        """Take sample ``samples[i]`` of the i-th page."""
        self._parts = tuple(zip((red, green, blue), samples, strict=True))

    def rgb(self, x0: int, y0: int, x1: int, y1: int) -> Rgb:
        """Read a box; see `RgbBoxes.rgb`."""
        return np.stack([page.box(x0, y0, x1, y1)[:, :, sample] for page, sample in self._parts], axis=2)


def _keyframe(page: Page) -> tifffile.TiffPage:
    keyframe = page.keyframe
    if keyframe is None:
        raise ValueError("a page without description")
    return keyframe


def _colours(page: tifffile.TiffPage) -> Rgb | None:
    """(n, 3) colours of a page that holds numbers of colours; None for other pages."""
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    table = np.asarray(page.colormap).T
    # TIFF has 16 bits per colour; some programs fill only the lower 8.
    eight_bit = table >> 8 if table.max() > 255 else table
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(eight_bit)] = eight_bit[:256]
    return colours


def _over_white(box: NDArray[np.uint8], page: tifffile.TiffPage) -> Rgb:
    """Drop the fourth channel; where it is an opacity, show the picture on white glass."""
    kind = page.extrasamples[0] if page.extrasamples else 0
    rgb = np.ascontiguousarray(box[:, :, :3])
    opacity = box[:, :, 3:].astype(np.float32) / 255
    if kind == tifffile.EXTRASAMPLE.UNSPECIFIED or opacity.min() == 1:
        return rgb
    colour = rgb if kind == tifffile.EXTRASAMPLE.ASSOCALPHA else rgb * opacity
    return np.minimum(colour + 255 * (1 - opacity) + 0.5, 255).astype(np.uint8)
