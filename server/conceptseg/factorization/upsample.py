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

from conceptseg.domain.labels import Labels, Runs, label_dtype
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
def _totals(start, count, value):  # type: ignore[no-untyped-def]
    """The sum of every token's activations."""
    out = np.zeros(start.shape)
    for i in range(start.shape[0]):
        for j in range(start.shape[1]):
            for entry in range(start[i, j], start[i, j] + count[i, j]):
                out[i, j] += value[entry]
    return out


@njit(cache=True, nogil=True)
def _add_statistics(  # type: ignore[no-untyped-def]
    start, count, concept, value, total, stride, above, before, runs, labels, first_row, last_row, activation, purity
):
    """Add the activation of each labelled run's concept, and its share of all activations, to its component.

    The runs begin ``above`` rows and ``before`` columns of pixels after the first token's corner.
    """
    grid_h, grid_w = start.shape
    half = stride // 2
    # What the cells between tokens were asked for last: mostly the same in the next row of pixels.
    asked = np.zeros(grid_w + 1, np.int64)
    own = np.zeros((grid_w + 1, 4))
    share = np.empty(stride)
    cells = -1
    for y in range(first_row, last_row):
        cell_i = (above + y + half) // stride
        fy = (above + y + 0.5) / stride + 0.5 - cell_i
        top, bottom = max(cell_i - 1, 0), min(cell_i, grid_h - 1)
        if cell_i != cells:
            cells = cell_i
            asked[:] = 0
        for run in range(runs.row_start[y], runs.row_start[y + 1]):
            component = runs.component[run]
            label = np.int64(labels[component])
            if label == 0:
                continue
            first, last = before + runs.first[run], before + runs.stop[run]
            sum_activation = sum_purity = 0.0
            for cell_j in range((first + half) // stride, (last - 1 + half) // stride + 1):
                left, right = max(cell_j - 1, 0), min(cell_j, grid_w - 1)
                if asked[cell_j] != label:
                    asked[cell_j] = label
                    for corner in range(4):
                        i = top if corner < 2 else bottom
                        j = left if corner % 2 == 0 else right
                        own[cell_j, corner] = 0.0
                        for entry in range(start[i, j], start[i, j] + count[i, j]):
                            if concept[entry] + 1 == label:
                                own[cell_j, corner] += value[entry]
                own_left = own[cell_j, 0] + (own[cell_j, 2] - own[cell_j, 0]) * fy
                own_slope = own[cell_j, 1] + (own[cell_j, 3] - own[cell_j, 1]) * fy - own_left
                all_left = total[top, left] + (total[bottom, left] - total[top, left]) * fy
                all_slope = total[top, right] + (total[bottom, right] - total[top, right]) * fy - all_left
                corner_x = cell_j * stride - half
                x0, x1 = max(first, corner_x), min(last, corner_x + stride)
                n = x1 - x0
                fx = (x0 + 0.5) / stride + 0.5 - cell_j
                sum_activation += n * (own_left + own_slope * (fx + 0.5 * (n - 1) / stride))
                if own_left == all_left and own_slope == all_slope:
                    sum_purity += n if all_left > 0 or all_slope > 0 else 0
                    continue
                for p in range(n):  # no sum in here: the compiler turns this loop into vector instructions
                    at = fx + p / stride
                    share[p] = (own_left + own_slope * at) / max(all_left + all_slope * at, 1e-30)
                for p in range(n):
                    sum_purity += share[p]
            activation[component] += sum_activation
            purity[component] += sum_purity


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
    runs: Runs,
    labels: Labels,
    offset_px: tuple[int, int] = (0, 0),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Activation and purity of each component, summed over its pixels.

    Args:
        activations: (n_concepts, grid_h, grid_w).
        stride_px: Output px per token side.
        runs: Of the label map, as labelled (cleaned-up pixels count with the concept they were given).
        labels: (n_components,) of its components.
        offset_px: Rows and columns from the first token's corner to the first pixel of the labels.

    Returns:
        Two (n_components,) arrays of sums over the component's pixels: the activation of its own concept, and
        its share of all concepts' activations (0 … 1). 0 for unlabelled components.
    """
    total = _totals(activations.start, activations.count, activations.value)
    bands = 2
    sums = np.zeros((2, bands, len(labels)))
    edges = [(len(runs.row_start) - 1) * band // bands for band in range(bands + 1)]

    def add(band: int) -> None:
        _add_statistics(
            activations.start,
            activations.count,
            activations.concept,
            activations.value,
            total,
            stride_px,
            *offset_px,
            runs,
            labels,
            edges[band],
            edges[band + 1],
            *sums[:, band],
        )

    with ThreadPoolExecutor(bands) as pool:
        list(pool.map(add, range(bands)))
    activation, purity = sums.sum(axis=1)
    return activation, purity


def _in_bands(work: Callable[[int, int], None], *, total: int) -> None:
    """Run ``work(first, last)`` over 0 … total in parallel bands."""
    bands = min(total, 4 * (os.cpu_count() or 1))
    edges = [total * band // bands for band in range(bands + 1)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))
