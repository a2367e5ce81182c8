"""Tokens to activations, by each of the methods."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, Progress, ReportProgress
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.activations import ActivationMap, ActivationMapBuilder
from conceptseg.factorization.learn import learn_nmf, match_concepts, nearest_scores, reference_projection
from conceptseg.factorization.nnls import NonNegativeProjector
from conceptseg.imaging.source import PixelSource
from conceptseg.imaging.tissue import block_px_for
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.pipeline.tokens import TileTokens, encode_tiles, tile_grid

_LEARNING_TOKENS = 20_000
_KEPT_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Activated:
    """Activations of a region, and where its tissue is.

    Attributes:
        activations: Sparse (n_concepts, grid_h, grid_w).
        tissue: uint8 (block rows, block columns), 255 where there is tissue.
        block_px: Side of a tissue block in output px.
        concepts: (n_concepts, channels) that the activations belong to.
        relabel: For ``matched``: dictionary concept of each learned one; else None.
        relative_residual: ||F - D^T A|| / ||F||; NaN where the method has none.
        encode_seconds: Time until the tokens were there.
        factorize_seconds: Time for the factorization.
    """

    activations: ActivationMap
    tissue: NDArray[np.uint8]
    block_px: int
    concepts: NDArray[np.float32]
    relabel: NDArray[np.intp] | None
    relative_residual: float
    encode_seconds: float
    factorize_seconds: float

    @property
    def labelled_activations(self) -> ActivationMap:
        """The activations under the concept each is labelled with; learned ones of the same concept add up."""
        if self.relabel is None:
            return self.activations
        concept = self.relabel.astype(np.uint16)[self.activations.concept]
        return replace(self.activations, concept=concept, n_concepts=len(self.concepts))


class _Run:
    """One pass over a region: the parts that all methods share."""

    def __init__(
        self,
        source: PixelSource,
        encoder: Encoder,
        settings: SegmentSettings,
        *,
        progress: ReportProgress,
        cancelled: IsCancelled,
    ):
        self.tiles = tile_grid(source.grid, encoder, tile_px=settings.tile_px)
        self.block_px = block_px_for(encoder.spec.stride_px)
        self.tissue = np.zeros(
            (
                self.tiles.tokens_high * encoder.spec.stride_px // self.block_px,
                self.tiles.tokens_wide * encoder.spec.stride_px // self.block_px,
            ),
            np.uint8,
        )
        self.encode_seconds = 0.0
        self.factorize_seconds = 0.0
        self._source, self._encoder, self._settings = source, encoder, settings
        self._progress, self._cancelled = progress, cancelled

    def passes(self, stage: str) -> Iterator[TileTokens]:
        """Encode every tile, keeping the tissue map and the progress."""
        tiles = encode_tiles(
            self._source,
            self._encoder,
            self.tiles,
            whole_region=self._settings.whole_region,
            cancelled=self._cancelled,
        )
        self._progress(Progress(stage=stage, done=0, total=len(self.tiles)))
        started = time.perf_counter()
        for done, tile in enumerate(tiles, start=1):
            top, left = tile.tile.y // self.block_px, tile.tile.x // self.block_px
            high, wide = tile.tissue.shape
            self.tissue[top : top + high, left : left + wide] = np.where(tile.tissue, 255, 0)
            self.encode_seconds += time.perf_counter() - started
            yield tile
            started = time.perf_counter()
            self._progress(Progress(stage=stage, done=done, total=len(self.tiles)))

    def builder(self, n_concepts: int) -> ActivationMapBuilder:
        return ActivationMapBuilder(grid_h=self.tiles.tokens_high, grid_w=self.tiles.tokens_wide, n_concepts=n_concepts)

    def result(
        self,
        builder: ActivationMapBuilder,
        concepts: NDArray[np.float32],
        *,
        relative_residual: float,
    ) -> Activated:
        return Activated(
            activations=builder.build(),
            tissue=self.tissue,
            block_px=self.block_px,
            concepts=concepts,
            relabel=None,
            relative_residual=relative_residual,
            encode_seconds=self.encode_seconds,
            factorize_seconds=self.factorize_seconds,
        )


def activate(
    source: PixelSource,
    *,
    encoder: Encoder,
    dictionary: ConceptDictionary | None,
    settings: SegmentSettings,
    progress: ReportProgress,
    cancelled: IsCancelled,
) -> Activated:
    """Compute the activations of a region.

    Raises:
        InvalidRequestError: the method needs a dictionary and there is none; fewer tissue tokens than concepts.
        DictionaryError: the dictionary belongs to another encoder.
    """
    if dictionary is not None:
        dictionary.require_encoder(encoder.spec.identifier, channels=encoder.spec.channels)
    run = _Run(source, encoder, settings, progress=progress, cancelled=cancelled)
    if settings.method == "learned":
        return _learn_and_project(run, settings, match=None, cancelled=cancelled)
    if dictionary is None:
        raise InvalidRequestError(f"Method {settings.method!r} needs a dictionary; choose one, or use 'learned'.")
    if settings.method == "matched":
        return _learn_and_project(run, settings, match=dictionary.concepts, cancelled=cancelled)
    if settings.method == "nearest":
        return _nearest(run, dictionary.concepts)
    if settings.method == "reference":
        return _reference(run, dictionary.concepts)
    return _project(run, run.passes("encode"), dictionary.concepts)


def _project(run: _Run, tiles: Iterator[TileTokens], concepts: NDArray[np.float32]) -> Activated:
    projector = NonNegativeProjector(concepts)
    builder = run.builder(len(concepts))
    residual = energy = 0.0
    for tile in tiles:
        if tile.tokens is None:
            continue
        started = time.perf_counter()
        projection = projector.project(tile.tokens)
        builder.add(projection.activations, rows=tile.rows, columns=tile.columns)
        residual += projection.residual
        energy += projection.energy
        run.factorize_seconds += time.perf_counter() - started
    return run.result(builder, concepts, relative_residual=_relative(residual, energy))


def _nearest(run: _Run, concepts: NDArray[np.float32]) -> Activated:
    builder = run.builder(len(concepts))
    for tile in run.passes("encode"):
        if tile.tokens is None:
            continue
        started = time.perf_counter()
        builder.add(nearest_scores(tile.tokens, concepts), rows=tile.rows, columns=tile.columns)
        run.factorize_seconds += time.perf_counter() - started
    return run.result(builder, concepts, relative_residual=float("nan"))


def _reference(run: _Run, concepts: NDArray[np.float32]) -> Activated:
    """The published solver stops by a criterion over all tokens at once, so it gets them all at once."""
    kept = [tile for tile in run.passes("encode") if tile.tokens is not None]
    builder = run.builder(len(concepts))
    if not kept:
        return run.result(builder, concepts, relative_residual=float("nan"))
    tokens = np.concatenate([tile.tokens.cpu().numpy() for tile in kept if tile.tokens is not None])
    started = time.perf_counter()
    activations = reference_projection(tokens, concepts)
    builder.add(
        activations,
        rows=np.concatenate([tile.rows for tile in kept]),
        columns=np.concatenate([tile.columns for tile in kept]),
    )
    run.factorize_seconds += time.perf_counter() - started
    residual = float(((tokens - activations @ concepts).astype(np.float64) ** 2).sum())
    return run.result(
        builder,
        concepts,
        relative_residual=_relative(residual, float((tokens.astype(np.float64) ** 2).sum())),
    )


def _learn_and_project(
    run: _Run, settings: SegmentSettings, *, match: NDArray[np.float32] | None, cancelled: IsCancelled
) -> Activated:
    """Learn from a sample of the tokens, then project all of them.

    Tokens are kept for the second pass while they are few; a large region is encoded a second time instead.
    """
    sample, kept = _sample(run, seed=settings.seed)
    if sample is None:  # no tissue
        concepts = np.zeros((settings.n_concepts, 1), np.float32) if match is None else match
        return run.result(run.builder(len(concepts)), concepts, relative_residual=float("nan"))
    started = time.perf_counter()
    concepts = learn_nmf(sample, n_concepts=settings.n_concepts, seed=settings.seed, cancelled=cancelled)
    run.factorize_seconds += time.perf_counter() - started
    activated = _project(run, iter(kept) if kept is not None else run.passes("encode"), concepts)
    if match is None:
        return activated
    return replace(activated, concepts=match, relabel=match_concepts(concepts, match))


def _sample(run: _Run, *, seed: int) -> tuple[Tensor | None, list[TileTokens] | None]:
    """Tokens to learn from, chosen by position so that the tile size does not matter; and all tiles, if small."""
    total = run.tiles.tokens_high * run.tiles.tokens_wide
    chance = sample_ranks(run.tiles.tokens_high, run.tiles.tokens_wide, seed=seed)
    chosen: list[tuple[NDArray[np.intp], Tensor]] = []
    kept: list[TileTokens] | None = []
    kept_bytes = 0
    for tile in run.passes("learn"):
        if tile.tokens is None:
            continue
        rank = chance[tile.rows, tile.columns]
        # Twice the share that would do if everything were tissue; thinned to the exact number below.
        mask = rank < max(2 * _LEARNING_TOKENS, total // 8)
        chosen.append((rank[mask], tile.tokens[mask]))
        kept_bytes += tile.tokens.nbytes
        if kept is not None and kept_bytes <= _KEPT_BYTES:
            kept.append(tile)
        else:
            kept = None
    if not chosen:
        return None, kept
    ranks = np.concatenate([rank for rank, _ in chosen])
    tokens = torch.cat([part for _, part in chosen])
    return tokens[np.argsort(ranks)[:_LEARNING_TOKENS].copy()], kept


def sample_ranks(rows: int, columns: int, *, seed: int) -> NDArray[np.int64]:
    """A seeded random order of all tokens of a grid, (rows, columns): the smallest ranks are the sample."""
    order = np.random.default_rng(seed).permutation(rows * columns)
    return order.reshape(rows, columns)


def tissue_pixels(activated: Activated, *, first_row: int, last_row: int, width: int) -> NDArray[np.bool_]:
    """Tissue of output pixel rows ``first_row`` … ``last_row``, (rows, width): the blocks with smoothed outlines."""
    block = activated.block_px
    blocks_high, blocks_wide = activated.tissue.shape
    top = max(0, first_row // block - 1)
    bottom = min(blocks_high, -(-last_row // block) + 1)
    smooth = cv2.resize(
        activated.tissue[top:bottom],
        (blocks_wide * block, (bottom - top) * block),
        interpolation=cv2.INTER_LINEAR,
    )
    cut = first_row - top * block
    mask: NDArray[np.bool_] = smooth[cut : cut + last_row - first_row, :width] > 127
    return mask


def _relative(residual: float, energy: float) -> float:
    return float(np.sqrt(residual / energy)) if energy > 0 else float("nan")
