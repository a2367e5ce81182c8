"""A whole image as a small picture, at a cost that does not grow with the image."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from conceptseg.imaging.glass import OVERVIEW_PX, Overview
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.reader import ImageReader

_MOST_PX = 1 << 25
"""Px of an image's smallest level up to which all of it is read."""

_PATCHES = 8
_SHRINK = 4
"""Px of the smallest level per px of a patch: noise of the camera goes, as it does from smaller levels."""

_known: WeakKeyDictionary[ImageReader, Overview] = WeakKeyDictionary()


def overview_of(reader: ImageReader) -> Overview:
    """The overview of an image, read once.

    Of an image without small levels it is a mosaic: patches from a grid of places, each in the middle of what it
    stands for.

    Raises:
        ImageError: the file is damaged.
    """
    found = _known.get(reader)
    if found is None:
        is_large = reader.width * reader.height > _MOST_PX * reader.coarsest**2
        rgb = _mosaic(reader) if is_large else _read(reader)
        found = _known[reader] = Overview.of(rgb, width=reader.width, height=reader.height)
    return found


def _sides(reader: ImageReader, *, longest: int) -> tuple[int, int]:
    """Width and height of a picture with the image's proportions; never larger than the image."""
    shrink = max(1.0, max(reader.width, reader.height) / longest)
    return max(1, round(reader.width / shrink)), max(1, round(reader.height / shrink))


def _read(reader: ImageReader) -> Rgb:
    width, height = _sides(reader, longest=OVERVIEW_PX)
    return reader.read(
        x=0, y=0, width=width, height=height, scale_x=reader.width / width, scale_y=reader.height / height
    )


def _mosaic(reader: ImageReader) -> Rgb:
    columns, rows = _sides(reader, longest=_PATCHES)
    side, scale = OVERVIEW_PX // _PATCHES, _SHRINK * reader.coarsest
    mosaic = np.empty((rows * side, columns * side, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            x, y = (
                max(0, round((number + 0.5) * full / count - side * scale / 2))
                for number, count, full in ((column, columns, reader.width), (row, rows, reader.height))
            )
            mosaic[row * side :, column * side :][:side, :side] = reader.read(
                x=x, y=y, width=side, height=side, scale_x=scale, scale_y=scale
            )
    return mosaic
