"""A page of pictures: image, truth, and what methods made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from conceptseg.domain.classes import default_classes
from conceptseg.domain.files import replacing
from conceptseg.report.text import font_for, shortened

Picture = NDArray[np.uint8]

_SIDE, _GAP, _FONT = 256, 8, 14  # px
_ALPHA = 0.45


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedImage:
    """One row of the page.

    Attributes:
        title: Name and score.
        rgb: (height, width, 3) uint8, at any size.
        classes: Class maps (height, width), one per column after the image; at any size.
    """

    title: str
    rgb: Picture
    classes: Sequence[NDArray[np.integer[Any]]]


def draw_comparison(rows: Sequence[ComparedImage], *, columns: Sequence[str], n_classes: int) -> Picture:
    """Draw a row of pictures per image, under the names of the columns.

    Args:
        rows: In the order of the page.
        columns: Names of the class maps of every row.
        n_classes: Number of classes; each has the colour of the concept of its number.

    Returns:
        (height, width, 3) uint8.
    """
    colours = np.array([item.colour for item in default_classes(n_classes)], np.float32)
    fitted = [_fit(row.rgb) for row in rows]
    line = _FONT + _GAP
    width = (len(columns) + 1) * (_SIDE + _GAP) + _GAP
    page = Image.new("RGB", (width, line + sum(line + tissue.shape[0] + _GAP for tissue in fitted)), "white")
    draw = ImageDraw.Draw(page)
    for number, name in enumerate(["image", *columns]):
        title = shortened(name, size=_FONT, width=_SIDE)
        draw.text((_GAP + number * (_SIDE + _GAP), _GAP // 2), title, "black", font_for(title, size=_FONT))
    top = line
    for row, tissue in zip(rows, fitted, strict=True):
        title = shortened(row.title, size=_FONT, width=width - 2 * _GAP)
        draw.text((_GAP, top + _GAP // 2), title, "black", font_for(title, size=_FONT))
        pictures = [tissue]
        for classes in row.classes:
            tint = colours[cv2.resize(classes.astype(np.uint8), tissue.shape[1::-1], interpolation=cv2.INTER_NEAREST)]
            pictures.append(((1 - _ALPHA) * tissue + _ALPHA * tint).astype(np.uint8))
        for number, picture in enumerate(pictures):
            page.paste(Image.fromarray(picture), (_GAP + number * (_SIDE + _GAP), top + line))
        top += line + tissue.shape[0] + _GAP
    return np.asarray(page)


def write_comparison(path: Path, rows: Sequence[ComparedImage], *, columns: Sequence[str], n_classes: int) -> None:
    """Write `draw_comparison`'s page.

    Raises:
        OutputError: the file cannot be written; an existing file stays as it was.
    """
    page = Image.fromarray(draw_comparison(rows, columns=columns, n_classes=n_classes))
    with replacing(Path(path)) as temporary:
        page.save(temporary)


def _fit(rgb: Picture) -> Picture:
    scale = _SIDE / max(rgb.shape[:2])
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
