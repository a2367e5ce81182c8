"""Connected components of a label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import Labels
from conceptseg.geometry._kernel import kernel

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """The 4-connected areas of equal label, unlabelled areas included.

    Components are numbered by their first pixel in raster order, so equal label maps number equally. Their pixels are
    runs: all of a row's pixels from one change of label to the next, in raster order.

    Attributes:
        shape: Height and width of the label map.
        run_start: (h + 1,) int64, the first run of every row, and the number of all.
        run_x: (runs,) int32, the first column of every run.
        run_component: (runs,) int32, its component.
        label: (n,) the label of every component, in the label map's dtype; 0 = unlabelled.
        area_px: (n,) int64, the number of pixels of every component.
    """

    shape: tuple[int, int]
    run_start: NDArray[np.int64]
    run_x: NDArray[np.int32]
    run_component: NDArray[np.int32]
    label: Labels
    area_px: NDArray[np.int64]

    def painted(self, value: NDArray[_Value]) -> NDArray[_Value]:
        """``value[component]`` of every pixel, (h, w), of (n,) values."""
        out = np.empty(self.shape, value.dtype)
        _paint(self.run_start, self.run_x, self.run_component, value, out)
        return out


def label_components(labels: Labels) -> Components:
    """Number the 4-connected areas of equal label, background components included.

    Runs of equal pixels are joined to the row above by union-find (Wu, Otoo & Suzuki 2009: a root is always
    the smallest provisional number, so one more pass over the provisional numbers gives final ones).

    Args:
        labels: (h, w) uint8 or uint16; 0 = unlabelled.

    Raises:
        InvalidRequestError: not a two-dimensional uint8 or uint16 array, or without pixels.
    """
    labels = require_labels(labels)
    runs = _count_runs(labels)
    run_start = np.empty(labels.shape[0] + 1, np.int64)
    run_x, run_component, parent = (np.empty(runs, np.int32) for _ in range(3))
    area = np.empty(runs, np.int64)
    label = np.empty(runs, labels.dtype)
    count = _number_runs(labels, run_start, run_x, run_component, parent, area, label)
    n_components = _resolve(run_component, parent[:count], area, label)
    return Components(
        shape=(labels.shape[0], labels.shape[1]),
        run_start=run_start,
        run_x=run_x,
        run_component=run_component,
        label=label[:n_components].copy(),
        area_px=area[:n_components].copy(),
    )


def touches_border(components: Components) -> NDArray[np.bool_]:
    """(n,) which components reach the border of the map."""
    start, component = components.run_start, components.run_component
    touches = np.zeros(components.area_px.size, np.bool_)
    for runs in (np.s_[: start[1]], np.s_[start[-2] :], start[:-1], start[1:] - 1):
        touches[component[runs]] = True
    return touches


def require_labels(labels: Labels) -> Labels:
    """Return ``labels`` in row-major memory order, or raise InvalidRequestError if it is no label map."""
    if labels.ndim != 2 or labels.size == 0 or labels.dtype not in (np.uint8, np.uint16):
        raise InvalidRequestError(
            f"Expected labels (h, w) of uint8 or uint16 with at least one pixel, got {labels.shape} of {labels.dtype}."
        )
    # The compiled loops index with int32, and outlines use half pixels.
    if labels.size >= 2**31 or max(labels.shape) >= 2**30:
        raise InvalidRequestError(
            f"Expected a label map of less than 2^31 pixels, got {labels.shape}. Choose a larger downsample."
        )
    contiguous: Labels = np.ascontiguousarray(labels)
    return contiguous


@kernel
def find_root(parent: NDArray[np.int32], item: int) -> int:
    """The representative of ``item`` in a union-find forest; halves the path on the way."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@kernel
def _count_runs(labels: Labels) -> int:
    height, width = labels.shape
    count = height
    for y in range(height):
        for x in range(1, width):
            count += labels[y, x] != labels[y, x - 1]
    return int(count)


@kernel
def _number_runs(
    labels: Labels,
    run_start: NDArray[np.int64],
    run_x: NDArray[np.int32],
    run_component: NDArray[np.int32],
    parent: NDArray[np.int32],
    area: NDArray[np.int64],
    label: Labels,
) -> int:
    """Give every run of equal pixels the number of the equal runs that it touches above, or a new one."""
    height, width = labels.shape
    change = np.zeros(-(-width // 8) * 8, np.uint8)
    change[0] = 1
    eight_changes = change.view(np.uint64)
    count = 0
    runs = 0
    above = 0  # the first run of the row above that ends right of where this row has come to
    for y in range(height):
        run_start[y] = runs
        end_above = runs
        for x in range(1, width):
            change[x] = labels[y, x] != labels[y, x - 1]
        for eight in range(eight_changes.size):
            if eight_changes[eight] != 0:
                for x in range(8 * eight, 8 * eight + 8):
                    if change[x]:
                        run_x[runs] = x
                        runs += 1
        for run in range(end_above, runs):
            start = run_x[run]
            end = run_x[run + 1] if run + 1 < runs else width
            value = labels[y, start]
            own = -1
            while above < end_above:
                if label[run_component[above]] == value:
                    root = find_root(parent, run_component[above])
                    if own < 0:
                        own = root
                    elif root < own:
                        parent[own] = root
                        own = root
                    elif root > own:
                        parent[root] = own
                right = run_x[above + 1] if above + 1 < end_above else width
                if right > end:
                    break
                above += 1
                if right == end:
                    break
            if own < 0:
                own = count
                parent[own] = own
                area[own] = 0
                label[own] = value
                count += 1
            area[own] += end - start
            run_component[run] = own
        above = end_above
    run_start[height] = runs
    return count


@kernel
def _resolve(
    run_component: NDArray[np.int32], parent: NDArray[np.int32], area: NDArray[np.int64], label: Labels
) -> int:
    """Replace provisional by final numbers everywhere; return the number of components.

    A parent is never larger than its child, so one pass down adds up the areas and one pass up renumbers.
    """
    for i in range(parent.size - 1, -1, -1):
        if parent[i] != i:
            area[parent[i]] += area[i]
    count = 0
    for i in range(parent.size):
        if parent[i] == i:
            area[count] = area[i]
            label[count] = label[i]
            parent[i] = count
            count += 1
        else:
            parent[i] = parent[parent[i]]
    for i in range(run_component.size):
        run_component[i] = parent[run_component[i]]
    return count


@kernel
def _paint(
    run_start: NDArray[np.int64],
    run_x: NDArray[np.int32],
    run_component: NDArray[np.int32],
    value: NDArray[_Value],
    out: NDArray[_Value],
) -> None:
    height, width = out.shape
    for y in range(height):
        for run in range(run_start[y], run_start[y + 1]):
            end = run_x[run + 1] if run + 1 < run_start[y + 1] else width
            out[y, run_x[run] : end] = value[run_component[run]]
