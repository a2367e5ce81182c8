"""Plain, tiled, pyramidal and OME TIFF.

Only the tiles or strips that a box touches are read and decoded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import tifffile

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.calibration import UM_PER_UNIT, pixel_side_um
from conceptseg.imaging.levels import Level, Rgb, level_downsample, read_levels
from conceptseg.imaging.planes import require_plane, shown_first
from conceptseg.imaging.tiff_pages import Page, PagePixels, RgbBoxes, SegmentCache, ThreePages
from conceptseg.imaging.tiff_series import TiffImage, choose, first_slide, images_of, listed, proposed

_COARSEST_UM = 10.0
"""Resolution tags that give larger pixels are a printer's, not a microscope's: 72 dpi is 353 µm."""

_STORED_AS_IT_IS = frozenset(
    tifffile.COMPRESSION[name] for name in ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA", "ZSTD")
)
"""Codecs of pictures, such as JPEG, decode YCbCr to RGB; these do not."""

_GREY = tifffile.PHOTOMETRIC.MINISBLACK

_log = logging.getLogger(__name__)
# tifffile logs what it makes of a broken file; what matters of it is in the errors raised here.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def open_tiff(path: Path, *, series: int | None = None) -> TiffReader:
    """Open a TIFF file.

    Args:
        path: The file.
        series: Number of the image inside the file; None for the one that QuPath proposes.

    Raises:
        ImageError: damaged, truncated, not 8-bit RGB, or without such an image.
    """
    try:
        file = tifffile.TiffFile(path)
    except Exception as error:
        raise ImageError(_damaged(path.name, error)) from error
    try:
        return TiffReader(file, name=path.name, series=series)
    except ImageError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise ImageError(_damaged(path.name, error)) from error


@dataclass(frozen=True, slots=True)
class _Plane:
    """The levels of one plane and where their pixels are."""

    levels: tuple[Level, ...]
    pixels: tuple[RgbBoxes, ...]


class TiffReader:
    """One plane of one image of a TIFF file.

    Attributes:
        name: File name.
        width: Full-resolution px per row.
        height: Full-resolution px per column.
        pixel_size_um: µm per full-resolution px, mean of x and y; None when the file does not say.
        z: The z-slice that is read, from 0.
        t: The time point that is read, from 0.
        z_slices: Number of z-slices.
        time_points: Number of time points.
    """

    def __init__(self, file: tifffile.TiffFile, *, name: str, series: int | None = None) -> None:
        """Take over ``file``, which `close` closes.

        Raises:
            ImageError: truncated, not 8-bit RGB, or without such an image.
        """
        self.name = name
        self._file = file
        self._others: list[tifffile.FileHandle] = []
        self._cache = SegmentCache()
        images = images_of(file, name=name)
        image = proposed(images) if series is None else choose(images, series, name=name)
        if series is None and len(images) > 1 and (image.ome or image is not images[0]):
            _log.warning(
                "%s holds %d images: %s. Image %s is taken, %s; --series takes another.",
                name,
                len(images),
                listed(images),
                image.number,
                "as QuPath proposes" if image is first_slide(images) else "by far the largest",
            )
        self._image, self._alone = image, len(images) == 1 or image.ome is None
        self.width, self.height = image.page.imagewidth, image.page.imagelength
        self.z_slices, self.time_points = image.z_slices, image.time_points
        self.z, self.t = shown_first(self.z_slices), shown_first(self.time_points)
        self._plane = self._open_plane(self.z, self.t)
        self.pixel_size_um = _pixel_size_um(file, image, name)

    def at(self, *, z: int, t: int) -> Self:
        """The same image at another plane; see `conceptseg.imaging.reader.ImageReader.at`."""
        require_plane(self, z=z, t=t)
        if (z, t) == (self.z, self.t):
            return self
        other = copy(self)
        other.z, other.t = z, t
        try:
            other._plane = self._open_plane(z, t)
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(_damaged(self.name, error)) from error
        return other

    def _open_plane(self, z: int, t: int) -> _Plane:
        """Find the pages of a plane and check that the file has all of their pixels."""
        candidates = list(self._image.reduced(z=z, t=t, alone=self._alone))
        found = [self._image.pages(z=z, t=t), *_smaller(candidates, self._image.page)]
        pixels: list[RgbBoxes] = []
        levels: list[Level] = []
        for pages in found:
            for page in pages:
                self._open_file(page)
                _require_complete(page, self.name)
            boxes = [PagePixels(page, self._cache) for page in pages]
            if not levels:
                rgb = _rgb_of(boxes, self._image, self.name)
            pixels.append(rgb(boxes))
            width, height = boxes[0].page.imagewidth, boxes[0].page.imagelength
            levels.append(
                Level(
                    downsample_x=level_downsample(full=self.width, level=width),
                    downsample_y=level_downsample(full=self.height, level=height),
                    right=width,
                    bottom=height,
                )
            )
        return _Plane(tuple(levels), tuple(pixels))

    def _open_file(self, page: Page) -> None:
        """Open the other file that a plane of a stack of files lies in."""
        file = page.parent.filehandle
        if file.closed:
            file.open()
            self._others.append(file)

    @property
    def coarsest(self) -> float:
        """Full-resolution px per px of the smallest level."""
        return max(level.downsample_x for level in self._plane.levels)

    def read(self, *, x: float, y: float, width: int, height: int, scale_x: float, scale_y: float) -> Rgb:
        """Read uint8 (height, width, 3); see `conceptseg.imaging.reader.ImageReader.read`."""
        return read_levels(
            self._plane.levels, self._box, x=x, y=y, width=width, height=height, scale_x=scale_x, scale_y=scale_y
        )

    def _box(self, level: int, x0: int, y0: int, x1: int, y1: int) -> Rgb:
        try:
            return self._plane.pixels[level].rgb(x0, y0, x1, y1)
        except Exception as error:
            raise ImageError(_damaged(self.name, error)) from error

    def close(self) -> None:
        """Release the file."""
        self._cache.close()
        self._plane = _Plane((), ())
        for file in self._others:
            file.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _smaller(candidates: Iterable[tuple[Page, ...]], base: tifffile.TiffPage) -> list[tuple[Page, ...]]:
    """Those of ``candidates`` that are smaller copies of the same picture, largest first."""
    levels: dict[tuple[int, int], tuple[Page, ...]] = {}
    for pages in candidates:
        page = pages[0].keyframe
        if page is None or not page.imagewidth or not page.imagelength:
            continue
        width, height = page.imagewidth, page.imagelength
        ratio = 0.5 * (base.imagewidth / width + base.imagelength / height)
        same_shape = abs(base.imagewidth / ratio - width) <= 1.5 and abs(base.imagelength / ratio - height) <= 1.5
        same_kind = page.dtype == base.dtype and page.samplesperpixel == base.samplesperpixel
        if same_shape and same_kind and width < base.imagewidth and height < base.imagelength:
            levels.setdefault((width, height), pages)
    return [levels[size] for size in sorted(levels, reverse=True)]


def _require_complete(page: Page, name: str) -> None:
    size = page.parent.filehandle.size
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    end = max(ends, default=0)
    if not page.dataoffsets or end > size:
        raise ImageError(
            f"{name} is truncated: its pixels end at byte {end:,}, the file at byte {size:,}. Copy the file again."
        )


def _rgb_of(boxes: Sequence[PagePixels], image: TiffImage, name: str) -> Callable[[Sequence[PagePixels]], RgbBoxes]:
    """How the pages of a plane become RGB.

    Raises:
        ImageError: they are no RGB of 8 bits.
    """
    page = boxes[0].page
    photometric = tifffile.PHOTOMETRIC(page.photometric)
    channels = image.channels * page.samplesperpixel
    coloured = photometric == tifffile.PHOTOMETRIC.RGB or (
        photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in _STORED_AS_IT_IS
    )
    # OME calls three samples of one channel RGB, whatever TIFF's own tag says.
    coloured |= image.ome is not None and image.ome.samples == (3,) and photometric == _GREY
    order = image.red_green_blue if photometric == _GREY and channels == 3 else None
    is_rgb = image.channels == 1 and (
        (coloured and page.samplesperpixel in (3, 4))
        or (photometric == tifffile.PHOTOMETRIC.PALETTE and page.samplesperpixel == 1 and page.colormap is not None)
    )
    if not is_rgb and order is None:
        raise ImageError(_no_rgb(image, photometric, channels, page.dtype == np.uint8, name))
    if page.dtype != np.uint8:
        raise ImageError(
            f"{name} has {page.dtype} pixels{_range(boxes[0])}: expected 8-bit RGB. Convert it to 8 bit. QuPath does "
            "that with File > Export images > Rendered RGB, at the brightness that it shows."
        )
    if order is None:
        return lambda pages: pages[0]
    if image.channels == 1:
        return lambda pages: ThreePages(pages[0], pages[0], pages[0], samples=order)
    return lambda pages: ThreePages(*(pages[place] for place in order), samples=(0, 0, 0))


def _no_rgb(image: TiffImage, photometric: tifffile.PHOTOMETRIC, channels: int, eight_bit: bool, name: str) -> str:
    """Why an image is no RGB, and what its owner can do."""
    expected = "expected the RGB colours of an H&E stain."
    if photometric not in (_GREY, tifffile.PHOTOMETRIC.MINISWHITE):
        several = f"{image.channels} × " if image.channels > 1 else ""
        got = f"{photometric.name} colours with {several}{image.page.samplesperpixel} channels"
        return f"{name} has {got}: {expected} Save it as RGB with 8 bits per channel."
    if channels == 1:
        return f"{name} has one grayscale channel: {expected} Use the RGB original."
    named = [channel for channel in image.channel_names if channel]
    names = f" ({', '.join(named[:8])}{', …' if len(named) > 8 else ''})" if named else ""
    got = f"{name} has {channels} separate channels{names}, as of fluorescence: {expected}"
    if channels == 3 and eight_bit and not named:
        return (
            f"{got} If these are the red, green and blue of a stain, call the channels Red, Green and Blue in its OME "
            "description, or save it as RGB, in ImageJ with Image > Color > Stack to RGB."
        )
    return f"{got} ConceptSeg knows no fluorescence: use a brightfield scan of the slide."


def _range(pixels: PagePixels) -> str:
    page = pixels.page
    try:
        x, y = page.imagewidth // 2, page.imagelength // 2
        box = pixels.box(max(0, x - 512), max(0, y - 512), x + 1, y + 1)
    except Exception:  # noqa: BLE001 - the range only decorates a message that is raised anyway
        return ""
    return f" (values {box.min()} to {box.max()} in the middle)"


def _pixel_size_um(file: tifffile.TiffFile, image: TiffImage, name: str) -> float | None:
    """µm per px from the OME description, else ImageJ's, else the resolution tags where they can be true."""
    if image.ome is not None and image.ome.sides_um is not None:
        return pixel_side_um(*image.ome.sides_um, name=name)
    per_unit = [image.page.tags.valueof(tag) for tag in ("XResolution", "YResolution")]
    if not all(isinstance(value, tuple) and value[0] > 0 and value[1] > 0 for value in per_unit):
        return None
    unit = str((file.imagej_metadata or {}).get("unit", "")) if file.is_imagej else ""
    um_per_unit = UM_PER_UNIT.get(unit) or {2: 25400.0, 3: 10000.0}.get(int(image.page.tags.valueof(296) or 2))
    if um_per_unit is None:
        return None
    x_um, y_um = (um_per_unit * value[1] / value[0] for value in per_unit)
    return pixel_side_um(x_um, y_um, name=name) if (x_um + y_um) / 2 < _COARSEST_UM else None


def _damaged(name: str, error: Exception) -> str:
    # What libraries say about broken offsets, such as "list index out of range", tells a person nothing.
    told = isinstance(error, tifffile.TiffFileError | OSError | ImageError)
    reason = f" ({error})" if told and str(error) else ""
    return (
        f"{name} is damaged, truncated or compressed in an unknown way{reason}. "
        "Copy the file again, or export it as OME-TIFF from QuPath."
    )
