"""Whole slides through OpenSlide."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import cv2
import numpy as np
import openslide

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.calibration import pixel_side_um
from conceptseg.imaging.levels import Level, Rgb, level_downsample, read_levels
from conceptseg.imaging.planes import OnePlane

_BLOCK_PX = 512
"""Side of a block of `OpenSlideReader._lattice_block`, in level px."""

_CACHED_BLOCKS = 128
"""Blocks kept (96 MiB): two rows of blocks of a region 32,000 level px wide."""


_DICOM_START = 1 << 18
"""The series is told among the first few kB; a colour profile of some 100 kB comes later."""


class Slide(Protocol):
    """The part of `openslide.OpenSlide` that is used."""

    @property
    def properties(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]: ...  # noqa: D102

    @property
    def level_downsamples(self) -> tuple[float, ...]: ...  # noqa: D102

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Any: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102


def is_slide(path: Path) -> bool:
    """Whether OpenSlide knows the file as a scanner's format; its generic TIFF does not count."""
    try:
        return openslide.OpenSlide.detect_format(path) not in (None, "generic-tiff")
    except openslide.OpenSlideError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Whether files of a DICOM slide lie directly in a folder."""
    return any(True for _ in _dicom_files(folder))


def dicom_slide(folder: Path) -> Path:
    """One of the files of the DICOM slide in a folder: OpenSlide finds the others.

    Raises:
        ImageError: there is none, or there are several slides.
    """
    slides: list[Path] = []
    remaining = list(_dicom_files(folder))
    while remaining:
        first = remaining.pop(0)
        try:
            with openslide.OpenSlide(first) as slide:
                series = slide.properties["dicom.SeriesInstanceUID"].encode()
        except (openslide.OpenSlideError, KeyError):  # a report, or a picture beside the slide
            continue
        slides.append(first)
        remaining = [path for path in remaining if series not in _start(path)]
    if len(slides) == 1:
        return slides[0]
    if not slides:
        raise ImageError(f"{folder} is a folder: expected an image file, or the folder of a DICOM slide.")
    files = ", ".join(path.name for path in slides)
    raise ImageError(f"{folder} holds {len(slides)} DICOM slides. Give a file of the one that you mean: {files}.")


def _dicom_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        # DICOM files often have no suffix; those of one are numbers behind a dot.
        named = path.suffix.lower() in ("", ".dcm") or path.suffix[1:].isdigit()
        if named and path.is_file() and _start(path)[128:132] == b"DICM":
            yield path


def _start(path: Path) -> bytes:
    """The part of a DICOM file that tells its series."""
    with path.open("rb") as file:
        return file.read(_DICOM_START)


def open_slide(path: Path) -> OpenSlideReader:
    """Open a slide.

    Raises:
        ImageError: the slide is damaged, or files that belong to it are missing.
    """
    try:
        slide = openslide.OpenSlide(path)
    except (openslide.OpenSlideError, OSError) as error:
        raise ImageError(_damaged(path.name, error)) from error
    try:
        return OpenSlideReader(slide, name=path.name)
    except BaseException:
        slide.close()
        raise


class OpenSlideReader(OnePlane):
    """A slide as QuPath shows it: cropped to the scanned bounds, unscanned areas in the background colour.

    Attributes:
        name: File name.
        width: Full-resolution px per row, inside the bounds.
        height: Full-resolution px per column, inside the bounds.
        pixel_size_um: µm per full-resolution px, mean of x and y; None when the slide does not say.
    """

    def __init__(self, slide: Slide, *, name: str) -> None:
        """Take over ``slide``, which `close` closes."""
        self.name = name
        self._slide = slide
        self._blocks: OrderedDict[tuple[int, int, int], Rgb] = OrderedDict()
        self._lock = threading.Lock()
        properties = slide.properties
        # Kept, because after a failed read OpenSlide answers every question with that failure.
        self._dimensions = slide.level_dimensions
        self._downsamples = slide.level_downsamples
        full_width, full_height = self._dimensions[0]
        left, top, self.width, self.height = _bounds(properties, full_width, full_height)
        self.pixel_size_um = _pixel_size_um(properties, name)
        self._background = _background(properties)
        self._levels = []
        for width, height in self._dimensions:
            downsample_x = level_downsample(full=full_width, level=width)
            downsample_y = level_downsample(full=full_height, level=height)
            x, y = left / downsample_x, top / downsample_y
            self._levels.append(
                Level(
                    downsample_x=downsample_x,
                    downsample_y=downsample_y,
                    # A bounding box may reach over the level's edge by the pixel that the scanner cut off.
                    left=min(x, width - 1),
                    top=min(y, height - 1),
                    right=min(x + self.width / downsample_x, width),
                    bottom=min(y + self.height / downsample_y, height),
                    offset_x=x,
                    offset_y=y,
                )
            )

    @property
    def coarsest(self) -> float:
        """Full-resolution px per px of the smallest level."""
        return max(level.downsample_x for level in self._levels)

    def read(self, *, x: float, y: float, width: int, height: int, scale_x: float, scale_y: float) -> Rgb:
        """Read uint8 (height, width, 3); see `conceptseg.imaging.reader.ImageReader.read`."""
        return read_levels(
            self._levels, self._box, x=x, y=y, width=width, height=height, scale_x=scale_x, scale_y=scale_y
        )

    def _box(self, level: int, x0: int, y0: int, x1: int, y1: int) -> Rgb:
        downsample = self._downsamples[level]
        if downsample == math.floor(downsample):
            return self._region(level, x0 * int(downsample), y0 * int(downsample), x1 - x0, y1 - y0)
        # OpenSlide takes positions as whole full-resolution px and shifts by the fraction of a level px that
        # remains, interpolating: the result depends on where a read starts, so reads start at fixed places.
        out = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        for top in range(y0 // _BLOCK_PX * _BLOCK_PX, y1, _BLOCK_PX):
            for left in range(x0 // _BLOCK_PX * _BLOCK_PX, x1, _BLOCK_PX):
                block = self._lattice_block(level, left, top)
                ya, yb = max(y0, top), min(y1, top + _BLOCK_PX)
                xa, xb = max(x0, left), min(x1, left + _BLOCK_PX)
                out[ya - y0 : yb - y0, xa - x0 : xb - x0] = block[ya - top : yb - top, xa - left : xb - left]
        return out

    def _lattice_block(self, level: int, left: int, top: int) -> Rgb:
        key = (level, left, top)
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        downsample = self._downsamples[level]
        level_width, level_height = self._dimensions[level]
        block = self._region(
            level,
            round(left * downsample),
            round(top * downsample),
            min(_BLOCK_PX, level_width - left),
            min(_BLOCK_PX, level_height - top),
        )
        with self._lock:
            self._blocks[key] = block
            while len(self._blocks) > _CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        return block

    def _region(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        try:
            rgba = np.asarray(self._slide.read_region((x, y), level, (width, height)))
        except (openslide.OpenSlideError, OSError) as error:
            raise ImageError(_damaged(self.name, error)) from error
        rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
        alpha = rgba[:, :, 3]
        if alpha.min() < 255:
            weight = alpha[:, :, None].astype(np.float32) / 255
            rgb[...] = rgb * weight + self._background * (1 - weight) + 0.5
        return rgb

    def close(self) -> None:
        """Release the slide's files."""
        self._blocks.clear()
        self._slide.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _bounds(properties: Mapping[str, str], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width, height of the scanned area; the whole slide unless all four make sense."""
    try:
        left, top, inner_width, inner_height = (
            int(properties[f"openslide.bounds-{side}"]) for side in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return 0, 0, width, height
    inside = left >= 0 and top >= 0 and left + inner_width <= width and top + inner_height <= height
    if not inside or inner_width < 1 or inner_height < 1:
        return 0, 0, width, height
    return left, top, inner_width, inner_height


def _pixel_size_um(properties: Mapping[str, str], name: str) -> float | None:
    try:
        sizes = [float(properties[f"openslide.mpp-{axis}"]) for axis in ("x", "y")]
    except (KeyError, ValueError):
        return None
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    return pixel_side_um(*sizes, name=name)


def _background(properties: Mapping[str, str]) -> Rgb:
    """Colour of areas that were not scanned: the slide's own, else white as in QuPath."""
    try:
        colour = bytes.fromhex(properties["openslide.background-color"].lstrip("#"))
    except (KeyError, ValueError):
        colour = b""
    return np.frombuffer(colour if len(colour) == 3 else b"\xff\xff\xff", np.uint8)


def _damaged(name: str, error: Exception) -> str:
    return (
        f"The slide {name} is damaged or incomplete (OpenSlide: {error}). "
        "Copy it again together with all the files that belong to it."
    )
