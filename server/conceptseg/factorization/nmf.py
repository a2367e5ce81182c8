"""Dictionaries from tokens of many regions by non-negative factorization."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning

from conceptseg.factorization.learned import Learned, require_enough

_TINY = 1e-12


def fit_nmf(tokens: NDArray[np.float32], *, n_concepts: int, seed: int) -> Learned:
    """Mini-batch non-negative factorization of tokens X ~ A D, as the training script of F-SEG does it.

    Source: F-SEG (arXiv 2409.05697): scikit-learn's MiniBatchNMF from a random start. The rows of D get length 1, so
    that activations of different concepts can be compared. Needs about twice the memory of ``tokens``.

    Args:
        tokens: (n_tokens, channels), >= 0.
        n_concepts: Rows of D.
        seed: Chooses the start and the batches.

    Raises:
        InvalidRequestError: fewer tokens than concepts.
    """
    require_enough(len(tokens), n_concepts)
    model = MiniBatchNMF(n_concepts, init="random", random_state=seed, batch_size=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        activations = model.fit_transform(np.asarray(tokens))
    lengths = np.linalg.norm(model.components_, axis=1)
    sizes = activations.sum(axis=0, dtype=np.float64) * lengths
    order = np.argsort(-sizes, kind="stable")
    concepts = model.components_ / np.maximum(lengths, _TINY)[:, None]
    return Learned(concepts=concepts[order].astype(np.float32), sizes=sizes[order])
