"""Connected components of a label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import Labels, Runs
from conceptseg.geometry._kernel import kernel

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """The 4-connected areas of equal label, unlabelled areas included.

    Components are numbered by their first pixel in raster order, so equal label maps number equally.

    Attributes:
        shape: Height and width of the label map.
        runs: Their pixels.
        label: (n,) the label of every component, in the label map's dtype; 0 = unlabelled.
        area_px: (n,) int64, the number of pixels of every component.
    """

    shape: tuple[int, int]
    runs: Runs
    label: Labels
    area_px: NDArray[np.int64]

    def painted(self, value: NDArray[_Value]) -> NDArray[_Value]:
        """``value[component]`` of every pixel, (h, w), of (n,) values."""
        out = np.empty(self.shape, value.dtype)
        _paint(self.runs, value, out)
        return out

    def runs_inside(self, mask: NDArray[np.bool_]) -> Runs:
        """Those of their pixels that lie inside ``mask``, (h, w)."""
        number = np.where(mask, self.painted(np.arange(1, len(self.label) + 1, dtype=np.int32)), 0)
        changes = np.ones(number.shape, np.bool_)
        np.not_equal(number[:, 1:], number[:, :-1], out=changes[:, 1:])
        row, first = np.nonzero(changes)
        # A run ends where the next one of its row begins, or with the row.
        stop = np.append(first[1:], 0)
        stop[stop == 0] = number.shape[1]
        inside = number[row, first] > 0
        row, first, stop = row[inside], first[inside], stop[inside]
        return Runs(
            row_start=np.searchsorted(row, np.arange(number.shape[0] + 1)).astype(np.int64),
            first=first.astype(np.int32),
            stop=stop.astype(np.int32),
            component=number[row, first] - 1,
        )


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
    n_runs = _count_runs(labels)
    first, stop, component, parent = (np.empty(n_runs, np.int32) for _ in range(4))
    runs = Runs(row_start=np.empty(labels.shape[0] + 1, np.int64), first=first, stop=stop, component=component)
    area = np.empty(n_runs, np.int64)
    label = np.empty(n_runs, labels.dtype)
    count = _number_runs(labels, runs, parent, area, label)
    n_components = _resolve(component, parent[:count], area, label)
    return Components(
        shape=(labels.shape[0], labels.shape[1]),
        runs=runs,
        label=label[:n_components].copy(),
        area_px=area[:n_components].copy(),
    )


def touches_border(components: Components) -> NDArray[np.bool_]:
    """(n,) which components reach the border of the map."""
    start, component = components.runs.row_start, components.runs.component
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
    runs: Runs,
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
    n = 0
    above = 0  # the first run of the row above that ends right of where this row has come to
    for y in range(height):
        runs.row_start[y] = n
        end_above = n
        for x in range(1, width):
            change[x] = labels[y, x] != labels[y, x - 1]
        for eight in range(eight_changes.size):
            if eight_changes[eight] != 0:
                for x in range(8 * eight, 8 * eight + 8):
                    if change[x]:
                        if x > 0:
                            runs.stop[n - 1] = x
                        runs.first[n] = x
                        n += 1
        runs.stop[n - 1] = width
        for run in range(end_above, n):
            end = runs.stop[run]
            value = labels[y, runs.first[run]]
            own = -1
            while above < end_above:
                if label[runs.component[above]] == value:
                    root = find_root(parent, runs.component[above])
                    if own < 0:
                        own = root
                    elif root < own:
                        parent[own] = root
                        own = root
                    elif root > own:
                        parent[root] = own
                if runs.stop[above] > end:
                    break
                above += 1
                if runs.stop[above - 1] == end:
                    break
            if own < 0:
                own = count
                parent[own] = own
                area[own] = 0
                label[own] = value
                count += 1
            area[own] += end - runs.first[run]
            runs.component[run] = own
        above = end_above
    runs.row_start[height] = n
    return count


@kernel
def _resolve(component: NDArray[np.int32], parent: NDArray[np.int32], area: NDArray[np.int64], label: Labels) -> int:
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
    for i in range(component.size):
        component[i] = parent[component[i]]
    return count


@kernel
def _paint(runs: Runs, value: NDArray[_Value], out: NDArray[_Value]) -> None:
    for y in range(out.shape[0]):
        for run in range(runs.row_start[y], runs.row_start[y + 1]):
            out[y, runs.first[run] : runs.stop[run]] = value[runs.component[run]]
