"""Tissue tokens to learn from: of every image the same number, chosen by position."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.progress import IsCancelled, Progress, ReportProgress, never_cancelled, report_nothing
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.slide import TissueSettings, look_at
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.token_sample import TokenSample, sample_ranks
from conceptseg.pipeline.tokens import encode_tiles, tile_grid

TOKENS_PER_SOURCE = 2000
MAX_TOKENS = 200_000
_SLACK = 1.25
_AS_FOUND = TissueSettings()


def fair_share(counts: Sequence[int], *, max_tokens: int) -> int:
    """The largest number of tokens that every region may give so that all together stay within ``max_tokens``.

    Args:
        counts: Tokens that each region has; those with fewer than the share give all.
        max_tokens: Of all regions.

    Returns:
        The share, at least 1; the largest count if that is within the limit.
    """
    left, share = max_tokens, 0
    ordered = sorted(counts)
    for number, count in enumerate(ordered):
        if (count - share) * (len(ordered) - number) > left:
            return max(1, share + left // (len(ordered) - number))
        left -= (count - share) * (len(ordered) - number)
        share = count
    return max(1, share)


class TokenPool:
    """Tokens of region after region in memory; hardly more than ``max_tokens``, however many regions come."""

    def __init__(self, *, per_source: int, max_tokens: int) -> None:
        self._share, self._max_tokens = per_source, max_tokens
        self._parts: list[NDArray[np.float32]] = []
        self._total = 0

    @property
    def counts(self) -> tuple[int, ...]:
        """Tokens of each region."""
        self._thin()
        return tuple(map(len, self._parts))

    @property
    def wanted(self) -> int:
        """Tokens of the next region that can matter."""
        return self._share

    def add(self, tokens: NDArray[np.float32]) -> None:
        """Add a region's tokens (n, channels), first those to keep longest; others may give up tokens for them."""
        self._parts.append(tokens)
        self._total += len(tokens)
        if self._total > _SLACK * self._max_tokens:  # not for every region: there may be a hundred thousand
            self._thin()

    def tokens(self, channels: int) -> NDArray[np.float32]:
        """All tokens, (n, channels)."""
        self._thin()
        return np.concatenate([np.empty((0, channels), np.float32), *self._parts])

    def _thin(self) -> None:
        if self._total <= self._max_tokens:
            return
        self._share = fair_share([len(part) for part in self._parts], max_tokens=self._max_tokens)
        # Copies, because a part of an array keeps all of it in memory.
        self._parts = [part if len(part) <= self._share else part[: self._share].copy() for part in self._parts]
        self._total = sum(map(len, self._parts))


def sample_tokens(
    source: PixelSource,
    *,
    encoder: Encoder,
    seed: int,
    at_most: int,
    tissue: TissueSettings = _AS_FOUND,
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> NDArray[np.float32]:
    """A random sample of a region's tissue tokens.

    It depends on the seed, the region's name and its grid: not on the tile size, nor on other regions. The first n
    rows are the sample of n.

    Args:
        source: The region.
        encoder: The encoder.
        seed: Chooses the tokens.
        at_most: How many.
        tissue: How tissue is told from glass.
        progress: Told after every tile.
        cancelled: Asked before every batch of tiles.

    Returns:
        (n, channels), n <= at_most.
    """
    tiles = tile_grid(source.grid, encoder, tile_px=None)
    ranks = sample_ranks(tiles.tokens_high, tiles.tokens_wide, seed=_seed_of(source.name, seed))
    sample = TokenSample(at_most, encoder.spec.channels)
    done = 0
    glass = look_at(source.overview(), name=source.name, settings=tissue).glass
    for batch in encode_tiles(source, encoder, tiles, glass=glass, cancelled=cancelled):
        if batch.tokens is not None:
            sample.offer(ranks[batch.rows, batch.columns], batch.tokens)
        done += len(batch.tiles)
        progress(Progress(stage="tiles", done=done, total=len(tiles)))
    return sample.best()


def _seed_of(name: str, seed: int) -> int:
    """A seed of its own for every image, whatever other images there are."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")
