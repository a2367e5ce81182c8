"""How dictionaries are learned from tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled
from conceptseg.factorization.hierarchy import Level, nested_levels
from conceptseg.factorization.kmeans import fit_kmeans
from conceptseg.factorization.learned import Learned
from conceptseg.factorization.nmf import fit_nmf

Algorithm = Literal["kmeans", "nmf"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How dictionaries are learned.

    Attributes:
        algorithm: ``kmeans``, or ``nmf``: non-negative factorization as in the training script of F-SEG.
        spherical: k-means on directions instead of distances.
        hierarchical: Fit the largest k only, and merge its concepts for the others: every coarse concept is made of
            finer ones.
    """

    algorithm: Algorithm = "kmeans"
    spherical: bool = False
    hierarchical: bool = False

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise InvalidRequestError(f"Expected an algorithm of {', '.join(ALGORITHMS)}, got {self.algorithm!r}.")
        if self.spherical and self.algorithm != "kmeans":
            raise InvalidRequestError("--spherical belongs to k-means: leave it out, or use --algorithm kmeans.")

    def describe(self, device: torch.device) -> str:
        """What is done, for the provenance."""
        if self.algorithm == "nmf":
            return "mini-batch NMF (scikit-learn) on tissue tokens"
        if self.spherical:
            return "spherical k-means (torch) on tissue tokens"
        return f"{'mini-batch k-means (scikit-learn)' if device.type == 'cpu' else 'k-means (torch)'} on tissue tokens"

    def learn(
        self,
        tokens: NDArray[np.float32],
        *,
        n_concepts: int,
        seed: int,
        device: torch.device,
        cancelled: IsCancelled,
    ) -> Learned:
        """Learn concepts from tokens (n, channels); raises InvalidRequestError for fewer tokens than concepts."""
        if self.algorithm == "nmf":
            return fit_nmf(tokens, n_concepts=n_concepts, seed=seed)
        return fit_kmeans(
            tokens, n_concepts=n_concepts, seed=seed, spherical=self.spherical, device=device, cancelled=cancelled
        )

    def merge(self, finest: Learned, ks: Sequence[int]) -> tuple[Level, ...]:
        """The levels of a hierarchy, coarsest first."""
        return nested_levels(finest, ks=ks, unit_length=self.spherical or self.algorithm == "nmf")
