"""Dictionaries from tokens of many regions by k-means."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from conceptseg.domain.progress import IsCancelled, never_cancelled
from conceptseg.factorization.learned import Learned, require_enough
from conceptseg.factorization.lloyd import lloyd

_CPU = torch.device("cpu")


def fit_kmeans(
    tokens: NDArray[np.float32],
    *,
    n_concepts: int,
    seed: int,
    spherical: bool = False,
    device: torch.device = _CPU,
    cancelled: IsCancelled = never_cancelled,
) -> Learned:
    """K-means centres of tokens.

    On a CPU scikit-learn's mini-batch k-means; on another device, and for ``spherical``, Lloyd's algorithm in torch
    over all tokens, a chunk at a time. Memory beside ``tokens``, which may be a memory map, does not grow with them.

    Args:
        tokens: (n_tokens, channels), >= 0.
        n_concepts: Number of centres.
        seed: Chooses the starting centres and the batches.
        spherical: Compare directions: tokens and centres count with length 1.
        device: Where to compute.
        cancelled: Asked once per round in torch.

    Raises:
        InvalidRequestError: fewer tokens than concepts.
    """
    require_enough(len(tokens), n_concepts)
    if spherical or device.type != "cpu":
        centres, sizes = lloyd(
            tokens, n_concepts=n_concepts, seed=seed, spherical=spherical, device=device, cancelled=cancelled
        )
    else:
        with warnings.catch_warnings():
            # Fewer distinct tokens than concepts (blank images): centres then repeat, which the projection handles.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = MiniBatchKMeans(n_concepts, random_state=seed, batch_size=4096, n_init=3, max_iter=200).fit(tokens)
        centres, sizes = model.cluster_centers_, np.bincount(model.labels_, minlength=n_concepts)
    order = np.argsort(-sizes, kind="stable")
    return Learned(
        concepts=np.maximum(centres[order].astype(np.float32), 0), sizes=np.asarray(sizes[order], np.float64)
    )
