"""The active-set solver for many tokens at once, for GPUs.

The same algorithm as `_nnls_kernel`, one active-set change per token and step: tokens that are done leave the
batch, so the work shrinks with every step. Float64 throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DEPENDENT = 1e-13
_NEGLIGIBLE = 1e-13


def solve_batched(gram: Tensor, correlations: Tensor, *, max_steps: int) -> tuple[Tensor, Tensor]:
    """Solve min ||x - D^T a||², a >= 0 for every row.

    Args:
        gram: (k, k) float64, D D^T.
        correlations: (n, k) float64, X D^T, on the same device.
        max_steps: Active-set changes after which a row is given up.

    Returns:
        Activations (n, k) float64, and the indices of the rows that were given up.
    """
    n, k = correlations.shape
    activations = torch.zeros_like(correlations)
    open_rows = torch.arange(n, device=correlations.device)
    current = torch.zeros_like(correlations)
    active = torch.zeros((n, k), dtype=torch.bool, device=correlations.device)
    blocked = torch.zeros_like(active)
    threshold = _NEGLIGIBLE * correlations.clamp(min=0).amax(dim=1)
    walking = torch.zeros(n, dtype=torch.bool, device=correlations.device)
    b = correlations
    for _ in range(max_steps):
        # Rows that do not walk towards a solution take in the concept of steepest descent, or are done.
        gradient = (b - current @ gram).masked_fill(active | blocked, -torch.inf)
        steepest, best = gradient.max(dim=1)
        adding = ~walking & (steepest > threshold)
        finished = ~walking & ~adding
        if finished.any():
            activations[open_rows[finished]] = current[finished]
            kept = ~finished
            if not kept.any():
                return activations, open_rows[:0]
            open_rows, current, active, blocked = open_rows[kept], current[kept], active[kept], blocked[kept]
            threshold, b, adding, best = threshold[kept], b[kept], adding[kept], best[kept]
        rows = adding.nonzero()[:, 0]
        active[rows, best[rows]] = True
        solution, independent = _solve_active(gram, b, active)
        refused = adding & (~independent | (solution.gather(1, best[:, None])[:, 0] <= 0))
        rows = refused.nonzero()[:, 0]
        active[rows, best[rows]] = False
        blocked[rows, best[rows]] = True
        # Walk from the current point towards the solution until a coefficient reaches zero.
        falling = active & (solution <= 0)
        ratio = torch.where(falling, current / (current - solution), torch.inf)
        step, leaving = ratio.min(dim=1)
        moved = current + step.clamp(max=1)[:, None] * (solution - current)
        walking = falling.any(dim=1) & ~refused
        moved = moved.scatter(1, leaving[:, None], moved.gather(1, leaving[:, None]).masked_fill(walking[:, None], 0))
        moved = torch.where(active, moved, 0)
        current = torch.where(refused[:, None], current, moved)
        active &= refused[:, None] | ~(falling & (current <= 0))
        blocked &= (refused | walking)[:, None]
    return activations, open_rows


def _solve_active(gram: Tensor, b: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares on the active concepts: the solution (n, k), and whether they are independent (n,)."""
    width = int(active.sum(dim=1).max())
    # The first `width` columns of a stable sort are the active concepts, padded with inactive ones.
    order = active.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
    used = active.gather(1, order)
    scale = gram.diagonal().clamp(min=torch.finfo(gram.dtype).tiny).sqrt()
    correlation_matrix = gram / (scale[:, None] * scale[None, :])
    both = used[:, :, None] & used[:, None, :]
    matrix = correlation_matrix[order[:, :, None], order[:, None, :]].where(both, 0)
    matrix.diagonal(dim1=1, dim2=2).copy_(torch.ones_like(used, dtype=gram.dtype))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    independent = (failed == 0) & (factor.diagonal(dim1=1, dim2=2).square().amin(dim=1) > _DEPENDENT)
    factor = torch.where(independent[:, None, None], factor, torch.eye(width, dtype=gram.dtype, device=gram.device))
    right = (b / scale).gather(1, order).where(used, 0)
    values = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0] / scale[order]
    return torch.zeros_like(b).scatter(1, order, values.where(used, 0)), independent
