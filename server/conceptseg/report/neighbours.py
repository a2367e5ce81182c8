"""Which concepts lie side by side, and which are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from conceptseg.report.evidence import Concept, Slide, rows_of_pieces

_STEPS_PER_PX = 20  # QuPath keeps hundredths of a px in float32: both sides of a border agree to a twentieth


def shared_borders(slide: Slide, concepts: Sequence[Concept]) -> NDArray[np.float64]:
    """Length of the border between every two concepts on a slide, in full-resolution px.

    Results are one coverage: both sides of a border have the same vertices, so it is found by equal edges. Where
    somebody edited an outline by hand, only the part that still fits is counted.

    Returns:
        (n, n) symmetric; the diagonal is 0.
    """
    n = len(concepts)
    borders = np.zeros((n, n))
    if not slide.pieces:
        return borders
    outlines = np.array([piece.outline for piece in slide.pieces], object)
    parts, owner = shapely.get_parts(outlines, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    points, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    row_of_point = rows_of_pieces(slide, concepts)[owner[part_of_ring[ring_of_point]]]
    inner = ring_of_point[1:] == ring_of_point[:-1]
    start, end, row = points[:-1][inner], points[1:][inner], row_of_point[1:][inner]
    length = np.hypot(*(end - start).T)
    fixed = np.rint(np.stack([start, end], axis=1) * _STEPS_PER_PX).astype(np.int64)
    # Up to 2³¹ steps along an axis fit one number per vertex: 100 million px.
    vertex = fixed[..., 0] * 2**32 + fixed[..., 1]
    low, high = vertex.min(axis=1), vertex.max(axis=1)
    order = np.lexsort((high, low))
    low, high, row, length = low[order], high[order], row[order], length[order]
    same = (low[1:] == low[:-1]) & (high[1:] == high[:-1]) & (row[1:] != row[:-1])
    np.add.at(borders, (row[1:][same], row[:-1][same]), length[1:][same])
    return borders + borders.T


def similarities(concepts: Sequence[Concept], rows_of: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """Cosine between the directions of every two concepts of the same dictionary.

    Args:
        concepts: The concepts.
        rows_of: Dictionary -> (n_concepts, channels); dictionaries that were not found are missing.

    Returns:
        (n, n) the largest cosine over the members of both; NaN where nothing is known, and on the diagonal.
    """
    n = len(concepts)
    cosines = np.full((n, n), np.nan)
    for dictionary, rows in rows_of.items():
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        between = (unit @ unit.T).astype(np.float64)
        here = [
            (i, list(concept.members))
            for i, concept in enumerate(concepts)
            if concept.dictionary == dictionary and concept.members[-1] < len(rows)
        ]
        for i, members in here:
            for j, others in here:
                if i != j:
                    cosines[i, j] = between[np.ix_(members, others)].max()
    return cosines
