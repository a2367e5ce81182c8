"""A slide small enough for a page: a thumbnail, and the polygons in quarter pixels of it."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from conceptseg.domain.region import Region
from conceptseg.imaging.reader import ImageReader
from conceptseg.report.evidence import ACTIVATION, PURITY, Concept, Slide, measured, rows_of_pieces
from conceptseg.report.pictures import data_uri

STEPS_PER_PX = 4
"""Coordinates are whole quarters of a px of the thumbnail."""

_MARGIN = 0.04
_WHOLE = 0.4  # if results fill this share of the slide, all of it is shown


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The part of a slide that a page shows, and how large.

    Attributes:
        region: The part in full-resolution px.
        width: Px of the thumbnail per row.
        height: Px of the thumbnail per column.
    """

    region: Region
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Full-resolution px per px of the thumbnail."""
        return self.region.width / self.width


def view_of(slide: Slide, *, image: tuple[int, int] | None, max_px: int) -> View:
    """The part of a slide to show: all of it, or what is around the results if they fill only a small part.

    Args:
        slide: The slide.
        image: Width and height of its image in full-resolution px; None if it cannot be read.
        max_px: Longest side of the thumbnail.
    """
    bounds = [0.0, 0.0, *(image or (1, 1))]
    if slide.pieces:
        bounds = shapely.total_bounds([piece.outline for piece in slide.pieces]).tolist()
    left, top, right, bottom = bounds
    pad = _MARGIN * max(right - left, bottom - top)
    width, height = image or (math.ceil(right + pad), math.ceil(bottom + pad))
    whole = Region(x=0, y=0, width=max(1, width), height=max(1, height))
    if image and (right - left) * (bottom - top) >= _WHOLE * width * height:
        region = whole
    else:
        region = whole.around((left - pad, top - pad, right + pad, bottom + pad)) or whole
    shrink = max(1.0, max(region.width, region.height) / max_px)
    return View(region=region, width=max(1, round(region.width / shrink)), height=max(1, round(region.height / shrink)))


def thumbnail(reader: ImageReader, view: View) -> str:
    """The pixels of a view as ``data:`` URI, read from the coarsest level that is fine enough.

    Raises:
        ImageError: the file is damaged.
    """
    region = view.region
    rgb = reader.read(
        x=region.x,
        y=region.y,
        width=view.width,
        height=view.height,
        scale_x=region.width / view.width,
        scale_y=region.height / view.height,
    )
    return data_uri(rgb)


def encoded_polygons(slide: Slide, concepts: Sequence[Concept], view: View) -> str:
    """All polygons of a slide, in base64.

    A sequence of unsigned LEB128 numbers. Per polygon: row of the concept; mean activation in 1/1000 + 1, 0 if not
    measured; purity in 1/1000 + 1, 0 if not measured; number of rings. Per ring: number of points, then for every
    point the zigzag-encoded steps in x and y from the point before, the first of the ring from 0, 0. Rings that vanish
    in quarters of a px are left out; a polygon may have none.
    """
    if not slide.pieces:
        return ""
    outlines = np.array([piece.outline for piece in slide.pieces], object)
    parts, piece_of_part = shapely.get_parts(outlines, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    region = view.region
    steps = np.rint((points - (region.x, region.y)) / view.scale * STEPS_PER_PX).astype(np.int64)
    # The last point of a ring is its first, and points that fall together are one.
    first = np.append(True, ring[1:] != ring[:-1])
    last = np.append(ring[1:] != ring[:-1], True)
    kept = ~last & (first | np.append(True, (steps[1:] != steps[:-1]).any(axis=1)))
    steps, ring = steps[kept], ring[kept]
    large = np.bincount(ring, minlength=len(rings)) >= 3
    kept = large[ring]
    steps, ring = steps[kept], ring[kept]
    first = np.append(True, ring[1:] != ring[:-1])[: len(ring)]
    before = np.where(first[:, None], 0, np.concatenate([np.zeros((1, 2), np.int64), steps[:-1]])[: len(steps)])
    moves = steps - before
    zigzag = np.where(moves < 0, -2 * moves - 1, 2 * moves)

    rows = rows_of_pieces(slide, concepts)
    headers = np.stack([rows, _thousandths(measured(slide, ACTIVATION)), _thousandths(measured(slide, PURITY))], axis=1)
    piece_of_ring = piece_of_part[part_of_ring][large]
    n_points = np.bincount(ring, minlength=len(rings))[large]
    n_rings = np.bincount(piece_of_ring, minlength=len(slide.pieces))
    # Every number gets a place by sorting: piece, then ring (-1 for the header), then its place in there.
    ring_number = np.cumsum(large) - 1
    values = np.concatenate([np.column_stack([headers, n_rings]).ravel(), n_points, zigzag.ravel()])
    piece_key = np.concatenate(
        [np.repeat(np.arange(len(rows)), 4), piece_of_ring, np.repeat(piece_of_part[part_of_ring][ring], 2)]
    )
    ring_key = np.concatenate([np.full(4 * len(rows), -1), np.arange(len(n_points)), np.repeat(ring_number[ring], 2)])
    order = np.lexsort((ring_key, piece_key))  # stable: within a ring the order stays, the count comes first
    return base64.b64encode(_leb128(values[order])).decode("ascii")


def _thousandths(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.where(np.isfinite(values), np.rint(np.nan_to_num(values).clip(0, 1e6) * 1000) + 1, 0).astype(np.int64)


def _leb128(values: NDArray[np.int64]) -> bytes:
    """Unsigned numbers in groups of 7 bits, least significant first; the top bit says that another group follows."""
    n_bytes = np.ones(len(values), np.int64)
    for bits in range(7, 64, 7):
        n_bytes += values >= 1 << bits
        if not (values >= 1 << bits).any():
            break
    which = np.repeat(np.arange(len(values)), n_bytes)
    ends = np.cumsum(n_bytes)
    place = np.arange(len(which)) - (ends - n_bytes)[which]
    groups = (values[which] >> (7 * place)) & 0x7F
    more = np.where(place < n_bytes[which] - 1, 0x80, 0)
    return bytes((groups | more).astype(np.uint8))
