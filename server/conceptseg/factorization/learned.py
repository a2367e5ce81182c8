"""Concepts that were learned from tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """Concepts learned from tokens, the largest first.

    Attributes:
        concepts: (n_concepts, channels) float32, >= 0.
        sizes: (n_concepts,) float64, how much of the tokens each stands for: a number of tokens, or a sum of
            activations.
    """

    concepts: NDArray[np.float32]
    sizes: NDArray[np.float64]


def require_enough(n_tokens: int, n_concepts: int) -> None:
    """Raise InvalidRequestError for fewer tokens than concepts."""
    if n_concepts < 1:
        raise InvalidRequestError(f"Expected k >= 1, got {n_concepts}.")
    if n_tokens < n_concepts:
        raise InvalidRequestError(
            f"Expected at least as many tissue tokens as concepts, got {n_tokens} tokens for k = {n_concepts}. "
            "Choose a smaller --k or a larger region."
        )
