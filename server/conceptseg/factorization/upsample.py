"""Activation maps to label maps: bilinear upsampling and argmax in one pass.

Between four neighbouring tokens only the concepts that are active in one of them can win, so the maps are never
upsampled as a whole: neither time nor memory grows with n_concepts × pixels. Sampling positions are those of
``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

from conceptseg.domain.labels import Labels, label_dtype
from conceptseg.factorization.activations import ActivationMap


@njit(cache=True, nogil=True)
def _gather_cell(  # type: ignore[no-untyped-def]
    start, count, concept, value, top, bottom, left, right, slot, found, corners
):
    """Collect the concepts of the four tokens around a cell: ascending ids, and a (n, 4) table of their values."""
    n = 0
    for corner in range(4):
        i = top if corner < 2 else bottom
        j = left if corner % 2 == 0 else right
        first = start[i, j]
        for entry in range(first, first + count[i, j]):
            c = concept[entry]
            if slot[c] < 0:
                slot[c] = n
                found[n] = c
                corners[n, :] = 0.0
                n += 1
            corners[slot[c], corner] = value[entry]
    for m in range(n):
        slot[found[m]] = -1
    # A concept that is nowhere above what another has everywhere cannot win.
    floor = np.float32(0.0)
    for m in range(n):
        floor = max(floor, min(min(corners[m, 0], corners[m, 1]), min(corners[m, 2], corners[m, 3])))
    kept = 0
    for m in range(n):
        if max(max(corners[m, 0], corners[m, 1]), max(corners[m, 2], corners[m, 3])) >= floor:
            # Insertion sort by id, so that the lowest concept wins a tie.
            c = found[m]
            v0, v1, v2, v3 = corners[m, 0], corners[m, 1], corners[m, 2], corners[m, 3]
            at = kept
            while at > 0 and found[at - 1] > c:
                found[at] = found[at - 1]
                corners[at, :] = corners[at - 1, :]
                at -= 1
            found[at] = c
            corners[at, 0], corners[at, 1], corners[at, 2], corners[at, 3] = v0, v1, v2, v3
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _label_cell_rows(  # type: ignore[no-untyped-def]
    start, count, concept, value, n_concepts, stride, first_cell, last_cell, labels
):
    """Label the pixels whose upper token row is ``first_cell - 1`` … ``last_cell - 2``."""
    grid_h, grid_w = start.shape
    height, width = labels.shape
    half = stride // 2
    slot = np.full(n_concepts, -1, np.int32)
    found = np.empty(n_concepts, np.int64)
    corners = np.empty((n_concepts, 4), np.float32)
    best = np.empty(stride, np.float32)
    winner = np.empty(stride, np.int32)
    fraction = np.empty(stride, np.float32)
    for p in range(stride):
        fraction[p] = (p + 0.5 - half) / stride + 0.5
    for cell_i in range(first_cell, last_cell):
        y0, y1 = max(0, cell_i * stride - half), min(height, (cell_i + 1) * stride - half)
        top, bottom = max(cell_i - 1, 0), min(cell_i, grid_h - 1)
        for cell_j in range(grid_w + 1):
            x0, x1 = max(0, cell_j * stride - half), min(width, (cell_j + 1) * stride - half)
            if x0 >= x1:
                continue
            left, right = max(cell_j - 1, 0), min(cell_j, grid_w - 1)
            n = _gather_cell(start, count, concept, value, top, bottom, left, right, slot, found, corners)
            if n == 0:
                continue  # labels start at 0
            if n == 1 and min(min(corners[0, 0], corners[0, 1]), min(corners[0, 2], corners[0, 3])) > 0:
                labels[y0:y1, x0:x1] = found[0] + 1
                continue
            for y in range(y0, y1):
                fy = fraction[y - (cell_i * stride - half)]
                skipped = x0 - (cell_j * stride - half)
                for p in range(x1 - x0):
                    best[p] = np.float32(0.0)
                    winner[p] = 0
                for m in range(n):
                    a = corners[m, 0] + (corners[m, 2] - corners[m, 0]) * fy
                    slope = corners[m, 1] + (corners[m, 3] - corners[m, 1]) * fy - a
                    label = np.int32(found[m] + 1)
                    for p in range(x1 - x0):
                        v = a + slope * fraction[skipped + p]
                        # Selections, not branches: the compiler turns this loop into vector instructions.
                        better = v > best[p]
                        best[p] = v if better else best[p]
                        winner[p] = label if better else winner[p]
                for p in range(x1 - x0):
                    labels[y, x0 + p] = winner[p]


@njit(cache=True, nogil=True)
def _add_statistics(  # type: ignore[no-untyped-def]
    start, count, concept, value, stride, above, before, labels, components, first_row, last_row, activation, purity
):
    """Add each labelled pixel's winning activation, and its share of all activations, to its component.

    The labels begin ``above`` rows and ``before`` columns of pixels after the first token's corner.
    """
    grid_h, grid_w = start.shape
    width = labels.shape[1]
    half = stride // 2
    for y in range(first_row, last_row):
        cell_i = (above + y + half) // stride
        fy = (above + y + 0.5) / stride + 0.5 - cell_i
        top, bottom = max(cell_i - 1, 0), min(cell_i, grid_h - 1)
        component = 0
        run_activation = run_purity = 0.0
        for cell_j in range((before + half) // stride, (before + width - 1 + half) // stride + 1):
            x0, x1 = max(0, cell_j * stride - half - before), min(width, (cell_j + 1) * stride - half - before)
            left, right = max(cell_j - 1, 0), min(cell_j, grid_w - 1)
            own_label = -1
            own_left = own_right = 0.0
            all_left = all_right = 0.0
            for corner in range(4):
                i = top if corner < 2 else bottom
                j = left if corner % 2 == 0 else right
                weight = 1 - fy if corner < 2 else fy
                for entry in range(start[i, j], start[i, j] + count[i, j]):
                    if corner % 2 == 0:
                        all_left += weight * value[entry]
                    else:
                        all_right += weight * value[entry]
            for x in range(x0, x1):
                label = labels[y, x]
                if label == 0:
                    continue
                if components[y, x] != component:  # one addition to the sums per run of pixels, not per pixel
                    activation[component] += run_activation
                    purity[component] += run_purity
                    run_activation = run_purity = 0.0
                    component = components[y, x]
                if label != own_label:
                    own_label = label
                    own_left = own_right = 0.0
                    for corner in range(4):
                        i = top if corner < 2 else bottom
                        j = left if corner % 2 == 0 else right
                        weight = 1 - fy if corner < 2 else fy
                        for entry in range(start[i, j], start[i, j] + count[i, j]):
                            if concept[entry] + 1 == label:
                                if corner % 2 == 0:
                                    own_left += weight * value[entry]
                                else:
                                    own_right += weight * value[entry]
                fx = (before + x + 0.5) / stride + 0.5 - cell_j
                own = own_left + (own_right - own_left) * fx
                total = all_left + (all_right - all_left) * fx
                run_activation += own
                if total > 0:
                    run_purity += own / total
        activation[component] += run_activation
        purity[component] += run_purity


def upsample_argmax(activations: ActivationMap, *, stride_px: int, height: int, width: int) -> Labels:
    """Label every pixel with its strongest concept.

    Args:
        activations: (n_concepts, grid_h, grid_w).
        stride_px: Output px per token side; grid_h * stride_px >= height, grid_w * stride_px >= width.
        height: Output rows.
        width: Output columns.

    Returns:
        (height, width); 0 where no concept is active, else concept + 1. Ties go to the lowest concept.
    """
    labels: Labels = np.zeros((height, width), label_dtype(activations.n_concepts))
    grid_h = activations.start.shape[0]

    def fill(first: int, last: int) -> None:
        _label_cell_rows(
            activations.start,
            activations.count,
            activations.concept,
            activations.value,
            activations.n_concepts,
            stride_px,
            first,
            last,
            labels,
        )

    _in_bands(fill, total=grid_h + 1)
    return labels


def component_statistics(
    activations: ActivationMap,
    *,
    stride_px: int,
    labels: Labels,
    components: NDArray[np.int32],
    n_components: int,
    offset_px: tuple[int, int] = (0, 0),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Activation and purity of each component, summed over its pixels.

    Args:
        activations: (n_concepts, grid_h, grid_w).
        stride_px: Output px per token side.
        labels: (height, width), as labelled (cleaned-up pixels count with the concept they were given).
        components: (height, width) component of every pixel.
        n_components: Number of components.
        offset_px: Rows and columns from the first token's corner to the first pixel of the labels.

    Returns:
        Two (n_components,) arrays of sums over the component's pixels: the activation of its own concept, and
        its share of all concepts' activations (0 … 1). 0 for unlabelled components.
    """
    height = labels.shape[0]
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def add(first: int, last: int) -> None:
        sums = np.zeros(n_components), np.zeros(n_components)
        _add_statistics(
            activations.start,
            activations.count,
            activations.concept,
            activations.value,
            stride_px,
            *offset_px,
            labels,
            components,
            first,
            last,
            *sums,
        )
        parts.append(sums)

    _in_bands(add, total=height, bands=2)
    parts.sort(key=lambda sums: sums[0].tobytes())  # an order of summation that does not depend on the threads
    return np.sum([part[0] for part in parts], axis=0), np.sum([part[1] for part in parts], axis=0)


def _in_bands(work: Callable[[int, int], None], *, total: int, bands: int | None = None) -> None:
    """Run ``work(first, last)`` over 0 … total in parallel bands."""
    bands = min(total, bands or 4 * (os.cpu_count() or 1))
    edges = [total * band // bands for band in range(bands + 1)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))
