"""Activation maps of whole regions, kept sparse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationMap:
    """The non-negative coefficients of every token of a region.

    An exact solution has a handful of non-zeros per token, so a region costs about 40 bytes per token instead of
    4 × n_concepts. Token (i, j) owns ``concept[start[i, j] : start[i, j] + count[i, j]]``, concepts ascending.

    Attributes:
        n_concepts: Number of concepts.
        start: (grid_h, grid_w) int64, first entry of a token.
        count: (grid_h, grid_w) int32, entries of a token; 0 for tokens that were not encoded.
        concept: (entries,) uint16.
        value: (entries,) float32, > 0.
    """

    n_concepts: int
    start: NDArray[np.int64]
    count: NDArray[np.int32]
    concept: NDArray[np.uint16]
    value: NDArray[np.float32]

    def dense(self) -> NDArray[np.float32]:
        """Return (n_concepts, grid_h, grid_w) float32; for tests and small regions."""
        out = np.zeros((self.n_concepts, *self.start.shape), np.float32)
        for i, j in np.argwhere(self.count):
            own = slice(self.start[i, j], self.start[i, j] + self.count[i, j])
            out[self.concept[own], i, j] = self.value[own]
        return out


class ActivationMapBuilder:
    """Collects the activations of tiles, in any order, into one map of (grid_h, grid_w) tokens."""

    def __init__(self, *, grid_h: int, grid_w: int, n_concepts: int):
        self._n_concepts = n_concepts
        self._start = np.zeros((grid_h, grid_w), np.int64)
        self._count = np.zeros((grid_h, grid_w), np.int32)
        self._concepts: list[NDArray[np.uint16]] = []
        self._values: list[NDArray[np.float32]] = []
        self._entries = 0

    def add(self, activations: NDArray[np.float32], *, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        """Set the tokens at (rows[i], columns[i]) to ``activations[i]``, (n_tokens, n_concepts)."""
        token, concept = np.nonzero(activations)
        count = np.bincount(token, minlength=len(activations))
        self._start[rows, columns] = self._entries + np.concatenate([[0], np.cumsum(count)[:-1]])
        self._count[rows, columns] = count
        self._concepts.append(concept.astype(np.uint16))
        self._values.append(activations[token, concept])
        self._entries += len(token)

    def build(self) -> ActivationMap:
        """Return the finished map."""
        return ActivationMap(
            n_concepts=self._n_concepts,
            start=self._start,
            count=self._count,
            concept=np.concatenate([np.empty(0, np.uint16), *self._concepts]),
            value=np.concatenate([np.empty(0, np.float32), *self._values]),
        )
