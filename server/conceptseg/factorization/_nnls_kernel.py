"""Compiled active-set solver, one token at a time.

The Lawson–Hanson algorithm (Lawson & Hanson, Solving Least Squares Problems, 1974, ch. 23) on the Gram matrix as
in Bro & de Jong (J. Chemometrics 11, 1997), with a Cholesky factor that grows by one row per concept. Solutions
have few non-zeros, so a token costs a handful of short substitutions. Everything is float64: Gram matrices of
k-means centres have condition numbers of 1e7 and more.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# A concept whose part outside the span of the active ones is below this share of its norm (squared) is a copy.
_DEPENDENT = 1e-13
# A gradient below this share of the largest correlation is rounding noise.
_NEGLIGIBLE = 1e-13


@njit(cache=True, nogil=True)
def _extend(gram, active, n_active, factor):  # type: ignore[no-untyped-def]
    """Append the row of concept active[n_active] to the Cholesky factor; False if it depends on the others."""
    added = active[n_active]
    for i in range(n_active):
        total = gram[added, active[i]]
        for j in range(i):
            total -= factor[n_active, j] * factor[i, j]
        factor[n_active, i] = total / factor[i, i]
    pivot = gram[added, added]
    for j in range(n_active):
        pivot -= factor[n_active, j] * factor[n_active, j]
    if not pivot > _DEPENDENT * gram[added, added]:
        return False
    factor[n_active, n_active] = np.sqrt(pivot)
    return True


@njit(cache=True, nogil=True)
def _solve(correlation, active, n_active, factor, solution):  # type: ignore[no-untyped-def]
    """Solve the normal equations of the active concepts by two substitutions."""
    for i in range(n_active):
        total = correlation[active[i]]
        for j in range(i):
            total -= factor[i, j] * solution[j]
        solution[i] = total / factor[i, i]
    for i in range(n_active - 1, -1, -1):
        total = solution[i]
        for j in range(i + 1, n_active):
            total -= factor[j, i] * solution[j]
        solution[i] = total / factor[i, i]


@njit(cache=True, nogil=True)
def solve_rows(  # type: ignore[no-untyped-def]
    gram, correlations, start, stop, max_steps, activations, explained
):
    """Solve min ||x - D^T a||², a >= 0 for the rows ``start`` … ``stop``.

    Args:
        gram: (k, k) float64, D D^T.
        correlations: (n, k) float64, X D^T.
        start: First row.
        stop: Row after the last.
        max_steps: Bound on active-set changes per row; never met in exact arithmetic.
        activations: (n, k) float32, zeroed by the caller; filled in.
        explained: (n,) float64; gets a · b = ||x||² - ||x - D^T a||².

    Returns:
        How many rows met ``max_steps``.
    """
    k = gram.shape[0]
    active = np.empty(k, np.int64)
    is_active = np.zeros(k, np.bool_)
    is_blocked = np.zeros(k, np.bool_)
    factor = np.empty((k, k), np.float64)
    current = np.empty(k, np.float64)
    solution = np.empty(k, np.float64)
    gradient = np.empty(k, np.float64)
    unfinished = 0
    for row in range(start, stop):
        correlation = correlations[row]
        n_active = 0
        is_active[:] = False
        is_blocked[:] = False
        largest = 0.0
        for i in range(k):
            gradient[i] = correlation[i]
            largest = max(largest, correlation[i])
        threshold = _NEGLIGIBLE * largest
        steps = 0
        while steps < max_steps:
            steps += 1
            best = -1
            steepest = threshold
            for i in range(k):
                if gradient[i] > steepest and not is_active[i] and not is_blocked[i]:
                    steepest = gradient[i]
                    best = i
            if best < 0:
                break
            active[n_active] = best
            if not _extend(gram, active, n_active, factor):
                is_blocked[best] = True
                continue
            _solve(correlation, active, n_active + 1, factor, solution)
            if solution[n_active] <= 0.0:  # rounding: the gradient promised otherwise
                is_blocked[best] = True
                continue
            current[n_active] = 0.0
            is_active[best] = True
            n_active += 1
            while True:
                # Walk from the current point towards the solution until a coefficient reaches zero.
                step = 1.0
                leaving = -1
                for i in range(n_active):
                    if solution[i] <= 0.0:
                        ratio = current[i] / (current[i] - solution[i])
                        if ratio < step or leaving < 0:
                            step = ratio
                            leaving = i
                if leaving < 0:
                    for i in range(n_active):
                        current[i] = solution[i]
                    break
                for i in range(n_active):
                    current[i] += step * (solution[i] - current[i])
                current[leaving] = 0.0
                kept = 0
                first_removed = n_active
                for i in range(n_active):
                    if current[i] <= 0.0 and solution[i] <= 0.0:
                        is_active[active[i]] = False
                        first_removed = min(first_removed, i)
                    else:
                        active[kept] = active[i]
                        current[kept] = current[i]
                        kept += 1
                n_active = kept
                for i in range(first_removed, n_active):
                    _extend(gram, active, i, factor)
                _solve(correlation, active, n_active, factor, solution)
            is_blocked[:] = False
            for i in range(k):
                gradient[i] = correlation[i]
            for j in range(n_active):
                value = current[j]
                column = gram[active[j]]
                for i in range(k):
                    gradient[i] -= value * column[i]
        else:
            unfinished += 1
        total = 0.0
        for i in range(n_active):
            activations[row, active[i]] = current[i]
            total += current[i] * correlation[active[i]]
        explained[row] = total
    return unfinished


def allocate(n: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Zeroed outputs for `solve_rows`."""
    return np.zeros((n, k), np.float32), np.empty(n, np.float64)
