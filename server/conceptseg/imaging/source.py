"""The pixels of a region on its analysis grid: what the pipeline reads."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError, MissingPixelSizeError
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.imaging.glass import Overview
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.overview import overview_of
from conceptseg.imaging.planes import tell_plane
from conceptseg.imaging.reader import ImageReader

_log = logging.getLogger(__name__)

_SNAP = 0.02
"""Within 2 % of a whole level the pixels are taken as they are: scanners that call themselves 0.25 µm differ
by as much, and encoders were trained across all of them."""

_COARSEST = 4.0
"""An image with pixels up to 4 times larger than the encoder expects is analysed at its own pixel size."""


class PixelSource(Protocol):
    """Pixels on an analysis grid.

    Several threads may call `read` at the same time, in any order: a GPU is fed by up to eight of them. A source that
    cannot serve them at once has a lock of its own.
    """

    @property
    def name(self) -> str:
        """What messages call the image."""

    @property
    def grid(self) -> PixelGrid:
        """Where the output pixels lie in the image."""

    def read(self, *, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a block; see `RegionSource.read`."""

    def overview(self) -> Overview | None:
        """The whole image as a small picture, in which its glass is found; None where nothing but a region is known."""

    def forget(self, *, before_row: int) -> None:
        """Learn that no read reaches above output row ``before_row`` any more; see `RegionSource.forget`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionSource:
    """A region of an image on its analysis grid.

    Attributes:
        reader: The image at the region's plane; it belongs to the caller, who closes it.
        grid: The output pixels.
    """

    reader: ImageReader
    grid: PixelGrid

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self.reader.name

    def read(self, *, x: int, y: int, width: int, height: int) -> Rgb:
        """Read a block of output pixels.

        Args:
            x: Left edge in output px relative to the grid's top-left; may be negative or beyond the grid.
            y: Top edge in output px.
            width: Output px per row.
            height: Output px per column.

        Returns:
            uint8 (height, width, 3) RGB, writable. Beyond the region the slide's own pixels; beyond the slide
            its mirror image, in which an encoder sees tissue and not the stripes of a repeated edge. The same
            pixel whatever the block it is read in.

        Raises:
            ImageError: the file is damaged.
        """
        grid = self.grid
        left, right = image_span(origin=grid.region.x, scale=grid.scale_x, full=self.reader.width)
        top, bottom = image_span(origin=grid.region.y, scale=grid.scale_y, full=self.reader.height)
        columns = mirrored(x, width, low=left, high=right)
        rows = mirrored(y, height, low=top, high=bottom)
        left, top = int(columns.min()), int(rows.min())
        block = self.reader.read(
            x=grid.region.x + left * grid.scale_x,
            y=grid.region.y + top * grid.scale_y,
            width=int(columns.max()) + 1 - left,
            height=int(rows.max()) + 1 - top,
            scale_x=grid.scale_x,
            scale_y=grid.scale_y,
        )
        if left == x and top == y and block.shape[:2] == (height, width):
            return block
        return take_pixels(block, rows=rows - top, columns=columns - left)

    def overview(self) -> Overview | None:
        """The whole image as a small picture, read once; see `conceptseg.imaging.overview.overview_of`."""
        return overview_of(self.reader)

    def forget(self, *, before_row: int) -> None:
        """Do nothing: a file keeps its pixels. A source that holds pixels in memory gives back those above."""


def open_region(
    reader: ImageReader,
    *,
    region: Region | None,
    pixel_size_um: float,
    image_pixel_size_um: float | None = None,
) -> RegionSource:
    """Choose the analysis grid of a region.

    The downsample is ``pixel_size_um`` over the image's own pixel size. Within 2 % of 1, 2, 4, 8 … it becomes
    exactly that, and ``grid.pixel_size_um`` says what the pixels really are. An image with larger pixels than
    asked is analysed as it is, up to 4 times larger; ``grid.pixel_size_um`` again says so.

    Args:
        reader: The image.
        region: In full-resolution px; None for the whole image at the plane that ``reader`` reads, which is said.
        pixel_size_um: µm per output px that the encoder expects.
        image_pixel_size_um: µm per full-resolution px. It wins over the file's calibration, however much the
            two differ: who gives it knows that the file is wrong.

    Raises:
        MissingPixelSizeError: neither the file nor the caller gives a pixel size.
        RegionError: the region is not inside the image, or on a plane that it does not have.
        InvalidRequestError: a pixel size that is not positive, or an image more than 4 times too coarse.
    """
    full_pixel_size_um = image_pixel_size_um if image_pixel_size_um is not None else reader.pixel_size_um
    if full_pixel_size_um is None:
        raise MissingPixelSizeError(
            f"{reader.name} carries no pixel size. Give the µm per full-resolution pixel with "
            "--pixel-size-um (about 0.25 for a 40x scan, 0.5 for 20x), or set it in QuPath's Image tab."
        )
    downsample = choose_downsample(reader.name, pixel_size_um=pixel_size_um, full_pixel_size_um=full_pixel_size_um)
    if region is None:
        region = Region(x=0, y=0, width=reader.width, height=reader.height, z=reader.z, t=reader.t)
        tell_plane(reader)
    region.require_inside(reader.width, reader.height, of=reader.name)
    grid = PixelGrid.at_downsample(region, downsample=downsample, full_pixel_size_um=full_pixel_size_um)
    return RegionSource(reader=reader.at(z=region.z, t=region.t), grid=grid)


def thumbnail(source: RegionSource, *, max_px: int) -> Rgb:
    """The whole region as a small picture, with bounded memory whatever the region's size.

    Args:
        source: The region.
        max_px: Longest side of the picture in px.

    Returns:
        uint8 (h, w, 3) RGB with max(h, w) <= max_px and the region's proportions; never larger than the grid.
    """
    if max_px < 1:
        raise InvalidRequestError(f"Expected a thumbnail of at least 1 px, got {max_px}.")
    grid = source.grid
    shrink = max(1.0, max(grid.width, grid.height) / max_px)
    width, height = max(1, round(grid.width / shrink)), max(1, round(grid.height / shrink))
    # The reader takes the coarsest level that is fine enough and works in bands of bounded size.
    return source.reader.read(
        x=grid.region.x,
        y=grid.region.y,
        width=width,
        height=height,
        scale_x=grid.region.width / width,
        scale_y=grid.region.height / height,
    )


def image_span(*, origin: int, scale: float, full: int) -> tuple[int, int]:
    """First and end output px along one axis that lie in the image; at least one.

    Args:
        origin: The grid's origin in full-resolution px.
        scale: Full-resolution px per output px.
        full: The image's length in full-resolution px.
    """
    low = math.ceil(-origin / scale - 1e-6)
    return low, max(math.floor((full - origin) / scale + 1e-6), low + 1)


def mirrored(start: int, count: int, *, low: int, high: int) -> NDArray[np.int64]:
    """The px ``start`` … ``start + count`` along one axis, those outside ``low`` … ``high`` folded back into it.

    The fold is periodic, so an image narrower than a halo is mirrored to and fro.
    """
    wanted = np.arange(start, start + count, dtype=np.int64)
    if start >= low and start + count <= high:
        return wanted
    length = high - low
    folded = (wanted - low) % (2 * length)
    return low + np.minimum(folded, 2 * length - 1 - folded)


def take_pixels(block: Rgb, *, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Rgb:
    """The pixels in ``rows`` and ``columns`` of ``block``; (len(rows), len(columns), 3), a copy."""
    # One item per pixel, one axis at a time: five times faster than indexing three bytes on both axes at once.
    pixels = np.ascontiguousarray(block).view("V3")[:, :, 0]
    return pixels.take(rows, axis=0).take(columns, axis=1).view(np.uint8).reshape(len(rows), len(columns), 3)


def choose_downsample(name: str, *, pixel_size_um: float, full_pixel_size_um: float) -> float:
    """Full-resolution px per output px, by the rule that `open_region` tells.

    Args:
        name: What messages call the image.
        pixel_size_um: µm per output px that the encoder expects.
        full_pixel_size_um: µm per full-resolution px.

    Raises:
        InvalidRequestError: a pixel size that is not positive, or an image more than 4 times too coarse.
    """
    _require_positive(pixel_size_um, what="the encoder's pixel size")
    _require_positive(full_pixel_size_um, what=f"the pixel size of {name}")
    wanted = pixel_size_um / full_pixel_size_um
    if wanted < 1 / _COARSEST:
        raise InvalidRequestError(
            f"{name} has {full_pixel_size_um:g} µm per pixel; the encoder expects {pixel_size_um:g} µm and "
            f"has nothing to see in pixels more than {_COARSEST:g} times larger. Scan at a higher "
            "magnification, choose an encoder for larger pixels, or correct a wrong calibration with "
            "--pixel-size-um."
        )
    nearest_level = 2.0 ** max(0, round(math.log2(wanted)))
    if abs(wanted / nearest_level - 1) <= _SNAP:
        return nearest_level
    if wanted < 1:
        _log.warning(
            "%s has %.3g µm per pixel, larger than the %.3g µm the encoder expects; analysed as it is.",
            name,
            full_pixel_size_um,
            pixel_size_um,
        )
        return 1.0
    return wanted


def _require_positive(value: float, *, what: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InvalidRequestError(f"Expected {what} to be > 0 µm, got {value}.")
