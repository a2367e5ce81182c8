"""Rings of arcs around every component, and their coordinates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conceptseg.geometry._arcs import Arcs
from conceptseg.geometry._kernel import kernel


class Rings(NamedTuple):
    """The rings around every component, sorted by component, the shell before its holes.

    Attributes:
        halves: (2 n_arcs,) int32, the half-arcs of all rings, in order along the ring.
        start: (n_rings + 1,) int64, where the half-arcs of every ring start.
        component: (n_rings,) int32, the component on the left of the ring, -1 outside the map.
        area2: (n_rings,) int64, twice the exact signed area in px²; negative for holes.
    """

    halves: NDArray[np.int32]
    start: NDArray[np.int64]
    component: NDArray[np.int32]
    area2: NDArray[np.int64]


def join_rings(arcs: Arcs) -> Rings:
    """Join the half-arcs of every component, of the background and of the outside to rings.

    Every ring passes any pixel corner at most once, so it is simple: where a component touches itself
    diagonally, its outline is split at the contact into a shell and a hole that touch there.
    """
    halves, start = _walk(arcs.left, arcs.end, arcs.heading, arcs.leaving)
    area2 = ring_sums(halves, start, _cross_sums(arcs.x, arcs.y, arcs.start))
    component = arcs.left[halves[start[:-1]]]
    order = np.lexsort((area2 < 0, component))
    sorted_halves, sorted_start = _reorder(halves, start, order)
    return Rings(sorted_halves, sorted_start, component[order], area2[order])


@kernel
def _walk(
    left: NDArray[np.int32], end: NDArray[np.int32], heading: NDArray[np.int8], leaving: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    n_halves = left.size
    seen = np.zeros(n_halves, np.bool_)
    halves = np.empty(n_halves, np.int32)
    start = np.empty(n_halves + 1, np.int64)
    n_rings = 0
    n = 0
    for first in range(n_halves):
        if seen[first]:
            continue
        start[n_rings] = n
        n_rings += 1
        half = first
        while not seen[half]:
            seen[half] = True
            halves[n] = half
            n += 1
            node = end[half]
            if node < 0:
                break
            ahead = heading[half]
            right = leaving[node, (ahead + 3) & 3]
            onward = leaving[node, ahead]
            turn_left = leaving[node, (ahead + 1) & 3]
            # Straight on to the component's own pixel beyond a diagonal contact; else stay close to the left.
            if turn_left >= 0 and onward >= 0 and right >= 0 and left[right] == left[half]:
                half = right
            elif turn_left >= 0:
                half = turn_left
            elif onward >= 0:
                half = onward
            else:
                half = right
    start[n_rings] = n
    return halves, start[: n_rings + 1].copy()


@kernel
def _cross_sums(x: NDArray[np.int32], y: NDArray[np.int32], start: NDArray[np.int64]) -> NDArray[np.int64]:
    sums = np.zeros(start.size - 1, np.int64)
    for arc in range(sums.size):
        for i in range(start[arc], start[arc + 1] - 1):
            sums[arc] += np.int64(x[i]) * y[i + 1] - np.int64(x[i + 1]) * y[i]
    return sums


@kernel
def ring_sums(halves: NDArray[np.int32], start: NDArray[np.int64], cross_sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """Twice the signed area of every ring from the cross sums of the arcs (shoelace formula)."""
    area2 = np.zeros(start.size - 1, np.int64)
    for ring in range(area2.size):
        for i in range(start[ring], start[ring + 1]):
            half = halves[i]
            area2[ring] += cross_sums[half >> 1] * (1 - 2 * (half & 1))
    return area2


@kernel
def _reorder(
    halves: NDArray[np.int32], start: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    sorted_halves = np.empty_like(halves)
    sorted_start = np.empty_like(start)
    n = 0
    for k in range(order.size):
        sorted_start[k] = n
        for i in range(start[order[k]], start[order[k] + 1]):
            sorted_halves[n] = halves[i]
            n += 1
    sorted_start[order.size] = n
    return sorted_halves, sorted_start


@kernel
def ring_coordinates(
    halves: NDArray[np.int32],
    start: NDArray[np.int64],
    rings: NDArray[np.int64],
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    chain_start: NDArray[np.int64],
    chain_size: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Coordinates of the closed ``rings``, and where each starts.

    Args:
        halves: As in `Rings`.
        start: As in `Rings`.
        rings: Indices of the wanted rings.
        x2: Twice the x of the points of every arc, in px.
        y2: Twice the y.
        chain_start: (n_arcs,) where the points of every arc start.
        chain_size: (n_arcs,) number of points of every arc.
    """
    n_rings = rings.size
    offsets = np.empty(n_rings + 1, np.int64)
    n = 0
    for ring in range(n_rings):
        offsets[ring] = n
        for i in range(start[rings[ring]], start[rings[ring] + 1]):
            n += chain_size[halves[i] >> 1] - 1
        n += 1
    offsets[n_rings] = n
    coordinates = np.empty((n, 2), np.float64)
    n = 0
    for ring in range(n_rings):
        for i in range(start[rings[ring]], start[rings[ring] + 1]):
            half = halves[i]
            arc = half >> 1
            # Each arc without its last point, which is the first of the next.
            point = chain_start[arc] + (chain_size[arc] - 1 if half & 1 else 0)
            step = -1 if half & 1 else 1
            for _ in range(chain_size[arc] - 1):
                coordinates[n, 0] = 0.5 * x2[point]
                coordinates[n, 1] = 0.5 * y2[point]
                point += step
                n += 1
        coordinates[n, 0] = coordinates[offsets[ring], 0]
        coordinates[n, 1] = coordinates[offsets[ring], 1]
        n += 1
    return coordinates, offsets
