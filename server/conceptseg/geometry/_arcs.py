"""Outlines as arcs: the crack edges of a label map, traced once between junctions.

A crack is the unit edge between two pixels of different label. Directions are 0 = east (+x), 1 = south (+y),
2 = west, 3 = north; "left" of a direction is the next one, so a ring with its component on the left has a
positive area in (x right, y down) coordinates.

A pixel corner is a *node* when at least three cracks meet there, or when an outline turns on the border of
the map, which keeps the border straight. Every crack belongs to exactly one arc between two nodes, or to a
closed arc without node. Each arc is two half-arcs: 2a runs along it, 2a + 1 against it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.labels import Labels, Runs
from conceptseg.geometry._kernel import kernel
from conceptseg.geometry.components import Components, touches_border

_Integer = TypeVar("_Integer", bound=np.signedinteger)

OUTSIDE = -1
"""The component number of everything beyond the map, and of the unlabelled areas that reach its border."""


class Arcs(NamedTuple):
    """All arcs of a label map.

    Attributes:
        x: (n_points,) int32, the x of both ends and of every turn of every arc. A closed arc repeats its
            first point at the end.
        y: (n_points,) int32.
        start: (n_arcs + 1,) int64, where the points of every arc start.
        left: (2 n_arcs,) int32, the component on the left of every half-arc.
        end: (2 n_arcs,) int32, the node at the end of every half-arc, -1 for closed arcs.
        heading: (2 n_arcs,) int8, the direction in which a half-arc arrives at its end.
        leaving: (n_nodes, 4) int32, the half-arc that leaves a node in every direction, or -1.
    """

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    start: NDArray[np.int64]
    left: NDArray[np.int32]
    end: NDArray[np.int32]
    heading: NDArray[np.int8]
    leaving: NDArray[np.int32]


def trace_arcs(labels: Labels, components: Components) -> Arcs:
    """Trace every crack of ``labels`` (h, w) once."""
    height, width = labels.shape
    padded = np.zeros((height + 2, width + 2), labels.dtype)
    padded[1:-1, 1:-1] = labels
    cracks = np.empty((height + 1, width + 1), np.uint8)
    is_corner = np.empty(cracks.shape, np.bool_)
    _find_cracks(padded, cracks, is_corner)
    arcs = Arcs(
        *_trace(
            cracks,
            components.runs,
            np.flatnonzero(is_corner),
            _CRACK_COUNT,
        )
    )
    # No crack separates unlabelled areas at the border from what is beyond it: they are one face.
    is_open = touches_border(components) & (components.label == 0)
    arcs.left[(arcs.left >= 0) & is_open[arcs.left]] = OUTSIDE
    return arcs


_CRACK_COUNT = np.array([bits.bit_count() for bits in range(16)])


@kernel
def _find_cracks(padded: Labels, cracks: NDArray[np.uint8], is_corner: NDArray[np.bool_]) -> None:
    """Write the directions of the cracks at every pixel corner, one bit each, and where they turn or meet.

    Without a branch, so that the compiler makes it one pass of vector instructions.
    """
    height, width = cracks.shape
    for y in range(height):
        for x in range(width):
            east = np.uint8(padded[y, x + 1] != padded[y + 1, x + 1])
            south = np.uint8(padded[y + 1, x] != padded[y + 1, x + 1])
            west = np.uint8(padded[y, x] != padded[y + 1, x])
            north = np.uint8(padded[y, x] != padded[y, x + 1])
            cracks[y, x] = east | (south << 1) | (west << 2) | (north << 3)
            is_corner[y, x] = (east ^ west) | (south ^ north) | (east & south)


@kernel
def _component_on_left(runs: Runs, width: int, y: int, x: int, direction: int) -> int:
    """The component left of the crack that leaves the pixel corner (y, x) in ``direction``."""
    if direction == 1 or direction == 2:
        x -= 1
    if direction >= 2:
        y -= 1
    if y < 0 or x < 0 or y >= runs.row_start.size - 1 or x >= width:
        return -1
    return int(runs.component[_last_up_to(runs.first, runs.row_start[y], runs.row_start[y + 1], x)])


@kernel
def _last_up_to(ascending: NDArray[_Integer], low: int, high: int, value: int) -> int:
    """Index of the last of ``ascending[low:high]`` that is not above ``value``; ``low`` where all are."""
    while high - low > 1:
        middle = (low + high) // 2
        if ascending[middle] <= value:
            low = middle
        else:
            high = middle
    return low


@kernel
def _trace(
    cracks: NDArray[np.uint8],
    runs: Runs,
    corners: NDArray[np.int64],
    crack_count: NDArray[np.int64],
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int8],
    NDArray[np.int32],
]:
    """Follow the cracks; ``cracks`` is used up on the way."""
    height, width = cracks.shape
    step_x = (1, 0, -1, 0)
    step_y = (0, 1, 0, -1)

    # Count first, so that every array has its final size.
    n_nodes = 0
    n_turns = 0
    n_ends = 0
    for position in corners:
        y = position // width
        x = position - y * width
        bits = cracks[y, x]
        if crack_count[bits] >= 3 or y == 0 or x == 0 or y == height - 1 or x == width - 1:
            cracks[y, x] = bits | 16
            n_nodes += 1
            n_ends += crack_count[bits]
        else:
            n_turns += 1
    nodes = np.empty(n_nodes, np.int64)
    leaving = np.full((n_nodes, 4), -1, np.int32)
    # A closed arc has at least four turns.
    max_arcs = n_ends // 2 + n_turns // 4
    max_points = n_turns + 2 * max_arcs
    point_x = np.empty(max_points, np.int32)
    point_y = np.empty(max_points, np.int32)
    start = np.empty(max_arcs + 1, np.int64)
    left = np.empty(2 * max_arcs, np.int32)
    end = np.empty(2 * max_arcs, np.int32)
    heading = np.empty(2 * max_arcs, np.int8)

    node = 0
    for position in corners:
        if cracks[position // width, position % width] & 16:
            nodes[node] = position
            node += 1

    arc = 0
    point = 0
    # First from node to node, in raster order; then what is left are closed arcs, which start at their
    # topmost leftmost corner, where the cracks go east and south.
    for closed in range(2):
        n_starts = corners.size if closed else n_nodes
        for candidate in range(n_starts):
            position = corners[candidate] if closed else nodes[candidate]
            y0 = position // width
            x0 = position - y0 * width
            if closed and cracks[y0, x0] != 3:
                continue
            for first in range(4):
                if (closed and first > 0) or (not closed and not (cracks[y0, x0] >> first) & 1):
                    continue
                y = y0
                x = x0
                direction = first
                start[arc] = point
                left[2 * arc] = _component_on_left(runs, width - 1, y, x, direction)
                point_x[point] = x
                point_y[point] = y
                point += 1
                if not closed:
                    cracks[y, x] &= ~np.uint8(1 << first)
                while True:
                    y += step_y[direction]
                    x += step_x[direction]
                    bits = cracks[y, x]
                    if bits & 16 or (closed and y == y0 and x == x0):
                        break
                    if not (bits >> direction) & 1:
                        point_x[point] = x
                        point_y[point] = y
                        point += 1
                        turned = (direction + 1) & 3
                        direction = turned if (bits >> turned) & 1 else (direction + 3) & 3
                    cracks[y, x] = 0
                back = (direction + 2) & 3
                left[2 * arc + 1] = _component_on_left(runs, width - 1, y, x, back)
                point_x[point] = x
                point_y[point] = y
                point += 1
                heading[2 * arc] = direction
                heading[2 * arc + 1] = (first + 2) & 3
                if closed:
                    cracks[y, x] = 0
                    end[2 * arc] = -1
                    end[2 * arc + 1] = -1
                else:
                    cracks[y, x] &= ~np.uint8(1 << back)
                    other = _last_up_to(nodes, 0, nodes.size, y * width + x)
                    end[2 * arc] = other
                    end[2 * arc + 1] = candidate
                    leaving[candidate, first] = 2 * arc
                    leaving[other, back] = 2 * arc + 1
                arc += 1
    start[arc] = point
    return (
        point_x[:point].copy(),
        point_y[:point].copy(),
        start[: arc + 1].copy(),
        left[: 2 * arc].copy(),
        end[: 2 * arc].copy(),
        heading[: 2 * arc].copy(),
        leaving,
    )
