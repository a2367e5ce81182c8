"""Connected components of a label map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import Labels
from conceptseg.geometry._kernel import kernel


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """The 4-connected areas of equal label, unlabelled areas included.

    Components are numbered by their first pixel in raster order, so equal label maps number equally.

    Attributes:
        map: (h, w) int32, the component of every pixel.
        label: (n,) the label of every component, in the label map's dtype; 0 = unlabelled.
        area_px: (n,) int64, the number of pixels of every component.
    """

    map: NDArray[np.int32]
    label: Labels
    area_px: NDArray[np.int64]


def label_components(labels: Labels) -> Components:
    """Number the 4-connected areas of equal label, background components included.

    Runs of equal pixels are joined to the rows above by union-find (Wu, Otoo & Suzuki 2009: a root is always
    the smallest provisional number, so one more pass over the provisional numbers gives final ones).

    Args:
        labels: (h, w) uint8 or uint16; 0 = unlabelled.

    Raises:
        InvalidRequestError: not a two-dimensional uint8 or uint16 array, or without pixels.
    """
    labels = require_labels(labels)
    provisional = np.empty(labels.shape, np.int32)
    # Every pixel could start a component. Memory that is never written is never used.
    parent = np.empty(labels.size, np.int32)
    area = np.empty(labels.size, np.int64)
    label = np.empty(labels.size, labels.dtype)
    count = _number_runs(labels, provisional, parent, area, label)
    n_components = _resolve(provisional.reshape(-1), parent[:count], area, label)
    return Components(map=provisional, label=label[:n_components].copy(), area_px=area[:n_components].copy())


def touches_border(components: Components) -> NDArray[np.bool_]:
    """(n,) which components reach the border of the map."""
    touches = np.zeros(components.area_px.size, np.bool_)
    for line in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        touches[components.map[line]] = True
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
def _number_runs(
    labels: Labels,
    provisional: NDArray[np.int32],
    parent: NDArray[np.int32],
    area: NDArray[np.int64],
    label: Labels,
) -> int:
    """Give every run of equal pixels the number of a touching equal run above, or a new one."""
    height, width = labels.shape
    count = 0
    for y in range(height):
        x = 0
        while x < width:
            value = labels[y, x]
            start = x
            own = -1
            above = -1
            while x < width and labels[y, x] == value:
                if y > 0 and labels[y - 1, x] == value and provisional[y - 1, x] != above:
                    above = provisional[y - 1, x]
                    root = find_root(parent, above)
                    if own < 0:
                        own = root
                    elif root < own:
                        parent[own] = root
                        own = root
                    elif root > own:
                        parent[root] = own
                x += 1
            if own < 0:
                own = count
                parent[own] = own
                area[own] = 0
                label[own] = value
                count += 1
            area[own] += x - start
            for i in range(start, x):
                provisional[y, i] = own
    return count


@kernel
def _resolve(provisional: NDArray[np.int32], parent: NDArray[np.int32], area: NDArray[np.int64], label: Labels) -> int:
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
    for i in range(provisional.size):
        provisional[i] = parent[provisional[i]]
    return count
