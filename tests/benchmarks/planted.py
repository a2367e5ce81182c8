"""Features with a known answer: mixtures of the concepts of a dictionary, and noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conceptseg.factorization.published import read_published

NOISE = (0.01, 0.1, 0.5)
"""Standard deviation of the noise, as a share of that of the features."""


def uni_dictionary(shared: Path, *, k: int) -> tuple[np.ndarray, str]:
    """The published UNI dictionary (k, 1024) where the development data is, else one like it; and which it is."""
    file = shared / "concepts" / "uni.joblib"
    if file.exists():
        return np.maximum(read_published(file)[k], 0), "published UNI dictionary"
    # Concepts that vary by an eighth around a common direction have its condition, 2e4 at k = 64, and its length, 9.
    rng = np.random.default_rng(0)
    common = 0.33 * rng.gamma(0.5, size=1024)
    concepts = np.maximum(common * (1 + 0.125 * rng.normal(size=(k, 1024))), 0)
    return concepts.astype(np.float32), "random dictionary of UNI's size and condition"


def plant(concepts: np.ndarray, *, tokens: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (tokens, channels) and the mixtures (tokens, n_concepts) they were made of.

    Every token has one to four concepts whose shares add up to 1. Features are clipped at 0, as ReLU's are.
    """
    rng = np.random.default_rng(seed)
    mixtures = np.zeros((tokens, len(concepts)))
    for mixture in mixtures:
        present = rng.choice(len(concepts), rng.integers(1, 5), replace=False)
        mixture[present] = rng.dirichlet(np.ones(len(present)))
    clean = mixtures @ concepts
    features = np.maximum(clean + rng.normal(0, noise * clean.std(), clean.shape), 0)
    return features.astype(np.float32), mixtures


def coefficient_error(activations: np.ndarray, mixtures: np.ndarray) -> float:
    """||found - planted|| / ||planted||."""
    return float(np.linalg.norm(activations - mixtures) / np.linalg.norm(mixtures))


def label_accuracy(activations: np.ndarray, mixtures: np.ndarray) -> float:
    """Share of tokens whose strongest concept is the planted one."""
    return float((activations.argmax(axis=1) == mixtures.argmax(axis=1)).mean())
