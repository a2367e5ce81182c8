"""Fitting concept dictionaries on many regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import (
    IsCancelled,
    Progress,
    ReportProgress,
    never_cancelled,
    report_nothing,
    stop_if,
)
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.learn import fit_kmeans
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.activate import sample_ranks
from conceptseg.pipeline.tokens import encode_tiles, tile_grid


def fit_concepts(
    sources: Iterable[PixelSource],
    *,
    encoder: Encoder,
    ks: Sequence[int],
    seed: int = 0,
    tokens_per_source: int = 2000,
    provenance: Mapping[str, str],
    total: int,
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> tuple[ConceptDictionary, ...]:
    """Fit one dictionary per k by mini-batch k-means on tissue tokens sampled evenly over regions.

    Args:
        sources: The regions, read one after another.
        encoder: The frozen encoder.
        ks: Numbers of concepts.
        seed: Seed of the sampling and of k-means; the same seed and data give the same dictionaries.
        tokens_per_source: At most this many tissue tokens per region.
        provenance: Recorded in every dictionary.
        total: Number of regions, for the progress.
        progress: Told after every region.
        cancelled: Asked before every batch of tiles.

    Raises:
        InvalidRequestError: no k, or fewer tissue tokens than the largest k.
    """
    if not ks:
        raise InvalidRequestError("Expected at least one k.")
    sampled: list[NDArray[np.float32]] = []
    for number, source in enumerate(sources):
        progress(Progress(stage="encode", done=number, total=total))
        sampled.append(
            sample_tokens(source, encoder=encoder, seed=seed + number, at_most=tokens_per_source, cancelled=cancelled)
        )
    tokens = np.concatenate(sampled) if sampled else np.empty((0, encoder.spec.channels), np.float32)
    dictionaries = []
    for number, k in enumerate(ks):
        stop_if(cancelled)
        progress(Progress(stage="fit", done=number, total=len(ks)))
        dictionaries.append(
            ConceptDictionary(
                identifier=f"{encoder.spec.identifier.replace(':', '-').replace('/', '-')}-k{k}",
                concepts=fit_kmeans(tokens, n_concepts=k, seed=seed),
                encoder=encoder.spec.identifier,
                pixel_size_um=encoder.spec.pixel_size_um,
                provenance={
                    "method": "mini-batch k-means (scikit-learn) on tissue tokens",
                    "layer": encoder.spec.layer,
                    "transform": f"mean {encoder.spec.mean}, std {encoder.spec.std}",
                    "seed": str(seed),
                    "tokens": str(len(tokens)),
                    "regions": str(len(sampled)),
                    "tokens per region, at most": str(tokens_per_source),
                    **provenance,
                },
            )
        )
    progress(Progress(stage="fit", done=len(ks), total=len(ks)))
    return tuple(dictionaries)


def sample_tokens(
    source: PixelSource,
    *,
    encoder: Encoder,
    seed: int,
    at_most: int,
    cancelled: IsCancelled = never_cancelled,
) -> NDArray[np.float32]:
    """A seeded random sample of a region's tissue tokens, (n, channels); independent of the tile size."""
    tiles = tile_grid(source.grid, encoder, tile_px=None)
    ranks = sample_ranks(tiles.tokens_high, tiles.tokens_wide, seed=seed)
    best_ranks: NDArray[np.int64] = np.empty(0, np.int64)
    best: NDArray[np.float32] = np.empty((0, encoder.spec.channels), np.float32)
    for tile in encode_tiles(source, encoder, tiles, whole_region=False, cancelled=cancelled):
        if tile.tokens is None:
            continue
        all_ranks = np.concatenate([best_ranks, ranks[tile.rows, tile.columns]])
        keep = np.argsort(all_ranks)[:at_most]
        best = np.concatenate([best, tile.tokens.cpu().numpy()])[keep]
        best_ranks = all_ranks[keep]
    return best
