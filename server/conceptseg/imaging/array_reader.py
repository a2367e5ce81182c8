"""Pixels that are already in memory."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.levels import Level, Rgb, read_levels
from conceptseg.imaging.planes import OnePlane


class ArrayReader(OnePlane):
    """Serves an array as if it were an image file.

    Two uses: a whole small image (the defaults), and the pixels of a region that QuPath read and sent, which
    lie on the analysis grid already and carry a margin of context around the region. A read on exactly that
    grid copies pixels; outside the array its edge pixels repeat.

    Attributes:
        name: What messages call the image.
        width: Full-resolution px per row of the whole image.
        height: Full-resolution px per column of the whole image.
        pixel_size_um: µm per full-resolution px, None when uncalibrated.
    """

    def __init__(
        self,
        array: Rgb,
        *,
        name: str,
        pixel_size_um: float | None,
        origin: tuple[float, float] = (0.0, 0.0),
        scale: tuple[float, float] = (1.0, 1.0),
        full_width: int | None = None,
        full_height: int | None = None,
    ) -> None:
        """Wrap ``array``, which is neither copied nor changed.

        Args:
            array: uint8 (h, w, 3) RGB.
            name: What messages call the image.
            pixel_size_um: µm per full-resolution px.
            origin: Full-resolution (x, y) of the array's top-left corner; may be negative.
            scale: Full-resolution px per array px along (x, y).
            full_width: Full-resolution px per row of the whole image; where the array ends when None.
            full_height: Full-resolution px per column of the whole image; where the array ends when None.

        Raises:
            ImageError: the array is not uint8 (h, w, 3), or the scale is not positive.
        """
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
            raise ImageError(
                f"{name}: expected RGB pixels as uint8 (height, width, 3), got {array.dtype} {array.shape}. "
                "Convert the image to 8-bit RGB."
            )
        if not (scale[0] > 0 and scale[1] > 0):
            raise ImageError(f"{name}: expected a scale > 0 full-resolution px per px, got {scale}.")
        rows, columns = array.shape[:2]
        self.name = name
        self.pixel_size_um = pixel_size_um
        self.width = full_width if full_width is not None else round(origin[0] + columns * scale[0])
        self.height = full_height if full_height is not None else round(origin[1] + rows * scale[1])
        self.coarsest = max(scale)
        self._array = array
        self._levels = [
            Level(
                downsample_x=scale[0],
                downsample_y=scale[1],
                right=columns,
                bottom=rows,
                offset_x=-origin[0] / scale[0],
                offset_y=-origin[1] / scale[1],
            )
        ]

    def read(self, *, x: float, y: float, width: int, height: int, scale_x: float, scale_y: float) -> Rgb:
        """Read uint8 (height, width, 3); see `conceptseg.imaging.reader.ImageReader.read`."""
        return read_levels(
            self._levels, self._box, x=x, y=y, width=width, height=height, scale_x=scale_x, scale_y=scale_y
        )

    def _box(self, _level: int, x0: int, y0: int, x1: int, y1: int) -> Rgb:
        return self._array[y0:y1, x0:x1]

    def close(self) -> None:
        """Nothing to release; the array belongs to the caller."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
