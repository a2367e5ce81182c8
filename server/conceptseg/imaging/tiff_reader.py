"""Plain, tiled, pyramidal and OME TIFF.

Only the tiles or strips that a box touches are read and decoded.
"""

from __future__ import annotations

import mmap
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.calibration import pixel_side_um
from conceptseg.imaging.levels import Level, Rgb, level_downsample, read_levels

_CACHE_BYTES = 64 << 20
"""Decoded segments kept for the next block, whose halo overlaps this one's."""

_MOST_PAGES = 64
"""Pages searched for levels; a pyramid has at most a dozen, a long stack has none."""

_COARSEST_UM = 10.0
"""Resolution tags that give larger pixels are a printer's, not a microscope's: 72 dpi is 353 µm."""

_STORED_AS_IT_IS = frozenset(
    tifffile.COMPRESSION[name] for name in ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA", "ZSTD")
)
"""Codecs of pictures, such as JPEG, decode YCbCr to RGB; these do not."""

_UM_PER_UNIT = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "in": 25400.0,
} | dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m", "micrometer"), 1.0)


def open_tiff(path: Path) -> TiffReader:
    """Open a TIFF file.

    Raises:
        ImageError: damaged, truncated, or not 8-bit RGB.
    """
    try:
        file = tifffile.TiffFile(path)
    except Exception as error:
        raise ImageError(_damaged(path.name, error)) from error
    try:
        return TiffReader(file, name=path.name)
    except ImageError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise ImageError(_damaged(path.name, error)) from error


