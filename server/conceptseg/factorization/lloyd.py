"""Lloyd's k-means in torch, over tokens that need not fit the device or the memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus
from torch import Tensor
from torch.nn import functional

from conceptseg.domain.progress import IsCancelled, stop_if

_CHUNK = 16_384  # tokens on the device at once
_START_TOKENS = 10_000  # the starting centres are chosen among so many
_MAX_ROUNDS = 100
_TOLERANCE = 1e-4


def lloyd(
    tokens: NDArray[np.float32],
    *,
    n_concepts: int,
    seed: int,
    spherical: bool,
    device: torch.device,
    cancelled: IsCancelled,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centres of tokens, and how many tokens are nearest to each; the arguments are those of `fit_kmeans`."""

    def chunks() -> list[slice]:
        return [slice(start, start + _CHUNK) for start in range(0, len(tokens), _CHUNK)]

    def on_device(rows: NDArray[np.float32]) -> Tensor:
        moved = torch.from_numpy(np.array(rows, np.float32)).to(device)
        return functional.normalize(moved, dim=1) if spherical else moved

    chosen = np.sort(np.random.default_rng(seed).permutation(len(tokens))[: max(_START_TOKENS, n_concepts)])
    start, _ = kmeans_plusplus(on_device(tokens[chosen]).cpu().numpy(), n_concepts, random_state=seed)
    centres = torch.from_numpy(start).to(device)
    sizes = np.zeros(n_concepts, np.int64)
    previous = np.inf
    for _ in range(_MAX_ROUNDS):
        stop_if(cancelled)
        sums = np.zeros(start.shape, np.float64)
        sizes = np.zeros(n_concepts, np.int64)
        distances = np.empty(len(tokens), np.float32)
        for part in chunks():
            rows = on_device(tokens[part])
            squared = torch.cdist(rows, centres, compute_mode="use_mm_for_euclid_dist").square()
            nearest, which = squared.min(dim=1)
            # A product with one-hot rows: unlike scattered additions on a GPU, it gives the same sum every time.
            members = functional.one_hot(which, n_concepts).to(rows.dtype)
            sums += (members.T @ rows).cpu().double().numpy()
            sizes += members.sum(dim=0).long().cpu().numpy()
            distances[part] = nearest.cpu().numpy()
        means = sums / np.maximum(sizes, 1)[:, None]
        empty = np.flatnonzero(sizes == 0)
        # A centre that lost all its tokens starts again at one of those that are represented worst.
        means[empty] = on_device(tokens[np.argsort(-distances, kind="stable")[: len(empty)]]).cpu().numpy()
        centres = torch.from_numpy(means.astype(np.float32)).to(device)
        if spherical:
            centres = functional.normalize(centres, dim=1)
        inertia = float(distances.sum(dtype=np.float64))
        if previous - inertia <= _TOLERANCE * inertia:
            break
        previous = inertia
    return centres.cpu().numpy(), sizes
