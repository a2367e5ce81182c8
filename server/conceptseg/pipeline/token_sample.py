"""A random sample of tokens, chosen by their position: neither tiles nor their order matter."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def sample_ranks(rows: int, columns: int, *, seed: int) -> NDArray[np.int64]:
    """A seeded random order of all tokens of a grid, (rows, columns): the smallest ranks are the sample."""
    order = np.random.default_rng(seed).permutation(rows * columns)
    return order.reshape(rows, columns)


class TokenSample:
    """The tokens of lowest rank among those that were offered; hardly more than twice as many are held."""

    def __init__(self, at_most: int, channels: int) -> None:
        self._at_most = at_most
        self._limit = np.iinfo(np.int64).max
        self._ranks: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._tokens: list[NDArray[np.float32]] = [np.empty((0, channels), np.float32)]
        self._count = 0

    def offer(self, ranks: NDArray[np.int64], tokens: Tensor) -> None:
        """Take those of ``tokens`` (n, channels) whose ``ranks`` (n,) are low enough so far."""
        good = np.flatnonzero(ranks < self._limit)
        self._ranks.append(ranks[good])
        self._tokens.append(tokens[torch.from_numpy(good).to(tokens.device)].cpu().numpy())
        self._count += len(good)
        if self._count > 2 * self._at_most:
            self._thin()

    def best(self) -> NDArray[np.float32]:
        """At most ``at_most`` tokens (n, channels), the lowest rank first."""
        self._thin()
        return self._tokens[0]

    def _thin(self) -> None:
        ranks = np.concatenate(self._ranks)
        order = np.argsort(ranks)[: self._at_most]
        self._ranks, self._tokens = [ranks[order]], [np.concatenate(self._tokens)[order]]
        self._count = len(order)
        if self._count == self._at_most:
            self._limit = int(ranks[order[-1]])
