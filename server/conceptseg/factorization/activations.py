"""Activation maps of whole regions, kept sparse."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def part(self, rows: slice, columns: slice) -> ActivationMap:
        """The map of some tokens; shares the entries."""
        return replace(self, start=self.start[rows, columns], count=self.count[rows, columns])

    def relabelled(self, relabel: NDArray[np.intp], *, n_concepts: int) -> ActivationMap:
        """The same activations under concepts ``relabel[concept]``; those of one new concept add up."""
        return replace(self, concept=relabel.astype(np.uint16)[self.concept], n_concepts=n_concepts)


def entries_of(
    activations: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.float32]]:
    """Entries per token, their concepts and their values, of dense activations (n_tokens, n_concepts)."""
    token, concept = np.nonzero(activations)
    count = np.bincount(token, minlength=len(activations))
    return count, concept.astype(np.uint16), activations[token, concept]


@dataclass(frozen=True, eq=False)
class _Part:
    """Tokens that came together: their places, and their entries one token after the other."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    count: NDArray[np.int64]
    concept: NDArray[np.uint16]
    value: NDArray[np.float32]


class ActivationMapBuilder:
    """Collects the activations of tiles, in any order, into maps of a grid of (grid_h, grid_w) tokens."""

    def __init__(self, *, grid_h: int, grid_w: int, n_concepts: int):
        self._grid_h, self._grid_w, self._n_concepts = grid_h, grid_w, n_concepts
        self._parts: list[_Part] = []

    def add(self, activations: NDArray[np.float32], *, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        """Set the tokens at (rows[i], columns[i]) to ``activations[i]``, (n_tokens, n_concepts)."""
        self.add_entries(*entries_of(activations), rows=rows, columns=columns)

    def add_entries(
        self,
        count: NDArray[np.int64],
        concept: NDArray[np.uint16],
        value: NDArray[np.float32],
        *,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
    ) -> None:
        """Set the tokens at (rows[i], columns[i]) to the next count[i] entries, concepts ascending."""
        self._parts.append(_Part(rows, columns, count, concept, value))

    def forget(self, *, before_row: int) -> None:
        """Give back the memory of tokens in rows before ``before_row``."""
        self._parts = [part for part in self._parts if len(part.rows) and part.rows.max() >= before_row]

    def build(self, *, first_row: int = 0, last_row: int | None = None) -> ActivationMap:
        """The map of rows ``first_row`` … ``last_row`` (not included), of all rows by default."""
        last_row = self._grid_h if last_row is None else last_row
        start = np.zeros((last_row - first_row, self._grid_w), np.int64)
        count = np.zeros(start.shape, np.int32)
        concepts, values = [np.empty(0, np.uint16)], [np.empty(0, np.float32)]
        entries = 0
        for part in self._parts:
            inside = (part.rows >= first_row) & (part.rows < last_row)
            if not inside.any():
                continue
            kept = np.repeat(inside, part.count)
            own = part.count[inside]
            place = part.rows[inside] - first_row, part.columns[inside]
            start[place] = entries + np.cumsum(own) - own
            count[place] = own
            concepts.append(part.concept[kept])
            values.append(part.value[kept])
            entries += int(own.sum())
        return ActivationMap(
            n_concepts=self._n_concepts,
            start=start,
            count=count,
            concept=np.concatenate(concepts),
            value=np.concatenate(values),
        )
