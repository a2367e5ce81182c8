"""The patches that show what a concept is: the most typical ones, and the most doubtful."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.reader import ImageReader
from conceptseg.report.evidence import ACTIVATION, PURITY, Concept, Slide, areas_px, measured, rows_of_pieces
from conceptseg.report.pictures import data_uri

PATCH_PX = 192
"""Side of a patch."""

_FIELD_UM = 192.0
_LARGE_FIELDS = 0.05
"""Below a twentieth of the patch an area counts the less the smaller it is: it shows its neighbours more."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A polygon to show.

    Attributes:
        slide: Index of the slide.
        piece: Index of the polygon on it.
        activation: Its mean activation; NaN if not measured.
        purity: Share of its activation that is its own concept's; NaN if not measured.
    """

    slide: int
    piece: int
    activation: float
    purity: float


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Patch:
    """The pixels around a polygon.

    Attributes:
        choice: The polygon.
        picture: ``data:`` URI, PATCH_PX × PATCH_PX; None where the slide cannot be read.
        outline: SVG path of the polygon in px of the picture.
        centre: x, y in full-resolution px.
    """

    choice: Choice
    picture: str | None
    outline: str
    centre: tuple[float, float]


def choose(
    slides: Sequence[Slide], concepts: Sequence[Concept], *, each: int
) -> list[tuple[list[Choice], list[Choice]]]:
    """The most typical and the most doubtful polygons of every concept.

    Typical is a high activation of which much is the concept's own (activation × purity); doubtful is a low purity
    (1 - purity). Small polygons count less in both, polygons that a person rejected are not typical, and no slide has
    more than its turn while others have something to show.

    Args:
        slides: All slides.
        concepts: All concepts.
        each: How many of both kinds.

    Returns:
        Per concept typical and doubtful ones, best example first; fewer where there are fewer, never both.
    """
    tables = [_table(number, slide, concepts) for number, slide in enumerate(slides) if slide.pieces]
    if not tables:
        return [([], []) for _ in concepts]
    table = np.concatenate(tables)
    chosen = []
    for row in range(len(concepts)):
        mine = table[table["row"] == row]
        size = np.minimum(mine["area"] / _LARGE_FIELDS, 1)
        certain = np.nan_to_num(mine["purity"], nan=0.5)
        strength = np.nan_to_num(mine["activation"], nan=0.0) * certain * size * ~mine["rejected"]
        half = min(each, (len(mine) + 1) // 2)
        typical = _in_turns(mine[np.lexsort((-mine["area"], -strength))], half)
        shown = {(choice.slide, choice.piece) for choice in typical}
        rest = mine[np.lexsort((-mine["area"], (certain - 1) * size))]
        rest = rest[[(int(item["slide"]), int(item["piece"])) not in shown for item in rest]]
        chosen.append((typical, _in_turns(rest, each)))
    return chosen


def cut(slide: Slide, reader: ImageReader | None, choices: Iterable[Choice]) -> list[Patch]:
    """The patches of one slide, all with the same field of view."""
    scale = _scale(slide)
    return [_patch(slide, reader, choice, scale) for choice in choices]


def field_um(slide: Slide) -> float | None:
    """Side of a patch of this slide in µm; None if its pixel size is unknown."""
    return None if slide.pixel_size_um is None else PATCH_PX * _scale(slide) * slide.pixel_size_um


_ROW = np.dtype(
    [
        ("row", np.int64),
        ("slide", np.int64),
        ("piece", np.int64),
        ("area", np.float64),
        ("activation", np.float64),
        ("purity", np.float64),
        ("rejected", np.bool_),
    ]
)


def _table(number: int, slide: Slide, concepts: Sequence[Concept]) -> NDArray[np.void]:
    table = np.zeros(len(slide.pieces), _ROW)
    table["row"] = rows_of_pieces(slide, concepts)
    table["slide"] = number
    table["piece"] = np.arange(len(slide.pieces))
    # Slides may have pixels of different size: areas are compared in patches.
    table["area"] = areas_px(slide) / (PATCH_PX * _scale(slide)) ** 2
    table["activation"] = measured(slide, ACTIVATION)
    table["purity"] = measured(slide, PURITY)
    table["rejected"] = [piece.review == "rejected" for piece in slide.pieces]
    return table


def _in_turns(ranked: NDArray[np.void], count: int) -> list[Choice]:
    """The first of ``ranked``, the best of every slide before the second best of any, in the order of the ranking."""
    seen: Counter[int] = Counter()
    turns = []
    for slide in ranked["slide"].tolist():
        turns.append(seen[slide])
        seen[slide] += 1
    picked = np.sort(np.argsort(turns, kind="stable")[:count])
    return [
        Choice(
            slide=int(item["slide"]),
            piece=int(item["piece"]),
            activation=float(item["activation"]),
            purity=float(item["purity"]),
        )
        for item in ranked[picked]
    ]


def _scale(slide: Slide) -> float:
    """Full-resolution px per px of a patch; never finer than the slide."""
    return max(1.0, _FIELD_UM / PATCH_PX / (slide.pixel_size_um or 0.5))


def _patch(slide: Slide, reader: ImageReader | None, choice: Choice, scale: float) -> Patch:
    outline = slide.pieces[choice.piece].outline
    side = PATCH_PX * scale
    # Where the polygon is widest: a point that is merely inside can be in a thin arm of it.
    widest = shapely.get_point(shapely.maximum_inscribed_circle(outline, tolerance=side / 20), 0)
    x, y = (round(value - side / 2) for value in (widest.x, widest.y))
    if reader is not None:  # beyond the slide there is nothing to see
        x, y = max(0, min(x, round(reader.width - side))), max(0, min(y, round(reader.height - side)))
    picture = None
    if reader is not None:
        try:
            picture = data_uri(reader.read(x=x, y=y, width=PATCH_PX, height=PATCH_PX, scale_x=scale, scale_y=scale))
        except ImageError as error:
            _log.warning("%s: a patch cannot be read (%s).", slide.name, error)
    seen = shapely.clip_by_rect(outline.boundary, x, y, x + side, y + side)
    return Patch(choice=choice, picture=picture, outline=_svg_path(seen, x, y, scale), centre=(widest.x, widest.y))


def _svg_path(lines: shapely.Geometry, x: float, y: float, scale: float) -> str:
    path = []
    for part in shapely.get_parts(lines):
        points = np.rint((shapely.get_coordinates(part) - (x, y)) / scale * 2) / 2
        points = points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))]
        if len(points) > 1:
            path.append("M" + "L".join(f"{px:g} {py:g}" for px, py in points.tolist()))
    return "".join(path)
