"""Chains: the simplified points of every arc, in half pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conceptseg.geometry._kernel import kernel

EXACT = 3
"""The level of an arc that keeps every turn.

Level 0 is simplified with the whole tolerance, 1 with half of it, 2 is only smoothed.
"""

SMOOTHING_PX = float(np.sqrt(0.125))
"""How far a chain of crack midpoints strays from the cracks: from a corner to the line that cuts it."""


class Chains:
    """The points of every arc at its current level of detail.

    Attributes:
        x2: (capacity,) int32, twice the x in px, so that the middle of a crack is an integer.
        y2: (capacity,) int32.
        start: (n_arcs,) int64, where the points of every arc start.
        size: (n_arcs,) int64, number of points; a closed arc repeats the first point at the end.
    """

    def __init__(
        self, x: NDArray[np.int32], y: NDArray[np.int32], start: NDArray[np.int64], *, tolerance_px: float
    ) -> None:
        self._x, self._y, self._start = x, y, start
        # Smoothing replaces a turn by at most two points, and an arc has fewer cracks than turns plus ends.
        self.start = 2 * start[:-1]
        self.size = np.zeros(start.size - 1, np.int64)
        self.x2 = np.empty(2 * x.size, np.int32)
        self.y2 = np.empty(2 * x.size, np.int32)
        self._smooth = tolerance_px > SMOOTHING_PX
        self._tolerance2 = 2 * (tolerance_px - SMOOTHING_PX if self._smooth else tolerance_px)

    def simplify(self, arcs: NDArray[np.bool_], level: NDArray[np.int8], closed: NDArray[np.bool_]) -> None:
        """Build the chains of the arcs marked in ``arcs`` anew, each at its ``level``."""
        _simplify(
            self._x,
            self._y,
            self._start,
            arcs,
            level,
            closed,
            self._smooth,
            self._tolerance2,
            self.x2,
            self.y2,
            self.start,
            self.size,
        )

    def cross_sums(self) -> NDArray[np.int64]:
        """The arcs' contributions to eight times the signed area of a ring in px²."""
        return _cross_sums(self.x2, self.y2, self.start, self.size)


@kernel
def _cross_sums(
    x2: NDArray[np.int32], y2: NDArray[np.int32], start: NDArray[np.int64], size: NDArray[np.int64]
) -> NDArray[np.int64]:
    sums = np.zeros(start.size, np.int64)
    for arc in range(start.size):
        for i in range(start[arc], start[arc] + size[arc] - 1):
            sums[arc] += np.int64(x2[i]) * y2[i + 1] - np.int64(x2[i + 1]) * y2[i]
    return sums


@kernel
def _simplify(
    x: NDArray[np.int32],
    y: NDArray[np.int32],
    start: NDArray[np.int64],
    selected: NDArray[np.bool_],
    level: NDArray[np.int8],
    closed: NDArray[np.bool_],
    smooth: bool,
    tolerance2: float,
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    chain_start: NDArray[np.int64],
    chain_size: NDArray[np.int64],
) -> None:
    longest = 0
    for arc in range(start.size - 1):
        longest = max(longest, start[arc + 1] - start[arc])
    turned_x = np.empty(2 * longest, np.int32)
    turned_y = np.empty(2 * longest, np.int32)
    keep = np.empty(2 * longest, np.bool_)
    stack = np.empty((2 * longest + 2, 2), np.int64)
    for arc in range(start.size - 1):
        if not selected[arc]:
            continue
        out = chain_start[arc]
        exact = level[arc] >= 3
        if exact or not smooth:
            n = start[arc + 1] - start[arc]
            for i in range(n):
                x2[out + i] = 2 * x[start[arc] + i]
                y2[out + i] = 2 * y[start[arc] + i]
        else:
            n = _crack_midpoints(x, y, start[arc], start[arc + 1], closed[arc], x2, y2, out)
        if not exact and n > 2:
            if closed[arc]:
                _rotate_to_extreme(x2, y2, out, n, turned_x, turned_y)
            tolerance = tolerance2 if level[arc] == 0 else 0.5 * tolerance2 if level[arc] == 1 else 0.0
            n = _douglas_peucker(x2, y2, out, n, closed[arc], tolerance * tolerance, keep, stack)
        chain_size[arc] = n


