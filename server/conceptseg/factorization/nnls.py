"""Projection of tokens onto a concept dictionary: exact non-negative least squares."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.factorization._nnls_batched import solve_batched
from conceptseg.factorization._nnls_kernel import allocate, solve_rows

_ROWS_PER_TASK = 1024
_STEPS_PER_CONCEPT = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """Activations of a set of tokens.

    Attributes:
        activations: (n_tokens, n_concepts) float32, >= 0.
        residual: Sum over tokens of ||x - D^T a||².
        energy: Sum over tokens of ||x||².
    """

    activations: NDArray[np.float32]
    residual: float
    energy: float


class NonNegativeProjector:
    """Solves min ||x - D^T a||², a >= 0 exactly, for any number of tokens against one dictionary.

    The Gram matrix is computed once. Every token is solved on its own, from the same start, so its activations
    depend on nothing but the token. Of collinear or duplicated concepts the one met first (steepest descent,
    then lowest index) takes the weight.

    Args:
        concepts: (n_concepts, channels), >= 0.
    """

    def __init__(self, concepts: NDArray[np.float32]):
        if concepts.ndim != 2 or (concepts < 0).any() or not np.isfinite(concepts).all():
            raise InvalidRequestError("Expected finite concepts (n_concepts, channels) >= 0.")
        self._concepts = concepts.astype(np.float64)
        self._gram = self._concepts @ self._concepts.T

    def project(self, tokens: Tensor) -> Projection:
        """Return the activations of ``tokens`` (n_tokens, channels), solved on the tokens' device.

        Raises:
            InvalidRequestError: wrong number of channels, or tokens with NaN or infinite values.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self._concepts.shape[1]:
            raise InvalidRequestError(
                f"Expected tokens (n, {self._concepts.shape[1]}), got {tuple(tokens.shape)}: "
                "the dictionary belongs to another encoder or layer."
            )
        if tokens.device.type == "cuda":
            return self._project_on_device(tokens)
        return self._project_on_cpu(tokens.cpu().numpy())

    def _project_on_cpu(self, tokens: NDArray[np.float32]) -> Projection:
        wide = tokens.astype(np.float64)
        correlations = wide @ self._concepts.T
        energy = float(np.einsum("ij,ij->", wide, wide))
        _require_finite(energy)
        return self._solve_on_cpu(correlations, energy=energy)

    def _solve_on_cpu(self, correlations: NDArray[np.float64], *, energy: float) -> Projection:
        n, k = correlations.shape
        activations, explained = allocate(n, k)

        def solve(start: int) -> None:
            stop = min(start + _ROWS_PER_TASK, n)
            solve_rows(self._gram, correlations, start, stop, _STEPS_PER_CONCEPT * k + 10, activations, explained)

        starts = range(0, n, _ROWS_PER_TASK)
        if len(starts) <= 1:
            for start in starts:
                solve(start)
        else:
            # Threads of our own: the kernels release the GIL, and numba's are not safe to enter from several calls.
            with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1)) as pool:
                list(pool.map(solve, starts))
        residual = max(0.0, energy - float(explained.sum()))
        return Projection(activations=activations, residual=residual, energy=energy)

    def _project_on_device(self, tokens: Tensor) -> Projection:
        concepts = torch.from_numpy(self._concepts).to(tokens.device)
        gram = torch.from_numpy(self._gram).to(tokens.device)
        wide = tokens.double()
        correlations = wide @ concepts.T
        energy = float(wide.square().sum())
        _require_finite(energy)
        solved, given_up = solve_batched(gram, correlations, max_steps=6 * 32)
        explained = float((solved * correlations).sum())
        activations = solved.float().cpu().numpy()
        if len(given_up):
            rest = self._solve_on_cpu(correlations[given_up].cpu().numpy(), energy=0.0)
            activations[given_up.cpu().numpy()] = rest.activations
            explained += float((torch.from_numpy(rest.activations).to(tokens.device) * correlations[given_up]).sum())
        return Projection(activations=activations, residual=max(0.0, energy - explained), energy=energy)


def _require_finite(energy: float) -> None:
    if not np.isfinite(energy):
        raise InvalidRequestError(
            "The feature map contains NaN or infinite values. Check the encoder's weights; on a GPU try --device cpu."
        )
