"""Where simplified arcs would change the topology of the map.

Four conditions together make a simplified map a faithful copy of the exact one:

1. no two segments cross or come closer than a clearance, except neighbours at their common point;
2. the arcs leave every node in their old cyclic order;
3. no ring turns inside out (checked with the areas, by the caller);
4. every island still lies in the face it lay in.

1 makes it a plane drawing, 2 fixes its faces, 3 which of them is the outer one, 4 how separate parts nest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conceptseg.geometry._kernel import kernel

CLEARANCE_PX = 0.36
"""Smallest distance between outlines that do not touch.

Vertices may then move by a quarter of a full-resolution pixel's rounding (1/8 px per axis, for both outlines
together 0.354 px) before anything can touch. Smoothed and exact arcs keep 0.5 px, so every arc can reach it.
"""

CELL_SHIFT = 4
"""Cells of the search grid are 2^4 half pixels wide."""


class SegmentGrid(NamedTuple):
    """All segments by the cells of a uniform grid that they pass.

    Attributes:
        start: (n_cells + 1,) int64, where the segments of every cell start; cells in raster order.
        segment: (n,) int64, index of the first point of each segment.
        arc: (n,) int32, the arc of each segment.
        columns: Cells per row.
    """

    start: NDArray[np.int64]
    segment: NDArray[np.int64]
    arc: NDArray[np.int32]
    columns: int


def index_segments(
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    chain_start: NDArray[np.int64],
    chain_size: NDArray[np.int64],
    *,
    shape: tuple[int, int],
) -> SegmentGrid:
    """Sort the segments of all chains into a uniform grid over a map of ``shape`` (h, w) px."""
    rows = (2 * shape[0] >> CELL_SHIFT) + 1
    columns = (2 * shape[1] >> CELL_SHIFT) + 1
    start = np.zeros(rows * columns + 1, np.int64)
    nothing = np.empty(0, np.int64), np.empty(0, np.int32)
    _fill_grid(x2, y2, chain_start, chain_size, rows, columns, CELL_SHIFT, start, *nothing, False)
    total = int(start[-1])
    segment, arc = np.empty(total, np.int64), np.empty(total, np.int32)
    _fill_grid(x2, y2, chain_start, chain_size, rows, columns, CELL_SHIFT, start, segment, arc, True)
    return SegmentGrid(start, segment, arc, columns)


@kernel
def _fill_grid(
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    chain_start: NDArray[np.int64],
    chain_size: NDArray[np.int64],
    rows: int,
    columns: int,
    shift: int,
    start: NDArray[np.int64],
    segment: NDArray[np.int64],
    segment_arc: NDArray[np.int32],
    fill: bool,
) -> None:
    """Count the segments per cell and turn counts into ends, or fill the cells from their ends backwards."""
    margin = 0.5  # half pixels; more than half the clearance
    cell = float(1 << shift)
    for arc in range(chain_start.size):
        for i in range(chain_start[arc], chain_start[arc] + chain_size[arc] - 1):
            ax = float(x2[i])
            ay = float(y2[i])
            bx = float(x2[i + 1])
            by = float(y2[i + 1])
            if ay > by:
                ax, ay, bx, by = bx, by, ax, ay
            low = max(0, int((ay - margin) / cell))
            high = min(rows - 1, int((by + margin) / cell))
            for row in range(low, high + 1):
                # The part of the segment within the row.
                x_low = ax
                x_high = bx
                if high > low:
                    slope = (bx - ax) / (by - ay) if by > ay else 0.0
                    x_low = ax + slope * (max(ay, row * cell - margin) - ay)
                    x_high = ax + slope * (min(by, (row + 1) * cell + margin) - ay)
                    if by == ay:
                        x_high = bx
                if x_low > x_high:
                    x_low, x_high = x_high, x_low
                first = max(0, int((x_low - margin) / cell))
                last = min(columns - 1, int((x_high + margin) / cell))
                for column in range(first, last + 1):
                    place = row * columns + column
                    if fill:
                        start[place] -= 1
                        segment[start[place]] = i
                        segment_arc[start[place]] = arc
                    else:
                        start[place] += 1
    if not fill:
        for place in range(1, start.size):
            start[place] += start[place - 1]


@kernel
def _is_near(px: int, py: int, ax: int, ay: int, bx: int, by: int, limit: float) -> bool:
    """Whether the point p is nearer to the segment ab than the square root of ``limit``."""
    dx = float(bx - ax)
    dy = float(by - ay)
    x = float(px - ax)
    y = float(py - ay)
    along = x * dx + y * dy
    length = dx * dx + dy * dy
    if along <= 0.0:
        return x * x + y * y < limit
    if along >= length:
        return (x - dx) ** 2 + (y - dy) ** 2 < limit
    across = x * dy - y * dx
    return across * across < limit * length


@kernel
def _cross(ax: int, ay: int, bx: int, by: int, cx: int, cy: int) -> int:
    """Twice the signed area of the triangle abc: its sign says on which side of ab the point c lies."""
    # Numba adds and multiplies int32 as int64.
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


@kernel
def mark_contacts(
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    grid_start: NDArray[np.int64],
    grid_segment: NDArray[np.int64],
    grid_arc: NDArray[np.int32],
    changed: NDArray[np.bool_],
    clearance2: float,
    conflict: NDArray[np.bool_],
) -> None:
    """Mark both arcs of every two segments that cross or come too close.

    Args:
        x2: Twice the x of all points.
        y2: Twice the y.
        grid_start: See `SegmentGrid`.
        grid_segment: See `SegmentGrid`.
        grid_arc: See `SegmentGrid`.
        changed: (n_arcs,) only pairs with one of these arcs are looked at.
        clearance2: Twice the smallest allowed distance in px.
        conflict: (n_arcs,) the marks.
    """
    limit = clearance2 * clearance2
    margin = int(np.ceil(clearance2))
    for place in range(grid_start.size - 1):
        begin = grid_start[place]
        stop = grid_start[place + 1]
        for first in range(begin, stop):
            i = grid_segment[first]
            ax = x2[i]
            ay = y2[i]
            bx = x2[i + 1]
            by = y2[i + 1]
            left = min(ax, bx) - margin
            right = max(ax, bx) + margin
            top = min(ay, by) - margin
            bottom = max(ay, by) + margin
            arc = grid_arc[first]
            for second in range(first + 1, stop):
                j = grid_segment[second]
                cx = x2[j]
                cy = y2[j]
                dx = x2[j + 1]
                dy = y2[j + 1]
                if (
                    (cx < left and dx < left)
                    or (cx > right and dx > right)
                    or (cy < top and dy < top)
                    or (cy > bottom and dy > bottom)
                ):
                    continue
                other = grid_arc[second]
                if not (changed[arc] or changed[other]) or (conflict[arc] and conflict[other]):
                    continue
                # Different vertices never have equal coordinates, so equal coordinates are a common point.
                a_shared = (ax == cx and ay == cy) or (ax == dx and ay == dy)
                b_shared = (bx == cx and by == cy) or (bx == dx and by == dy)
                c_shared = (cx == ax and cy == ay) or (cx == bx and cy == by)
                d_shared = (dx == ax and dy == ay) or (dx == bx and dy == by)
                bad = a_shared and b_shared
                if not bad and not a_shared and not b_shared:
                    bad = (_cross(ax, ay, bx, by, cx, cy) > 0) != (_cross(ax, ay, bx, by, dx, dy) > 0) and (
                        _cross(cx, cy, dx, dy, ax, ay) > 0
                    ) != (_cross(cx, cy, dx, dy, bx, by) > 0)
                if (
                    bad
                    or (not a_shared and _is_near(ax, ay, cx, cy, dx, dy, limit))
                    or (not b_shared and _is_near(bx, by, cx, cy, dx, dy, limit))
                    or (not c_shared and _is_near(cx, cy, ax, ay, bx, by, limit))
                    or (not d_shared and _is_near(dx, dy, ax, ay, bx, by, limit))
                ):
                    conflict[arc] = True
                    conflict[other] = True


@kernel
def _in_order(ax: int, ay: int, bx: int, by: int, cx: int, cy: int) -> bool:
    """Whether turning from direction a towards its left one meets b before c."""
    if _cross(0, 0, cx, cy, ax, ay) < 0:
        return _cross(0, 0, ax, ay, bx, by) > 0 and _cross(0, 0, bx, by, cx, cy) > 0
    return not (_cross(0, 0, cx, cy, bx, by) >= 0 and _cross(0, 0, bx, by, ax, ay) >= 0)


@kernel
def mark_reordered(
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    chain_start: NDArray[np.int64],
    chain_size: NDArray[np.int64],
    leaving: NDArray[np.int32],
    conflict: NDArray[np.bool_],
) -> None:
    """Mark the arcs at nodes that they leave in another cyclic order than east, south, west, north."""
    dx = np.empty(4, np.int64)
    dy = np.empty(4, np.int64)
    for node in range(leaving.shape[0]):
        n = 0
        for direction in range(4):
            half = leaving[node, direction]
            if half >= 0:
                arc = half >> 1
                point = chain_start[arc] + (chain_size[arc] - 1 if half & 1 else 0)
                second = point + (-1 if half & 1 else 1)
                dx[n] = x2[second] - x2[point]
                dy[n] = y2[second] - y2[point]
                n += 1
        good = True
        for k in range(2, n):
            good = good and _in_order(dx[0], dy[0], dx[k - 1], dy[k - 1], dx[k], dy[k])
        if not good:
            for direction in range(4):
                if leaving[node, direction] >= 0:
                    conflict[leaving[node, direction] >> 1] = True


@kernel
def _face_left_of(
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    left: NDArray[np.int32],
    grid_start: NDArray[np.int64],
    grid_segment: NDArray[np.int64],
    grid_arc: NDArray[np.int32],
    columns: int,
    shift: int,
    segment: int,
    px: float,
    py: float,
) -> int:
    """The component just left (-x) of the point p of a segment, seen by going left to the next segment."""
    row = int(py) >> shift
    for column in range(int(px) >> shift, -1, -1):
        best = -1.0
        face = -1
        place = row * columns + column
        for k in range(grid_start[place], grid_start[place + 1]):
            i = grid_segment[k]
            ay = y2[i]
            by = y2[i + 1]
            if i == segment or (ay < py) == (by < py):
                continue
            x = x2[i] + (py - ay) * (x2[i + 1] - x2[i]) / (by - ay)
            if best < x <= px:
                best = x
                # A segment that goes down has its left on the side of smaller x.
                face = left[2 * grid_arc[k] + (1 if by > ay else 0)]
        # A hit left of this cell may hide behind one in the next cell.
        if best >= column << shift:
            return face
    return -1


@kernel
def mark_misplaced(
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    chain_start: NDArray[np.int64],
    chain_size: NDArray[np.int64],
    left: NDArray[np.int32],
    halves: NDArray[np.int32],
    ring_start: NDArray[np.int64],
    component: NDArray[np.int32],
    area2: NDArray[np.int64],
    grid_start: NDArray[np.int64],
    grid_segment: NDArray[np.int64],
    grid_arc: NDArray[np.int32],
    columns: int,
    shift: int,
    reach2: int,
    conflict: NDArray[np.bool_],
) -> None:
    """Mark the arcs around islands that are no longer in the component around them.

    The arc to blame is one of the island or one that jumped over it. What an arc sweeps when it is simplified
    lies within the tolerance of the new segment, so the arc passes within ``reach2`` half pixels, the
    tolerance, of the island's leftmost place.
    """
    rows = (grid_start.size - 1) // columns
    for ring in range(component.size):
        if area2[ring] > 0:
            continue
        # The leftmost place of the ring, a little off the vertices, whose y are integers.
        segment = -1
        px = 0.0
        py = 0.0
        for k in range(ring_start[ring], ring_start[ring + 1]):
            arc = halves[k] >> 1
            for i in range(chain_start[arc], chain_start[arc] + chain_size[arc] - 1):
                if y2[i] == y2[i + 1]:
                    continue
                near = i if x2[i] <= x2[i + 1] else i + 1
                far = 2 * i + 1 - near
                down = 0.01 if y2[far] > y2[near] else -0.01
                x = x2[near] + down * (x2[far] - x2[near]) / (y2[far] - y2[near])
                if segment < 0 or x < px:
                    segment = i
                    px = x
                    py = y2[near] + down
        face = _face_left_of(x2, y2, left, grid_start, grid_segment, grid_arc, columns, shift, segment, px, py)
        if face == component[ring]:
            continue
        for k in range(ring_start[ring], ring_start[ring + 1]):
            conflict[halves[k] >> 1] = True
        x_low = max(0, (int(px) - reach2) >> shift)
        x_high = min(columns, ((int(px) + reach2) >> shift) + 1)
        y_low = max(0, (int(py) - reach2) >> shift)
        y_high = min(rows, ((int(py) + reach2) >> shift) + 1)
        for row in range(y_low, y_high):
            begin = row * columns + x_low
            stop = row * columns + x_high
            for k in range(grid_start[begin], grid_start[stop]):
                conflict[grid_arc[k]] = True
