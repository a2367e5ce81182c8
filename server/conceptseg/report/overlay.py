"""A picture of the concepts over the tissue, with a legend and a scale bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from conceptseg.domain.classes import Colour
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.files import replacing
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.pipeline.result import ConceptSummary, SegmentationResult
from conceptseg.report.text import covers, font_for, shortened

Picture = NDArray[np.uint8]
"""(height, width, 3) red, green, blue."""

LEGEND_ROWS = 40
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SUBPIXEL_BITS = 4  # OpenCV takes whole numbers of 1/16 px
_OUTLINE = (25, 25, 30)  # darker than any stain, so that borders show between any two colours
_OUTLINE_ALPHA = 0.65
_GREYING = 1.2  # how far the tissue under a colour loses its own, times alpha
_TEXT = (30, 30, 35)
_MUTED = (115, 115, 125)
_RULE = (222, 222, 228)
_TITLE, _UNIT = "Concepts", "% of tissue"
# In units of the font size.
_MARGIN, _HEADER, _ROW = 1.2, 2.2, 1.65
_LONGEST_NAME = 24
_SMALLEST_FONT = 12  # px


def write_overlay(
    path: Path, rgb: Picture, result: SegmentationResult, *, alpha: float = 0.5, outlines: bool = True
) -> None:
    """Write `draw_overlay`'s picture as PNG, JPEG or TIFF, by the suffix of ``path``.

    Raises:
        InvalidRequestError: the suffix is another one, or an argument of `draw_overlay` is out of range.
        OutputError: the file cannot be written; an existing file stays as it was.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidRequestError(f"Cannot write an overlay to {path}: expected a name in {', '.join(_SUFFIXES)}.")
    picture = Image.fromarray(draw_overlay(rgb, result, alpha=alpha, outlines=outlines))
    with replacing(path) as temporary:
        picture.save(temporary, quality=92)


def draw_overlay(rgb: Picture, result: SegmentationResult, *, alpha: float = 0.5, outlines: bool = True) -> Picture:
    """Draw the concepts of ``result`` over the tissue, a scale bar, and a legend to the right.

    Args:
        rgb: (h, w, 3) uint8 picture of the result's whole region, at any size.
        result: Its polygons are drawn, its summaries make the legend: largest area first, those without area
            left out, after 40 rows only the number of the others.
        alpha: Opacity of the colours, 0 … 1.
        outlines: Whether polygons get a thin dark border.

    Returns:
        (h or more, w + legend, 3) uint8; the tissue is at the top left, pixel for pixel.

    Raises:
        InvalidRequestError: ``rgb`` is not such an array, or ``alpha`` is out of range.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise InvalidRequestError(f"Expected a picture (h, w, 3) of uint8, got {rgb.shape} of {rgb.dtype}.")
    if not 0 <= alpha <= 1:
        raise InvalidRequestError(f"Expected an alpha of 0 to 1, got {alpha}.")
    tissue = Image.fromarray(_colour_tissue(rgb, result, alpha=alpha, outlines=outlines))
    font_size = round(min(max(min(rgb.shape[:2]) / 50, 13), 40))
    _draw_scale_bar(tissue, result.label_map.grid, font_size)
    legend = _draw_legend(result, font_size=font_size, height=tissue.height)
    canvas = Image.new("RGB", (tissue.width + legend.width, max(tissue.height, legend.height)), "white")
    canvas.paste(tissue, (0, 0))
    canvas.paste(legend, (tissue.width, 0))
    return np.asarray(canvas)


def _colour_tissue(rgb: Picture, result: SegmentationResult, *, alpha: float, outlines: bool) -> Picture:
    rings = _rings_in_pixels(result, result.label_map.grid.region, width=rgb.shape[1], height=rgb.shape[0])
    colours = {s.concept_class.concept: s.concept_class.colour for s in result.concepts}
    filled, inside = rgb.copy(), np.zeros(rgb.shape[:2], np.uint8)
    for polygon, outline in zip(result.polygons, rings, strict=True):
        colour = colours[polygon.concept]
        cv2.fillPoly(filled, outline, colour, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
        cv2.fillPoly(inside, outline, 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    # Less pink under the colours: they look as in the legend, and the structure of the tissue stays.
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
    under = _blend(rgb, grey, inside, opacity=min(1, _GREYING * alpha))
    drawn = np.asarray(cv2.addWeighted(filled, alpha, under, 1 - alpha, 0), np.uint8)
    if outlines:
        # Neighbours share their border: on one mask it is drawn once, however many polygons touch it.
        border = np.zeros(rgb.shape[:2], np.uint8)
        thickness = max(1, round(min(rgb.shape[:2]) / 1500))
        for outline in rings:
            cv2.polylines(border, outline, True, 255, thickness, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
        drawn = _blend(drawn, np.full_like(drawn, _OUTLINE), border, opacity=_OUTLINE_ALPHA)
    return drawn


def _blend(below: Picture, above: Picture, mask: NDArray[np.uint8], *, opacity: float) -> Picture:
    """``above`` (h, w, 1 or 3) over ``below`` where ``mask`` (h, w) is 255, in part where it is less."""
    share = mask[..., None] * np.float32(opacity / 255)
    return np.asarray(np.rint(below * (1 - share) + above * share), np.uint8)


def _rings_in_pixels(
    result: SegmentationResult, region: Region, *, width: int, height: int
) -> list[list[NDArray[np.int32]]]:
    """The rings of each polygon in OpenCV's fixed-point pixels of a ``width`` × ``height`` px picture."""
    if not result.polygons:
        return []
    polygons = np.array([p.polygon for p in result.polygons], object)
    _, full, (ring_starts, polygon_starts) = shapely.to_ragged_array(polygons, include_z=False)
    # OpenCV's whole numbers are pixel centres, ours are pixel corners.
    pixels = (full - (region.x, region.y)) * (width / region.width, height / region.height) - 0.5
    fixed = np.rint(pixels * 2**_SUBPIXEL_BITS).astype(np.int32)
    rings = np.split(fixed, ring_starts[1:-1])
    starts = polygon_starts.tolist()
    return [rings[first:last] for first, last in pairwise(starts)]


