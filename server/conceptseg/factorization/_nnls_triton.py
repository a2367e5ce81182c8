"""The active-set solver of `_nnls_kernel` on a GPU: one warp per token.

The same algorithm and the same choices, with the inverse of the Cholesky factor instead of the factor: it grows by a
row per concept, too, and solving with it is two products of a small matrix instead of two substitutions, which lanes
of a warp cannot share. Float64 throughout.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator]
def _solve_token(  # type: ignore[no-untyped-def]
    gram,
    correlations,
    activations,
    explained,
    unfinished,
    rows,
    k,
    max_steps,
    n_concepts: tl.constexpr,
    places: tl.constexpr,
):
    """Solve row ``rows[program]``; ``n_concepts`` (at least k) and ``places`` (for active ones) are powers of two."""
    token = tl.load(rows + tl.program_id(0)).to(tl.int64)
    concept = tl.arange(0, n_concepts)
    place = tl.arange(0, places)
    correlations += token * k
    b = tl.load(correlations + concept, mask=concept < k, other=0.0)
    threshold = tl.maximum(tl.max(b, 0), 0.0) * 1e-13
    gradient = tl.where(concept < k, b, float("-inf"))  # -inf where a concept is active or refused
    active = tl.full((places,), -1, tl.int32)
    inverse = tl.zeros((places, places), tl.float64)
    right = tl.zeros((places,), tl.float64)
    current = tl.zeros((places,), tl.float64)
    steps = 0
    going = 1
    while going == 1:
        steps += 1
        steepest = tl.max(gradient, 0)
        best = tl.argmax(gradient, 0)
        free = tl.min(tl.where(active < 0, place, places), 0)
        if steepest <= threshold:
            going = 0
        elif (free == places) | (steps > max_steps):
            going = 2
        else:
            between = tl.load(gram + best * k + active, mask=active >= 0, other=0.0)
            own = tl.load(gram + best * k + best)
            spanned = tl.sum(inverse * between[None, :], 1)
            pivot = own - tl.sum(spanned * spanned, 0)
            accepted = pivot > own * 1e-13
            root = tl.sqrt(tl.where(accepted, pivot, 1.0))
            row = (tl.where(place == free, 1.0, 0.0) - tl.sum(spanned[:, None] * inverse, 0)) / root
            new_inverse = tl.where(place[:, None] == free, row[None, :], inverse)
            new_right = tl.where(place == free, tl.load(correlations + best), right)
            solution = tl.sum(new_inverse * tl.sum(new_inverse * new_right[None, :], 1)[:, None], 0)
            accepted = accepted & (tl.sum(tl.where(place == free, solution, 0.0), 0) > 0.0)
            if accepted:
                inverse = new_inverse
                right = new_right
                active = tl.where(place == free, best.to(tl.int32), active)
                falling = (active >= 0) & (solution <= 0.0)
                while tl.max(falling.to(tl.int32), 0) == 1:
                    # Walk from the current point towards the solution until a coefficient reaches zero.
                    ratio = tl.where(falling, current / tl.where(falling, current - solution, 1.0), float("inf"))
                    leaving = tl.argmin(ratio, 0)
                    step = tl.minimum(tl.min(ratio, 0), 1.0)
                    current = tl.where(place == leaving, 0.0, current + step * (solution - current))
                    gone = falling & (current <= 0.0)
                    active = tl.where(gone, -1, active)
                    right = tl.where(gone, 0.0, right)
                    current = tl.where(gone, 0.0, current)
                    # The rest once more, one by one.
                    inverse = tl.zeros((places, places), tl.float64)
                    used = tl.max(tl.where(active >= 0, place + 1, 0), 0)
                    for i in range(used):
                        added = tl.max(tl.where(place == i, active, -1), 0)
                        if added >= 0:
                            before = (active >= 0) & (place < i)
                            between = tl.load(gram + added * k + active, mask=before, other=0.0)
                            spanned = tl.sum(inverse * between[None, :], 1)
                            pivot = tl.load(gram + added * k + added) - tl.sum(spanned * spanned, 0)
                            root = tl.sqrt(tl.maximum(pivot, 1e-300))
                            row = (tl.where(place == i, 1.0, 0.0) - tl.sum(spanned[:, None] * inverse, 0)) / root
                            inverse = tl.where(place[:, None] == i, row[None, :], inverse)
                    solution = tl.sum(inverse * tl.sum(inverse * right[None, :], 1)[:, None], 0)
                    falling = (active >= 0) & (solution <= 0.0)
                current = tl.where(active >= 0, solution, 0.0)
                gradient = tl.where(concept < k, b, float("-inf"))
                used = tl.max(tl.where(active >= 0, place + 1, 0), 0)
                for i in range(used):
                    column = tl.max(tl.where(place == i, active, -1), 0)
                    if column >= 0:
                        weight = tl.sum(tl.where(place == i, current, 0.0), 0)
                        gradient -= weight * tl.load(gram + column * k + concept, mask=concept < k, other=0.0)
                        gradient = tl.where(concept == column, float("-inf"), gradient)
            else:
                gradient = tl.where(concept == best, float("-inf"), gradient)
    tl.store(activations + token * k + active, current.to(tl.float32), mask=(active >= 0) & (going == 0))
    tl.store(explained + token, tl.sum(current * right, 0))
    tl.store(unfinished + token, going == 2)


class TokenSolver:
    """Solves min ||x - D^T a||², a >= 0 for every row of the correlations.

    Args:
        gram: (k, k) float64, D D^T.
        correlations: (n, k) float64, X D^T, on the same device.
        max_steps: Active-set changes after which a row is given up.

    Attributes:
        activations: (n, k) float32.
        explained: (n,) float64, ||x||² - ||x - D^T a||² of every row.
        unfinished: (n,) bool, rows that `solve` has given up, or not had.
    """

    def __init__(self, gram: Tensor, correlations: Tensor, *, max_steps: int):
        n, k = correlations.shape
        self._gram, self._correlations, self._max_steps = gram.contiguous(), correlations.contiguous(), max_steps
        self.activations = torch.zeros((n, k), dtype=torch.float32, device=correlations.device)
        self.explained = torch.zeros(n, dtype=torch.float64, device=correlations.device)
        self.unfinished = torch.ones(n, dtype=torch.bool, device=correlations.device)

    def solve(self, rows: Tensor, *, places: int) -> None:
        """Solve some rows, as far as ``places`` active concepts (a power of two) do: more are slower for all."""
        k = self._gram.shape[0]
        if len(rows):
            _solve_token[(len(rows),)](
                self._gram,
                self._correlations,
                self.activations,
                self.explained,
                self.unfinished,
                rows,
                k,
                self._max_steps,
                n_concepts=max(32, triton.next_power_of_2(k)),
                places=places,
                num_warps=1,
            )
