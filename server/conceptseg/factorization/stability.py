"""How far concepts depend on chance: what two dictionaries that saw different tokens agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from conceptseg.domain.progress import never_cancelled
from conceptseg.factorization.hierarchy import nested_levels
from conceptseg.factorization.learned import Learned
from conceptseg.factorization.lloyd import lloyd
from conceptseg.factorization.nnls import NonNegativeProjector

_COMPARED = 1500  # tokens of each half that are labelled


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """What two halves of the tokens agree on.

    Attributes:
        labels: (n_ks,) adjusted Rand index of the labels that both dictionaries give to the same tokens: 1 for the
            same groups, 0 for chance.
        residuals: (n_ks,) ||F - D^T A|| / ||F|| of the tokens of either half under the dictionary of the other.
    """

    labels: NDArray[np.float64]
    residuals: NDArray[np.float64]


def agreement(first: NDArray[np.float32], second: NDArray[np.float32], *, ks: Sequence[int], seed: int) -> Agreement:
    """Fit dictionaries on either half, and compare.

    Args:
        first: (n, channels) tokens of one half.
        second: (n, channels) of the other.
        ks: Numbers of concepts, increasing; the dictionaries of each half contain each other.
        seed: Of the fits, which start differently.
    """
    halves = [torch.from_numpy(np.array(half[:_COMPARED])) for half in (first, second)]
    levels = [
        nested_levels(_fitted(half, n_concepts=ks[-1], seed=2 * seed + n), ks=ks, unit_length=False)
        for n, half in enumerate((first, second))
    ]
    labels, residuals = [], []
    for pair in zip(*levels, strict=True):
        projectors = [NonNegativeProjector(level.learned.concepts) for level in pair]
        results = [[projector.project(half) for half in halves] for projector in projectors]
        named = [np.concatenate([result.activations.argmax(axis=1) for result in each]) for each in results]
        labels.append(adjusted_rand_score(*named))
        across = [results[0][1], results[1][0]]
        residuals.append(np.sqrt(sum(r.residual for r in across) / max(sum(r.energy for r in across), 1e-12)))
    return Agreement(labels=np.array(labels), residuals=np.array(residuals))


def _fitted(tokens: NDArray[np.float32], *, n_concepts: int, seed: int) -> Learned:
    # On so few tokens Lloyd's algorithm is faster than mini-batches, and ends lower.
    centres, sizes = lloyd(
        tokens,
        n_concepts=n_concepts,
        seed=seed,
        spherical=False,
        device=torch.device("cpu"),
        cancelled=never_cancelled,
    )
    return Learned(concepts=np.maximum(centres, 0), sizes=sizes.astype(np.float64))


class ShapelessTokens:
    """Tokens with the mean and the covariance of given ones, and nothing else: groups in them are chance."""

    def __init__(self, tokens: NDArray[np.float32]) -> None:
        self._mean = tokens.mean(axis=0, dtype=np.float64)
        values, vectors = np.linalg.eigh(np.cov(tokens, rowvar=False, dtype=np.float64))
        self._spread = vectors * np.sqrt(np.maximum(values, 0))

    def draw(self, count: int, *, rng: np.random.Generator) -> NDArray[np.float32]:
        """New tokens, (count, channels), clipped at 0 like features."""
        drawn = self._mean + rng.standard_normal((count, len(self._mean))) @ self._spread.T
        clipped: NDArray[np.float32] = np.maximum(drawn, 0).astype(np.float32)
        return clipped
