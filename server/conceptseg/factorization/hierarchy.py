"""Dictionaries that contain each other: every coarse concept is made of finer ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.factorization.learned import Learned

_COARSER, _PARENTS = "coarser dictionary", "parents of the concepts"
_FINER, _CHILDREN = "finer dictionary", "children of the concepts"


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """One dictionary of a hierarchy.

    Attributes:
        learned: Its concepts: those of the coarsest level by size, the others by parent and then by size.
        parents: (n_concepts,) index of each concept's parent in the next coarser level; empty in the coarsest.
    """

    learned: Learned
    parents: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Where a dictionary stands in its hierarchy.

    Attributes:
        coarser: Identifier of the next coarser dictionary; None in the coarsest.
        parents: Per concept, the one of ``coarser`` that it is part of.
        finer: Identifier of the next finer dictionary; None in the finest.
        children: Per concept, those of ``finer`` that it is made of.
    """

    coarser: str | None = None
    parents: tuple[int, ...] = ()
    finer: str | None = None
    children: tuple[tuple[int, ...], ...] = ()

    def to_provenance(self) -> dict[str, str]:
        """As a dictionary file records it."""
        facts: dict[str, str] = {}
        if self.coarser is not None:
            facts |= {_COARSER: self.coarser, _PARENTS: " ".join(map(str, self.parents))}
        if self.finer is not None:
            children = "; ".join(" ".join(map(str, each)) for each in self.children)
            facts |= {_FINER: self.finer, _CHILDREN: children}
        return facts

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, str]) -> Family:
        """What a dictionary file records; without a hierarchy, or where a person changed it, nothing."""
        try:
            parents = tuple(int(number) for number in provenance.get(_PARENTS, "").split())
            children = tuple(
                tuple(int(number) for number in each.split()) for each in provenance.get(_CHILDREN, "").split(";")
            )
        except ValueError:
            return cls()
        return cls(
            coarser=provenance.get(_COARSER),
            parents=parents,
            finer=provenance.get(_FINER),
            children=children if _CHILDREN in provenance else (),
        )

    @staticmethod
    def other_facts(provenance: Mapping[str, str]) -> dict[str, str]:
        """What a dictionary file records beside the hierarchy."""
        own = {_COARSER, _PARENTS, _FINER, _CHILDREN}
        return {key: value for key, value in provenance.items() if key not in own}


def nested_levels(finest: Learned, *, ks: Sequence[int], unit_length: bool) -> tuple[Level, ...]:
    """Coarser dictionaries by merging concepts of the finest one, two at a time.

    Those are merged whose union adds least to the squared distances of tokens from their concept (Ward, JASA 1963),
    so a coarse concept is the mean of all tokens of its parts.

    Args:
        finest: The concepts to merge.
        ks: Numbers of concepts, increasing; the last is that of ``finest``.
        unit_length: Give merged concepts length 1 again.

    Returns:
        One level per k, in this order.
    """
    if list(ks) != sorted(set(ks)) or ks[0] < 1 or ks[-1] != len(finest.concepts):
        raise InvalidRequestError(f"Expected increasing numbers of concepts up to {len(finest.concepts)}, got {ks}.")
    groups = _merged(finest, ks)
    levels: list[Level] = []
    order = np.zeros(0, np.intp)
    for n, members in enumerate(groups):
        sizes = np.bincount(members, weights=finest.sizes, minlength=ks[n]).astype(np.float64)
        parents = np.zeros(ks[n], np.intp)
        if n:
            # Any member tells the parent: the levels contain each other.
            coarse = order[groups[n - 1]]
            parents[members] = coarse
        by_parent = np.lexsort((-sizes, parents))
        order = np.empty(ks[n], np.intp)
        order[by_parent] = np.arange(ks[n])
        learned = Learned(
            concepts=_means(finest, order[members], ks[n], unit_length=unit_length), sizes=sizes[by_parent]
        )
        levels.append(Level(learned=learned, parents=parents[by_parent] if n else np.zeros(0, np.intp)))
    return tuple(levels)


def families(levels: Sequence[Level], identifiers: Sequence[str]) -> tuple[Family, ...]:
    """Where each level stands among the others."""
    found = []
    for n, level in enumerate(levels):
        finer = levels[n + 1].parents if n + 1 < len(levels) else None
        found.append(
            Family(
                coarser=identifiers[n - 1] if n else None,
                parents=tuple(level.parents.tolist()),
                finer=identifiers[n + 1] if finer is not None else None,
                children=tuple(tuple(np.flatnonzero(finer == c).tolist()) for c in range(len(level.learned.concepts)))
                if finer is not None
                else (),
            )
        )
    return tuple(found)


def _merged(finest: Learned, ks: Sequence[int]) -> list[NDArray[np.intp]]:
    """Per k the group of every finest concept, (n_finest,) numbered 0 … k - 1."""
    count = len(finest.concepts)
    centres = finest.concepts.astype(np.float64)
    weights = np.maximum(finest.sizes, _least(finest.sizes))
    group = np.arange(count)
    alive = np.ones(count, np.bool_)
    lengths = (centres**2).sum(axis=1)
    squared = np.maximum(lengths[:, None] + lengths - 2 * centres @ centres.T, 0)
    costs = squared * (weights[:, None] * weights / (weights[:, None] + weights))
    np.fill_diagonal(costs, np.inf)
    wanted = {}
    for left in range(count, 0, -1):
        if left in ks:
            wanted[left] = np.unique(group, return_inverse=True)[1].astype(np.intp)
        if left == ks[0]:
            break
        first, second = sorted(divmod(int(costs.argmin()), count))
        total = weights[first] + weights[second]
        centres[first] = (weights[first] * centres[first] + weights[second] * centres[second]) / total
        weights[first] = total
        group[group == second] = first
        alive[second] = False
        costs[second], costs[:, second] = np.inf, np.inf
        row = ((centres - centres[first]) ** 2).sum(axis=1) * (weights * total / (weights + total))
        row[~alive] = np.inf
        row[first] = np.inf
        costs[first], costs[:, first] = row, row
    return [wanted[k] for k in ks]


def _least(sizes: NDArray[np.float64]) -> float:
    """A weight for concepts that nothing belongs to: they are merged first, but count."""
    used = sizes[sizes > 0]
    return float(used.min()) * 1e-3 if used.size else 1.0


def _means(finest: Learned, members: NDArray[np.intp], k: int, *, unit_length: bool) -> NDArray[np.float32]:
    weights = np.maximum(finest.sizes, _least(finest.sizes))
    sums = np.zeros((k, finest.concepts.shape[1]))
    np.add.at(sums, members, weights[:, None] * finest.concepts)
    means = sums / np.bincount(members, weights=weights, minlength=k)[:, None]
    if unit_length:
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    rows: NDArray[np.float32] = means.astype(np.float32)
    alone = np.bincount(members, minlength=k) == 1
    rows[members[alone[members]]] = finest.concepts[alone[members]]  # exactly, not rounded through a mean
    return rows