class TiffReader:
    """The first plane of the first image of a TIFF file.

    Attributes:
        name: File name.
        width: Full-resolution px per row.
        height: Full-resolution px per column.
        pixel_size_um: µm per full-resolution px, mean of x and y; None when the file does not say.
    """

    def __init__(self, file: tifffile.TiffFile, *, name: str) -> None:
        """Take over ``file``, which `close` closes.

        Raises:
            ImageError: truncated, or not 8-bit RGB.
        """
        self.name = name
        self._file = file
        self._cache = _SegmentCache()
        base = _full_page(file.series[0].pages[0])
        self.width, self.height = base.imagewidth, base.imagelength
        pages = [base, *_reduced_pages(file, base)]
        size = file.filehandle.size
        self._pages = []
        for page in pages:
            _require_complete(page, size, name)
            self._pages.append(_PagePixels(page, self._cache))
        _require_8_bit_rgb(self._pages[0], name)
        self.pixel_size_um = _pixel_size_um(file, base, name)
        self._levels = [
            Level(
                downsample_x=level_downsample(full=self.width, level=page.imagewidth),
                downsample_y=level_downsample(full=self.height, level=page.imagelength),
                right=page.imagewidth,
                bottom=page.imagelength,
            )
            for page in pages
        ]

    def read(self, *, x: float, y: float, width: int, height: int, scale_x: float, scale_y: float) -> Rgb:
        """Read uint8 (height, width, 3); see `conceptseg.imaging.reader.ImageReader.read`."""
        return read_levels(
            self._levels, self._box, x=x, y=y, width=width, height=height, scale_x=scale_x, scale_y=scale_y
        )

    def _box(self, level: int, x0: int, y0: int, x1: int, y1: int) -> Rgb:
        try:
            return self._pages[level].rgb(x0, y0, x1, y1)
        except Exception as error:
            raise ImageError(_damaged(self.name, error)) from error

    def close(self) -> None:
        """Release the file."""
        self._cache.close()
        self._pages.clear()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _SegmentCache:
    """The threads that decode, and the segments decoded last; shared by the levels of a file."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="tiff")
        self.file_lock = threading.Lock()
        self._lock = threading.Lock()
        self._segments: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[int, int]) -> NDArray[np.uint8] | None:
        with self._lock:
            segment = self._segments.get(key)
            if segment is not None:
                self._segments.move_to_end(key)
            return segment

    def put(self, key: tuple[int, int], segment: NDArray[np.uint8]) -> None:
        with self._lock:
            if key not in self._segments:
                self._bytes += segment.nbytes
            self._segments[key] = segment
            # The newest stays whatever its size: a file may be one single huge strip.
            while self._bytes > _CACHE_BYTES and len(self._segments) > 1:
                self._bytes -= self._segments.popitem(last=False)[1].nbytes

    def close(self) -> None:
        self.pool.shutdown()
        self._segments.clear()


class _PagePixels:
    """Boxes of one page."""

    def __init__(self, page: tifffile.TiffPage, cache: _SegmentCache) -> None:
        self.page = page
        self._cache = cache
        self._decode = page.decode
        self._tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        self._width = page.tilewidth if page.is_tiled else page.imagewidth
        self._height = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
        self._across = -(-page.imagewidth // self._width)
        self._down = -(-page.imagelength // self._height)
        self._planes = page.samplesperpixel if page.planarconfig == 2 else 1
        self._samples = page.samplesperpixel
        self._mapped = self._map()

    def _map(self) -> NDArray[np.uint8] | None:
        """The pixels as the operating system pages them in, where the file holds them as they are."""
        page = self.page
        plain = page.is_memmappable and page.is_contiguous and not page.is_tiled
        if not plain or self._planes > 1 or page.dtype != np.uint8:
            return None
        shape = (page.imagelength, page.imagewidth, self._samples)
        file = page.parent.filehandle
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        count = shape[0] * shape[1] * shape[2]
        return np.frombuffer(mapped, np.uint8, count=count, offset=page.dataoffsets[0]).reshape(shape)

    def rgb(self, x0: int, y0: int, x1: int, y1: int) -> Rgb:
        box = self.box(x0, y0, x1, y1)
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
        key = (self.page.offset, index)
        segment = self._cache.get(key)
        if segment is None:
            segment = self._decoded(index)
            self._cache.put(key, segment)
        return segment

    def _decoded(self, index: int) -> NDArray[np.uint8]:
        offset, count = self.page.dataoffsets[index], self.page.databytecounts[index]
        samples = 1 if self._planes > 1 else self._samples
        if count == 0:
            # A tile that the scanner left out because there is only glass.
            return np.full((self._height, self._width, samples), 255, self.page.dtype)
        with self._cache.file_lock:
            self.page.parent.filehandle.seek(offset)
            data = self.page.parent.filehandle.read(count)
        segment: Any = self._decode(data, index, **self._tables)[0]
        decoded: NDArray[np.uint8] = segment[0]
        return decoded


def _full_page(page: Any) -> tifffile.TiffPage:
    """Series may hold light-weight frames; their pages know everything."""
    return page.aspage() if isinstance(page, tifffile.TiffFrame) else page


def _reduced_pages(file: tifffile.TiffFile, base: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """Smaller copies of the same picture, largest first, wherever the file keeps them."""
    series = file.series[0]
    # In a file of no known software tifffile takes any later page of half the size for a level, unflagged.
    known = series.kind not in ("generic", "uniform")
    candidates = [_full_page(level.pages[0]) for level in series.levels[1:]] if known else []
    candidates += [_full_page(page) for page in list(base.pages or [])[:_MOST_PAGES]]
    main = (_full_page(file.pages[i]) for i in range(1, min(len(file.pages), _MOST_PAGES)))
    candidates += [page for page in main if page.is_reduced]
    levels: dict[tuple[int, int], tifffile.TiffPage] = {}
    for page in candidates:
        width, height = page.imagewidth, page.imagelength
        ratio = 0.5 * (base.imagewidth / width + base.imagelength / height)
        same_shape = abs(base.imagewidth / ratio - width) <= 1.5 and abs(base.imagelength / ratio - height) <= 1.5
        same_kind = page.dtype == base.dtype and page.samplesperpixel == base.samplesperpixel
        if same_shape and same_kind and width < base.imagewidth and height < base.imagelength:
            levels.setdefault((width, height), page)
    return [levels[size] for size in sorted(levels, reverse=True)]


def _require_complete(page: tifffile.TiffPage, size: int, name: str) -> None:
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    end = max(ends, default=0)
    if not page.dataoffsets or end > size:
        raise ImageError(
            f"{name} is truncated: its pixels end at byte {end:,}, the file at byte {size:,}. Copy the file again."
        )


def _require_8_bit_rgb(pixels: _PagePixels, name: str) -> None:
    page = pixels.page
    if page.dtype != np.uint8:
        raise ImageError(
            f"{name} has {page.dtype} pixels{_range(pixels)}: expected 8-bit RGB. Convert it to 8 bit, for "
            "example with QuPath: File > Export images > OME TIFF."
        )
    photometric = tifffile.PHOTOMETRIC(page.photometric)
    colours = photometric == tifffile.PHOTOMETRIC.RGB or (
        photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in _STORED_AS_IT_IS
    )
    if colours and page.samplesperpixel in (3, 4):
        return
    channels = page.samplesperpixel * (len(pixels.page.parent.series[0].pages) if page.samplesperpixel == 1 else 1)
    if photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE):
        got = f"{photometric.name} colours with {page.samplesperpixel} channels"
    elif channels > 1:
        got = f"{channels} separate channels or planes, as of fluorescence"
    else:
        got = "one grayscale channel"
    raise ImageError(
        f"{name} has {got}: expected the RGB colours of an H&E stain. Export it as RGB "
        "(bfconvert and raw2ometiff: --rgb)."
    )


def _range(pixels: _PagePixels) -> str:
    page = pixels.page
    try:
        x, y = page.imagewidth // 2, page.imagelength // 2
        box = pixels.box(max(0, x - 512), max(0, y - 512), x + 1, y + 1)
    except Exception:  # noqa: BLE001 - the range only decorates a message that is raised anyway
        return ""
    return f" (values {box.min()} to {box.max()} in the middle)"


def _over_white(box: NDArray[np.uint8], page: tifffile.TiffPage) -> Rgb:
    """Drop the fourth channel; where it is an opacity, show the picture on white glass."""
    kind = page.extrasamples[0] if page.extrasamples else 0
    rgb = np.ascontiguousarray(box[:, :, :3])
    opacity = box[:, :, 3:].astype(np.float32) / 255
    if kind == tifffile.EXTRASAMPLE.UNSPECIFIED or opacity.min() == 1:
        return rgb
    colour = rgb if kind == tifffile.EXTRASAMPLE.ASSOCALPHA else rgb * opacity
    return np.minimum(colour + 255 * (1 - opacity) + 0.5, 255).astype(np.uint8)


def _pixel_size_um(file: tifffile.TiffFile, page: tifffile.TiffPage, name: str) -> float | None:
    """µm per px from the OME description, else ImageJ's, else the resolution tags where they can be true."""
    if file.is_ome and (size := _ome_pixel_size_um(file.ome_metadata or "", name)) is not None:
        return size
    per_unit = [page.tags.valueof(tag) for tag in ("XResolution", "YResolution")]
    if not all(isinstance(value, tuple) and value[0] > 0 and value[1] > 0 for value in per_unit):
        return None
    unit = str((file.imagej_metadata or {}).get("unit", "")) if file.is_imagej else ""
    um_per_unit = _UM_PER_UNIT.get(unit) or {2: 25400.0, 3: 10000.0}.get(int(page.tags.valueof(296) or 2))
    if um_per_unit is None:
        return None
    x_um, y_um = (um_per_unit * value[1] / value[0] for value in per_unit)
    return pixel_side_um(x_um, y_um, name=name) if (x_um + y_um) / 2 < _COARSEST_UM else None


def _ome_pixel_size_um(description: str, name: str) -> float | None:
    # The first <Pixels> alone is wanted; a pattern does that without an XML parser's ways to be attacked.
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description)
    if pixels is None:
        return None
    attributes = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', pixels[0]))
    sizes = []
    for axis in ("X", "Y"):
        unit = _UM_PER_UNIT.get(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
        try:
            sizes.append(float(attributes[f"PhysicalSize{axis}"]) * (unit or 0))
        except (KeyError, ValueError):
            return None
    return pixel_side_um(*sizes, name=name) if min(sizes) > 0 else None


def _damaged(name: str, error: Exception) -> str:
    return (
        f"{name} is damaged, truncated or compressed in an unknown way ({error}). "
        "Copy the file again, or export it as OME-TIFF from QuPath."
    )
