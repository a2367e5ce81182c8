"""Remove areas that are too small to mean anything, before they become polygons."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import Labels, Runs
from conceptseg.geometry._kernel import kernel
from conceptseg.geometry.components import find_root, label_components, touches_border


def remove_small(labels: Labels, *, min_area_px: float, min_hole_area_px: float) -> Labels:
    """Give small areas to their neighbours and fill small holes.

    Smallest first: a labelled component below ``min_area_px`` takes the label of the labelled neighbour with
    which it shares the longest boundary; with no labelled neighbour it becomes background. A background
    component below ``min_hole_area_px`` that does not reach the border of the map takes the label of the
    neighbour with the longest shared boundary. Joined components count as one from then on. Ties go to the
    component that comes first in raster order. The result is stable: removing again changes nothing.

    Works on the graph of touching components (as region merging does); pixels are read once and written once.

    Args:
        labels: (h, w) uint8 or uint16; 0 = unlabelled. Not changed.
        min_area_px: Smallest area of a labelled component, in px of the label map.
        min_hole_area_px: Smallest area of an enclosed background component, in px of the label map.

    Returns:
        (h, w) labels of the same dtype.

    Raises:
        InvalidRequestError: ``labels`` is no label map, or an area is negative or not a number.
    """
    for name, value in (("min_area_px", min_area_px), ("min_hole_area_px", min_hole_area_px)):
        if math.isnan(value) or value < 0:
            raise InvalidRequestError(f"Expected {name} >= 0, got {value}.")
    components = label_components(labels)
    border = touches_border(components)
    limit = np.where(components.label > 0, min_area_px, np.where(border, 0.0, min_hole_area_px))
    small = components.area_px < limit
    if not small.any():
        return labels.copy()
    graph = _shared_boundaries(components.runs, components.label.size)
    merged = _merge(
        *graph,
        components.label.astype(np.int32),  # one type, so that it is compiled once
        components.area_px.copy(),
        border,
        min_area_px,
        min_hole_area_px,
        int(min(max(min_area_px, min_hole_area_px), labels.size)) + 1,
    )
    new_labels: Labels = merged.astype(labels.dtype)
    return components.painted(new_labels)


@kernel
def _count_pair(
    keys: NDArray[np.int64], counts: NDArray[np.int64], first: int, second: int, cracks: int, n_components: int
) -> int:
    """Count cracks between two components in a hash table; return 1 if the pair is new."""
    key = np.int64(min(first, second)) * n_components + max(first, second)
    mask = keys.size - 1
    place = ((key * 0x9E3779B97F4A7C1) >> 20) & mask
    while keys[place] != key and keys[place] >= 0:
        place = (place + 1) & mask
    counts[place] += cracks
    if keys[place] < 0:
        keys[place] = key
        return 1
    return 0


@kernel
def _grow(keys: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    new_keys = np.full(2 * keys.size, -1, np.int64)
    new_counts = np.zeros(2 * keys.size, np.int64)
    mask = new_keys.size - 1
    for i in range(keys.size):
        if keys[i] >= 0:
            place = ((keys[i] * 0x9E3779B97F4A7C1) >> 20) & mask
            while new_keys[place] >= 0:
                place = (place + 1) & mask
            new_keys[place] = keys[i]
            new_counts[place] = counts[i]
    return new_keys, new_counts


@kernel
def _shared_boundaries(
    runs: Runs,
    n_components: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Starts of every component's neighbours, the neighbours, and the lengths of the shared boundaries."""
    keys = np.full(1024, -1, np.int64)
    counts = np.zeros(1024, np.int64)
    used = 0
    start_of = runs.row_start
    for y in range(start_of.size - 1):
        above = start_of[y - 1] if y > 0 else start_of[y]
        end_above = start_of[y]
        # At most half full, whatever the row brings.
        while 2 * (used + 2 * (start_of[y + 1] - above)) > keys.size:
            keys, counts = _grow(keys, counts)
        for run in range(start_of[y], start_of[y + 1]):
            own = runs.component[run]
            end = runs.stop[run]
            if run + 1 < start_of[y + 1]:
                used += _count_pair(keys, counts, own, runs.component[run + 1], 1, n_components)
            while above < end_above:
                right = runs.stop[above]
                other = runs.component[above]
                if other != own:
                    shared = min(right, end) - max(runs.first[above], runs.first[run])
                    used += _count_pair(keys, counts, own, other, shared, n_components)
                if right > end:
                    break
                above += 1
                if right == end:
                    break
    start = np.zeros(n_components + 1, np.int64)
    for i in range(keys.size):
        if keys[i] >= 0:
            start[keys[i] // n_components] += 1
            start[keys[i] % n_components] += 1
    for i in range(1, n_components + 1):
        start[i] += start[i - 1]
    neighbour = np.empty(start[n_components], np.int32)
    length = np.empty(start[n_components], np.int64)
    for i in range(keys.size):
        if keys[i] >= 0:
            a = keys[i] // n_components
            b = keys[i] % n_components
            start[a] -= 1
            neighbour[start[a]] = b
            length[start[a]] = counts[i]
            start[b] -= 1
            neighbour[start[b]] = a
            length[start[b]] = counts[i]
    return start, neighbour, length


@kernel
def _merge(
    start: NDArray[np.int64],
    neighbour: NDArray[np.int32],
    length: NDArray[np.int64],
    label: NDArray[np.int32],
    area: NDArray[np.int64],
    border: NDArray[np.bool_],
    min_area: float,
    min_hole_area: float,
    n_sizes: int,
) -> NDArray[np.int32]:
    """Merge small components, smallest first; return the new label of every component.

    Components wait in one queue per area. Merging only makes them larger, so the queues are emptied in order
    and a component that is still small waits again further on. The neighbours of a merged component are those
    of its members, which are kept as linked lists; only small components are ever looked through.
    """
    n = area.size
    parent = np.arange(n).astype(np.int32)
    next_member = np.full(n, -1, np.int32)
    last_member = np.arange(n).astype(np.int32)
    shared = np.zeros(n, np.int64)
    found = np.empty(n, np.int32)
    # Every merge removes a component and queues at most one, so there are less than 2 n entries.
    queue_first = np.full(n_sizes, -1, np.int32)
    queue_last = np.full(n_sizes, -1, np.int32)
    queued = np.empty(2 * n, np.int32)
    queue_next = np.full(2 * n, -1, np.int32)
    n_queued = 0

    for component in range(n):
        size = area[component]
        if size < n_sizes:
            queued[n_queued] = component
            if queue_first[size] < 0:
                queue_first[size] = n_queued
            else:
                queue_next[queue_last[size]] = n_queued
            queue_last[size] = n_queued
            n_queued += 1

    for size in range(n_sizes):
        entry = queue_first[size]
        while entry >= 0:
            component = queued[entry]
            entry = queue_next[entry]
            if parent[component] != component or area[component] != size:
                continue
            if label[component] > 0:
                if size >= min_area:
                    continue
            elif border[component] or size >= min_hole_area:
                continue

            n_found = 0
            member = component
            while member >= 0:
                for k in range(start[member], start[member + 1]):
                    other = find_root(parent, neighbour[k])
                    if other == component:
                        continue
                    if shared[other] == 0:
                        found[n_found] = other
                        n_found += 1
                    shared[other] += length[k]
                member = next_member[member]
            best = -1
            for k in range(n_found):
                other = found[k]
                if label[other] > 0 and (
                    best < 0 or shared[other] > shared[best] or (shared[other] == shared[best] and other < best)
                ):
                    best = other
            if best >= 0:
                label[component] = label[best]
            else:
                label[component] = 0
            # All neighbours of the new label are one component now; the first in raster order names it.
            root = component
            for k in range(n_found):
                other = found[k]
                shared[other] = 0
                if label[other] != label[component]:
                    continue
                keep = min(root, other)
                gone = max(root, other)
                parent[gone] = keep
                area[keep] += area[gone]
                border[keep] |= border[gone]
                next_member[last_member[keep]] = gone
                last_member[keep] = last_member[gone]
                root = keep
            if n_found > 0 and area[root] < n_sizes:
                larger = area[root]
                queued[n_queued] = root
                if queue_first[larger] < 0:
                    queue_first[larger] = n_queued
                else:
                    queue_next[queue_last[larger]] = n_queued
                queue_last[larger] = n_queued
                n_queued += 1
    for component in range(n):
        label[component] = label[find_root(parent, component)]
    return label