@kernel
def _crack_midpoints(
    x: NDArray[np.int32],
    y: NDArray[np.int32],
    start: int,
    stop: int,
    closed: bool,
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    out: int,
) -> int:
    """Write the ends of an arc and between them the first and last crack midpoint of every straight run.

    A staircase becomes a line, a corner is cut. The ends of a closed arc are midpoints as well.
    """
    n = out
    if not closed:
        x2[n] = 2 * x[start]
        y2[n] = 2 * y[start]
        n += 1
    for i in range(start, stop - 1):
        dx = np.sign(x[i + 1] - x[i])
        dy = np.sign(y[i + 1] - y[i])
        single = abs(x[i + 1] - x[i]) + abs(y[i + 1] - y[i]) == 1
        if closed or i > start:
            x2[n] = 2 * x[i] + dx
            y2[n] = 2 * y[i] + dy
            n += 1
        if (closed or i < stop - 2) and not (single and (closed or i > start)):
            x2[n] = 2 * x[i + 1] - dx
            y2[n] = 2 * y[i + 1] - dy
            n += 1
    if closed:
        x2[n] = x2[out]
        y2[n] = y2[out]
    else:
        x2[n] = 2 * x[stop - 1]
        y2[n] = 2 * y[stop - 1]
    return n + 1 - out


@kernel
def _farthest(x2: NDArray[np.int32], y2: NDArray[np.int32], start: int, n: int, origin: int) -> int:
    best = origin
    best_distance = np.int64(0)
    for i in range(start, start + n):
        dx = np.int64(x2[i]) - x2[origin]
        dy = np.int64(y2[i]) - y2[origin]
        if dx * dx + dy * dy > best_distance:
            best_distance = dx * dx + dy * dy
            best = i
    return best


@kernel
def _rotate_to_extreme(
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    start: int,
    n: int,
    turned_x: NDArray[np.int32],
    turned_y: NDArray[np.int32],
) -> None:
    """Let a closed chain begin at an extreme point, since its ends are never removed."""
    first = _farthest(x2, y2, start, n - 1, start) - start
    for i in range(n - 1):
        source = start + (first + i) % (n - 1)
        turned_x[i] = x2[source]
        turned_y[i] = y2[source]
    for i in range(n - 1):
        x2[start + i] = turned_x[i]
        y2[start + i] = turned_y[i]
    x2[start + n - 1] = turned_x[0]
    y2[start + n - 1] = turned_y[0]


@kernel
def _douglas_peucker(
    x2: NDArray[np.int32],
    y2: NDArray[np.int32],
    start: int,
    n: int,
    closed: bool,
    tolerance_squared: float,
    keep: NDArray[np.bool_],
    stack: NDArray[np.int64],
) -> int:
    """Remove points within the tolerance of the line that replaces them, in place; return how many are left.

    Douglas & Peucker 1973, with the distance to the segment and not to its line. It is quadratic in bad cases
    such as combs, so every 512th point stays and bounds the work.
    """
    keep[:n] = False
    keep[0] = True
    keep[n - 1] = True
    if closed:
        keep[_farthest(x2, y2, start, n, start) - start] = True
    for i in range(512, n - 256, 512):
        keep[i] = True
    depth = 0
    previous = 0
    for i in range(1, n):
        if keep[i]:
            stack[depth, 0] = previous
            stack[depth, 1] = i
            depth += 1
            previous = i
    while depth > 0:
        depth -= 1
        low = stack[depth, 0]
        high = stack[depth, 1]
        ax = float(x2[start + low])
        ay = float(y2[start + low])
        dx = x2[start + high] - ax
        dy = y2[start + high] - ay
        length = dx * dx + dy * dy
        worst = tolerance_squared
        split = -1
        for i in range(low + 1, high):
            px = x2[start + i] - ax
            py = y2[start + i] - ay
            along = px * dx + py * dy
            if along <= 0.0:
                distance = px * px + py * py
            elif along >= length:
                distance = (px - dx) ** 2 + (py - dy) ** 2
            else:
                across = px * dy - py * dx
                distance = across * across / length
            if distance > worst:
                worst = distance
                split = i
        if split >= 0:
            keep[split] = True
            stack[depth, 0] = low
            stack[depth, 1] = split
            stack[depth + 1, 0] = split
            stack[depth + 1, 1] = high
            depth += 2
    count = 0
    for i in range(n):
        if keep[i]:
            x2[start + count] = x2[start + i]
            y2[start + count] = y2[start + i]
            count += 1
    return count
