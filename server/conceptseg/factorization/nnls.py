"""Projection of tokens onto a concept dictionary: exact non-negative least squares."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.factorization._nnls_batched import solve_batched
from conceptseg.factorization._nnls_kernel import allocate, solve_rows
from conceptseg.factorization.activations import entries_of

if TYPE_CHECKING:
    from conceptseg.factorization._nnls_triton import TokenSolver

_log = logging.getLogger(__name__)
_ROWS_PER_TASK = 1024
_STEPS_PER_CONCEPT = 10
_PLACES = (16, 32)
"""Active concepts of a token for which a GPU has room, first try and second; solutions have 3 to 9."""

_WITHOUT_KERNEL: set[torch.device] = set()
"""GPUs for which Triton's kernel could not be compiled or started."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """Activations of a set of tokens; entries in the order of the tokens, concepts ascending.

    Attributes:
        n_concepts: Number of concepts.
        count: (n_tokens,) int64, entries of every token.
        concept: (entries,) uint16.
        value: (entries,) float32, > 0.
        residual: Sum over tokens of ||x - D^T a||².
        energy: Sum over tokens of ||x||².
    """

    n_concepts: int
    count: NDArray[np.int64]
    concept: NDArray[np.uint16]
    value: NDArray[np.float32]
    residual: float
    energy: float

    @property
    def activations(self) -> NDArray[np.float32]:
        """(n_tokens, n_concepts) float32, >= 0."""
        dense = np.zeros((len(self.count), self.n_concepts), np.float32)
        dense[np.repeat(np.arange(len(self.count)), self.count), self.concept] = self.value
        return dense


@dataclass(frozen=True, kw_only=True, eq=False)
class _OnDevice:
    """What a GPU keeps from batch to batch."""

    concepts: Tensor
    gram: Tensor
    fetching: torch.cuda.Stream


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
        self._devices: dict[torch.device, _OnDevice] = {}

    def project(self, tokens: Tensor) -> Projection:
        """Return the activations of ``tokens`` (n_tokens, channels), solved on the tokens' device.

        Raises:
            InvalidRequestError: wrong number of channels, or tokens with NaN or infinite values.
        """
        return self.start(tokens)()

    def start(self, tokens: Tensor) -> Callable[[], Projection]:
        """Begin what `project` does and return the function that ends it, which may run in another thread.

        Nothing in the first half waits for a GPU, so that the next forward pass can be queued behind it.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self._concepts.shape[1]:
            raise InvalidRequestError(
                f"Expected tokens (n, {self._concepts.shape[1]}), got {tuple(tokens.shape)}: "
                "the dictionary belongs to another encoder or layer."
            )
        if tokens.device.type == "cuda":
            with torch.cuda.device(tokens.device):
                return self._start_on_device(tokens)
        return lambda: self._project_on_cpu(tokens.cpu().numpy())

    def _project_on_cpu(self, tokens: NDArray[np.float32]) -> Projection:
        correlations = np.empty((len(tokens), len(self._concepts)))
        energy = 0.0
        for start in range(0, len(tokens), _ROWS_PER_TASK):  # few enough to stay in the cache
            rows = slice(start, start + _ROWS_PER_TASK)
            wide = tokens[rows].astype(np.float64)
            np.matmul(wide, self._concepts.T, out=correlations[rows])
            energy += float(np.vdot(wide, wide))
        _require_finite(energy)
        activations, explained = self._solve_on_cpu(correlations)
        count, concept, value = entries_of(activations)
        return Projection(
            n_concepts=len(self._concepts),
            count=count,
            concept=concept,
            value=value,
            residual=max(0.0, energy - float(explained.sum())),
            energy=energy,
        )

    def _solve_on_cpu(self, correlations: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Activations (n, k), and what they explain of each token's energy (n,)."""
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
        return activations, explained

    def _start_on_device(self, tokens: Tensor) -> Callable[[], Projection]:
        if tokens.device not in self._devices:
            self._devices[tokens.device] = _OnDevice(
                concepts=torch.from_numpy(self._concepts).to(tokens.device),
                gram=torch.from_numpy(self._gram).to(tokens.device),
                fetching=torch.cuda.Stream(tokens.device, priority=-1),  # type: ignore[no-untyped-call]
            )
        here = self._devices[tokens.device]
        gram, fetching = here.gram, here.fetching
        wide = tokens.double()
        correlations = wide @ here.concepts.T
        energy = torch.linalg.vector_norm(wide).square()
        solver = _first_try(gram, correlations)
        started = torch.cuda.Event()  # type: ignore[no-untyped-call]
        started.record()

        def finish() -> Projection:
            # In a stream of its own: in the encoder's, every question would be answered after the batches behind.
            with torch.cuda.stream(fetching):
                fetching.wait_event(started)
                if solver is None:
                    return self._finish(energy, correlations, *self._solve_in_batches(gram, correlations))
                solver.solve(solver.unfinished.nonzero()[:, 0], places=_PLACES[1])
                given_up = solver.unfinished.nonzero()[:, 0]
                return self._finish(energy, correlations, solver.activations, solver.explained, given_up)

        return finish

    def _solve_in_batches(self, gram: Tensor, correlations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        solved, given_up = solve_batched(gram, correlations, max_steps=6 * 32)
        return solved.float(), (solved * correlations).sum(dim=1), given_up

    def _finish(
        self, energy: Tensor, correlations: Tensor, activations: Tensor, explained: Tensor, given_up: Tensor
    ) -> Projection:
        """Solve what the device gave up, and fetch the entries that are not 0."""
        whole = float(energy)
        _require_finite(whole)
        if len(given_up):
            rest, explained_rest = self._solve_on_cpu(correlations[given_up].cpu().numpy())
            activations[given_up] = torch.from_numpy(rest).to(activations.device)
            explained[given_up] = torch.from_numpy(explained_rest).to(explained.device)
        token, concept = activations.nonzero(as_tuple=True)
        return Projection(
            n_concepts=len(self._concepts),
            count=torch.bincount(token, minlength=len(activations)).cpu().numpy(),
            concept=concept.to(torch.int32).cpu().numpy().astype(np.uint16),
            value=activations[token, concept].cpu().numpy(),
            residual=max(0.0, whole - float(explained.sum())),
            energy=whole,
        )


def _first_try(gram: Tensor, correlations: Tensor) -> TokenSolver | None:
    """Begin with all tokens by Triton's kernel; None where there is none that runs."""
    token_solver = _token_solver()
    if token_solver is None or gram.device in _WITHOUT_KERNEL:
        return None
    solver = token_solver(gram, correlations, max_steps=_STEPS_PER_CONCEPT * len(gram) + 10)
    try:
        solver.solve(torch.arange(len(correlations), device=gram.device), places=_PLACES[0])
    except Exception as error:
        # Triton compiles when it is first used: it may miss a C compiler, the driver's library, or know no such GPU.
        if isinstance(error, torch.OutOfMemoryError) or "CUDA error" in str(error):
            raise
        _WITHOUT_KERNEL.add(gram.device)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        _log.warning("Triton cannot be used on %s (%s): the factorization is slower there.", gram.device, reason)
        return None
    return solver


@cache
def _token_solver() -> type[TokenSolver] | None:
    """The Triton solver, imported where it is used: it takes longer to load than most commands have to do."""
    try:
        from conceptseg.factorization._nnls_triton import TokenSolver
    except ImportError:  # torch brings Triton along on Linux only
        return None
    return TokenSolver


def _require_finite(energy: float) -> None:
    if not np.isfinite(energy):
        raise InvalidRequestError(
            "The feature map contains NaN or infinite values. Check the encoder's weights; on a GPU try --device cpu."
        )
