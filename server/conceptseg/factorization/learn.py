"""Learning the concepts of one region, and comparing tokens with concepts."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from sklearn.decomposition import non_negative_factorization
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from conceptseg.domain.progress import IsCancelled, never_cancelled, stop_if
from conceptseg.factorization.learned import require_enough

_TINY = 1e-12
_COLUMNS_AT_ONCE = 512


def learn_nmf(
    tokens: Tensor,
    *,
    n_concepts: int,
    seed: int = 0,
    max_iterations: int = 300,
    tolerance: float = 1e-4,
    cancelled: IsCancelled = never_cancelled,
) -> NDArray[np.float32]:
    """Factorize tokens into non-negative activations times non-negative concepts, X ~ A D.

    Hierarchical alternating least squares (Cichocki & Phan, IEICE Trans. 2009): every column of A and every row of
    D in turn is set to its exact non-negative optimum, so the error never grows. Starts from random tokens.

    Args:
        tokens: (n_tokens, channels), >= 0, on any device.
        n_concepts: Rows of D to learn.
        seed: Chooses the starting tokens.
        max_iterations: Bound on sweeps over all concepts.
        tolerance: Stops when a sweep lowers the error by less than this share of the first sweep's error.
        cancelled: Asked once per sweep.

    Returns:
        (n_concepts, channels) float32, rows of length 1 (a concept nothing uses is a row of zeros).

    Raises:
        InvalidRequestError: fewer tokens than concepts.
    """
    require_enough(len(tokens), n_concepts)
    x = tokens.to(torch.float32)
    generator = torch.Generator().manual_seed(seed)
    concepts = x[torch.randperm(len(x), generator=generator)[:n_concepts].to(x.device)] + 1e-4
    activations = torch.ones((n_concepts, len(x)), device=x.device)  # a row per concept: memory is read in order
    energy = float(x.double().square().sum())
    first = previous = np.inf
    for _ in range(max_iterations):
        stop_if(cancelled)
        _sweep(activations, concepts @ concepts.T, concepts @ x.T)
        gram, correlations = activations @ activations.T, activations @ x
        _sweep(concepts, gram, correlations)
        explained = 2 * (correlations * concepts).double().sum() - (gram * (concepts @ concepts.T)).double().sum()
        error = energy - float(explained)
        first = min(first, error) if np.isfinite(first) else error
        if previous - error < tolerance * first:
            break
        previous = error
    norms = concepts.norm(dim=1, keepdim=True)
    learned: NDArray[np.float32] = (concepts / norms.clamp(min=_TINY)).cpu().numpy()
    return learned


def _sweep(rows: Tensor, gram: Tensor, correlations: Tensor) -> None:
    """Set each of the ``rows`` (n_concepts, m) in turn to its non-negative optimum beside the others."""
    if rows.device.type == "cpu":
        _sweep_compiled(rows.numpy(), gram.numpy(), correlations.numpy())
        return
    for c in range(len(rows)):
        step = (correlations[c] - gram[c] @ rows) / gram[c, c].clamp(min=_TINY)
        rows[c].add_(step).clamp_(min=0)


@njit(cache=True, nogil=True)
def _sweep_compiled(rows, gram, correlations):  # type: ignore[no-untyped-def]
    """Columns do not depend on each other, so they are swept in blocks that stay in the cache."""
    n_concepts, n_columns = rows.shape
    step = np.empty(_COLUMNS_AT_ONCE, np.float32)
    for first in range(0, n_columns, _COLUMNS_AT_ONCE):
        last = min(first + _COLUMNS_AT_ONCE, n_columns)
        for c in range(n_concepts):
            step[: last - first] = correlations[c, first:last]
            for other in range(n_concepts):
                weight = gram[c, other]
                for j in range(first, last):
                    step[j - first] -= weight * rows[other, j]
            divisor = max(gram[c, c], np.float32(_TINY))
            for j in range(first, last):
                rows[c, j] = max(rows[c, j] + step[j - first] / divisor, np.float32(0))


def nearest_scores(tokens: Tensor, concepts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine similarity of every token (n_tokens, channels) to every concept, (n_tokens, n_concepts) float32.

    Zero tokens and zero concepts are similar to nothing.
    """
    directions = torch.from_numpy(np.array(concepts)).to(tokens.device)
    directions = directions / directions.norm(dim=1, keepdim=True).clamp(min=_TINY)
    unit = tokens / tokens.norm(dim=1, keepdim=True).clamp(min=_TINY)
    scores: NDArray[np.float32] = (unit @ directions.T).clamp(min=0).cpu().numpy()
    return scores


def match_concepts(learned: NDArray[np.float32], concepts: NDArray[np.float32]) -> NDArray[np.intp]:
    """Index of the dictionary concept that is most similar (cosine) to each learned one, (n_learned,)."""
    best: NDArray[np.intp] = nearest_scores(torch.from_numpy(learned), concepts).argmax(axis=1)
    return best


def reference_projection(tokens: NDArray[np.float32], concepts: NDArray[np.float32]) -> NDArray[np.float32]:
    """The published algorithm: scikit-learn's solver with the reference's arguments, (n_tokens, n_concepts).

    Source: F-SEG (arXiv 2409.05697). Kept for comparison: slow, and it stops before the optimum.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        activations, _, _ = non_negative_factorization(
            X=tokens,
            H=np.array(concepts),
            W=None,
            n_components=len(concepts),
            update_H=False,
            random_state=0,
            max_iter=10000,
        )
    result: NDArray[np.float32] = activations.astype(np.float32)
    return result
