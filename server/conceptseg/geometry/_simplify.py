"""Simplify all arcs at once without changing the topology of the map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conceptseg.geometry._arcs import Arcs
from conceptseg.geometry._chains import EXACT, Chains
from conceptseg.geometry._conflicts import (
    CELL_SHIFT,
    CLEARANCE_PX,
    index_segments,
    mark_contacts,
    mark_misplaced,
    mark_reordered,
)
from conceptseg.geometry._kernel import kernel
from conceptseg.geometry._rings import Rings, ring_sums

_LARGEST_DRIFT = 0.2
"""Rings whose area would change by a larger share keep more detail: smoothing alone halves a single pixel."""


def simplify_arcs(arcs: Arcs, rings: Rings, *, tolerance_px: float, shape: tuple[int, int]) -> Chains:
    """Simplify every arc once with ``tolerance_px``, and less where the result would not be a valid map.

    Arcs in conflict step down from the whole tolerance over half of it and mere smoothing to the exact
    cracks. Exact and smoothed arcs never conflict with each other, so this ends.

    Args:
        arcs: The arcs of a map of ``shape``.
        rings: Their rings.
        tolerance_px: Largest distance between an exact and a simplified arc in px; 0 keeps every turn.
        shape: (h, w).
    """
    chains = Chains(arcs.x, arcs.y, arcs.start, tolerance_px=tolerance_px)
    closed = arcs.end[::2] < 0
    level = np.full(closed.size, EXACT if tolerance_px == 0 else 0, np.int8)
    changed = np.ones(closed.size, np.bool_)
    while True:
        chains.simplify(changed, level, closed)
        if (level == EXACT).all():
            return chains
        recent = changed
        while (drifted := _drifted(rings, chains) & (level < EXACT)).any():
            level[drifted] += 1
            chains.simplify(drifted, level, closed)
            recent |= drifted
        conflict = _conflicts(arcs, rings, chains, recent, tolerance_px=tolerance_px, shape=shape)
        if not conflict.any():
            return chains
        changed = conflict & (level < EXACT)
        if not changed.any():
            changed = level < EXACT
            level[changed] = EXACT - 1
        level[changed] += 1


def _drifted(rings: Rings, chains: Chains) -> NDArray[np.bool_]:
    """Mark the arcs of rings that turned inside out or lost or gained too much area."""
    area8 = ring_sums(rings.halves, rings.start, chains.cross_sums())
    drift = np.abs(area8 - 4 * rings.area2) > _LARGEST_DRIFT * np.abs(4 * rings.area2)
    marks = np.zeros(chains.size.size, np.bool_)
    _mark_rings(np.flatnonzero(drift), rings.halves, rings.start, marks)
    return marks


@kernel
def _mark_rings(
    which: NDArray[np.int64], halves: NDArray[np.int32], start: NDArray[np.int64], marks: NDArray[np.bool_]
) -> None:
    for ring in which:
        for i in range(start[ring], start[ring + 1]):
            marks[halves[i] >> 1] = True


def _conflicts(
    arcs: Arcs,
    rings: Rings,
    chains: Chains,
    changed: NDArray[np.bool_],
    *,
    tolerance_px: float,
    shape: tuple[int, int],
) -> NDArray[np.bool_]:
    """Mark the arcs that take part in a change of topology."""
    conflict = np.zeros(changed.size, np.bool_)
    points = chains.x2, chains.y2, chains.start, chains.size
    grid = index_segments(*points, shape=shape)
    mark_contacts(chains.x2, chains.y2, grid.start, grid.segment, grid.arc, changed, 2 * CLEARANCE_PX, conflict)
    mark_reordered(*points, arcs.leaving, conflict)
    if not conflict.any():
        # Only meaningful in a drawing without crossings.
        mark_misplaced(
            *points,
            arcs.left,
            rings.halves,
            rings.start,
            rings.component,
            rings.area2,
            *grid,
            CELL_SHIFT,
            int(2 * tolerance_px) + 1,
            conflict,
        )
    return conflict