def _draw_scale_bar(tissue: Image.Image, grid: PixelGrid, font_size: int) -> None:
    """Draw a bar of a round length at the lower left, on a plate that keeps it readable on any tissue."""
    um_per_px = grid.full_pixel_size_um * grid.region.width / tissue.width
    length_um = round_length(0.22 * tissue.width * um_per_px)
    length_px = max(1, round(length_um / um_per_px))
    text = f"{length_um:.12g} µm"
    font = font_for(text, size=font_size)
    if not covers(font, text):
        text = text.replace("µ", "u")  # the usual stand-in where no font has the letter
    pad, thickness = round(font_size * 0.55), max(2, round(font_size * 0.28))
    plate_width = max(length_px, math.ceil(font.getlength(text))) + 2 * pad
    plate_height = round(font_size * 1.25) + thickness + 2 * pad
    left, top = pad, tissue.height - pad - plate_height
    if left + plate_width > tissue.width or top < 0:
        return  # a picture too small for a bar
    under = tissue.crop((left, top, left + plate_width, top + plate_height))
    tissue.paste(Image.blend(under, Image.new("RGB", under.size, "white"), 0.85), (left, top))
    pen = ImageDraw.Draw(tissue)
    middle = left + plate_width / 2
    pen.text((middle, top + pad + font_size * 0.85), text, font=font, fill=_TEXT, anchor="ms")
    x, y = round(middle - length_px / 2), top + plate_height - pad - thickness
    pen.rectangle((x, y, x + length_px - 1, y + thickness - 1), fill=_TEXT)


def round_length(at_most: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is at most ``at_most`` (> 0)."""
    magnitude = 10.0 ** math.floor(math.log10(at_most))
    return max(step * magnitude for step in (1, 2, 5) if step * magnitude <= at_most or step == 1)


def _draw_legend(result: SegmentationResult, *, font_size: int, height: int) -> Image.Image:
    """The legend as a panel, in a smaller font if that makes it fit ``height`` px."""
    shown = sorted((c for c in result.concepts if c.area_percent > 0), key=lambda c: -c.area_percent)
    hidden = max(0, len(shown) - LEGEND_ROWS)
    shown = shown[:LEGEND_ROWS]
    last_row = f"+ {hidden} more" if hidden else "" if shown else "No labelled tissue"
    rows = len(shown) + bool(last_row)
    size = max(min(font_size, math.floor(height / (_ROW * rows + _HEADER + 2 * _MARGIN))), _SMALLEST_FONT)
    small = max(round(size * 0.85), _SMALLEST_FONT)
    pad, header, row = (round(size * part) for part in (_MARGIN, _HEADER, _ROW))
    swatch, gap = round(size * 1.1), round(size * 0.6)

    names = [shortened(c.concept_class.name, size=size, width=_LONGEST_NAME * size) for c in shown]
    shares = [_percent(c) for c in shown]
    names_width = _width([*names, last_row, _TITLE], size)
    shares_width = max(_width(shares, size), _width([_UNIT], small))
    panel_width = pad + swatch + gap + names_width + 2 * gap + shares_width + pad
    panel = Image.new("RGB", (panel_width, pad + header + rows * row + pad), "white")
    pen = ImageDraw.Draw(panel)

    def write(x: int, baseline: float, text: str, *, size: int, fill: Colour, anchor: str = "ls") -> None:
        pen.text((x, round(baseline)), text, font=font_for(text, size=size), fill=fill, anchor=anchor)

    right, text_left = panel_width - pad, pad + swatch + gap
    write(pad, pad + size, _TITLE, size=size, fill=_TEXT)
    write(right, pad + size, _UNIT, size=small, fill=_MUTED, anchor="rs")
    rule = pad + round(size * 1.55)
    pen.line((pad, rule, right, rule), fill=_RULE, width=max(1, size // 12))
    middle = pad + header + row // 2
    to_baseline = size * 0.36  # half the height of a capital below the middle of a row
    for concept, name, share in zip(shown, names, shares, strict=True):
        top = middle - swatch // 2
        box = (pad, top, pad + swatch, top + swatch)
        pen.rounded_rectangle(box, radius=swatch // 5, fill=concept.concept_class.colour, outline=_RULE)
        write(text_left, middle + to_baseline, name, size=size, fill=_TEXT)
        write(right, middle + to_baseline, share, size=size, fill=_TEXT, anchor="rs")
        middle += row
    write(text_left if shown else pad, middle + to_baseline, last_row, size=size, fill=_MUTED)
    return panel


def _width(texts: Sequence[str], size: int) -> int:
    return math.ceil(max((font_for(text, size=size).getlength(text) for text in texts), default=0))


def _percent(concept: ConceptSummary) -> str:
    return "< 0.1" if concept.area_percent < 0.05 else f"{concept.area_percent:.1f}"
