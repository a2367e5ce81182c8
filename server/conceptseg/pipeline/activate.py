"""Tokens to activations, by each of the methods, strip by strip."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, Progress, ReportProgress
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.activations import ActivationMap, ActivationMapBuilder
from conceptseg.factorization.learn import learn_nmf, match_concepts, nearest_scores, reference_projection
from conceptseg.factorization.nnls import NonNegativeProjector, Projection
from conceptseg.imaging.slide import SlideLook, look_at
from conceptseg.imaging.source import PixelSource
from conceptseg.imaging.tissue import BlockMask, block_px_for
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.pipeline.token_sample import TokenSample, sample_ranks
from conceptseg.pipeline.tokens import TileTokens, encode_tiles, tile_grid

_LEARNING_TOKENS = 20_000
_KEPT_BYTES = 256 << 20
_TUNING_PAYS = 2_000
"""Windows of a region for which finding the fastest batch is worth its second."""

_QUEUED = 2
"""Batches every GPU has been given beyond the one whose activations are fetched."""


class Activation:
    """One pass over a region: tokens come, activations go, and only those of a strip are held.

    Attributes:
        concepts: (n_concepts, channels) that labels stand for.
        relabel: For ``matched``: dictionary concept of each learned one; else None.
        look: What is known about the slide's glass.
        tissue: Where there is tissue, as far as `strips` has come.
        encode_seconds: Time spent on tokens.
        factorize_seconds: Time spent on the factorization.
        relative_residual: ||F - D^T A|| / ||F|| so far; NaN where the method has none.
    """

    def __init__(
        self,
        source: PixelSource,
        *,
        encoder: Encoder,
        dictionary: ConceptDictionary | None,
        settings: SegmentSettings,
        progress: ReportProgress,
        cancelled: IsCancelled,
    ):
        """Check what is asked for; methods that learn do so now.

        Raises:
            InvalidRequestError: the method needs a dictionary and there is none; fewer tissue tokens than concepts.
            DictionaryError: the dictionary belongs to another encoder.
        """
        if dictionary is not None:
            dictionary.require_encoder(encoder.spec.identifier, channels=encoder.spec.channels)
        elif settings.method != "learned":
            raise InvalidRequestError(f"Method {settings.method!r} needs a dictionary; choose one, or use 'learned'.")
        self._tiles = tile_grid(source.grid, encoder, tile_px=settings.tile_px)
        self._source, self._encoder, self._settings = source, encoder, settings
        self._progress, self._cancelled = progress, cancelled
        stride = encoder.spec.stride_px
        block = block_px_for(stride)
        self.tissue = BlockMask(
            rows=self._tiles.tokens_high * stride // block,
            columns=self._tiles.tokens_wide * stride // block,
            block_px=block,
        )
        # All tissue rules of a slide are the same, so the slide is looked at, not the region.
        self.look = SlideLook()
        if not settings.whole_region:
            self.look = look_at(source.overview(), name=source.name, settings=settings.tissue)
        self.encode_seconds = self.factorize_seconds = 0.0
        self._residual = self._energy = 0.0
        self._kept: list[TileTokens] | None = None
        self.relabel: NDArray[np.intp] | None = None
        if len(self._tiles) >= _TUNING_PAYS:
            encoder.tune()
        if dictionary is not None and settings.method != "matched":
            self.concepts = self._basis = dictionary.concepts
            return
        learned = self._learn()
        if learned is None:  # no tissue
            learned = np.zeros((settings.n_concepts, encoder.spec.channels), np.float32)
        elif dictionary is not None:
            self.relabel = match_concepts(learned, dictionary.concepts)
        self._basis = learned
        self.concepts = learned if dictionary is None else dictionary.concepts

    @property
    def relative_residual(self) -> float:
        """||F - D^T A|| / ||F|| so far; NaN where the method has none."""
        return float(np.sqrt(self._residual / self._energy)) if self._energy > 0 else float("nan")

    def strips(self, bands: Sequence[tuple[int, int]]) -> Iterator[ActivationMap]:
        """Activations of bands of token rows, each as soon as it is complete.

        Args:
            bands: First row and row after the last, both ascending; bands may overlap.

        Yields:
            Per band (n_concepts, rows, grid_w); for ``matched`` of the learned concepts.
        """
        builder = ActivationMapBuilder(
            grid_h=self._tiles.tokens_high, grid_w=self._tiles.tokens_wide, n_concepts=len(self._basis)
        )
        waiting = deque(bands)
        for rows_done in self._collect(builder):
            while waiting and waiting[0][1] <= rows_done:
                first, last = waiting.popleft()
                activations = builder.build(first_row=first, last_row=last)
                builder.forget(before_row=waiting[0][0] if waiting else self._tiles.tokens_high)
                yield activations

    def _collect(self, builder: ActivationMapBuilder) -> Iterator[int]:
        """Fill the builder; yield how many token rows are complete."""
        if self._settings.method == "reference":
            return self._reference(builder)
        if self._settings.method == "nearest":
            return self._nearest(builder)
        return self._project(builder)

    def _encoded(self, stage: str) -> Iterator[TileTokens]:
        """Encode every tile, keeping the tissue map and the progress."""
        if self._kept is not None:
            yield from self._kept
            return
        tiles = encode_tiles(
            self._source,
            self._encoder,
            self._tiles,
            glass=None if self._settings.whole_region else self.look.glass,
            cancelled=self._cancelled,
            read_again=stage == "learn",
        )
        done = 0
        self._progress(Progress(stage=stage, done=done, total=len(self._tiles)))
        started = time.perf_counter()
        for tokens in tiles:
            for tile, tissue in zip(tokens.tiles, tokens.tissue, strict=True):
                self.tissue.fill(tissue, x=tile.x, y=tile.y)
            self.encode_seconds += time.perf_counter() - started
            yield tokens
            started = time.perf_counter()
            done += len(tokens.tiles)
            self._progress(Progress(stage=stage, done=done, total=len(self._tiles)))

    def _project(self, builder: ActivationMapBuilder) -> Iterator[int]:
        """Project batch by batch. A GPU gets the next batch before the activations of this one are fetched."""
        projector = NonNegativeProjector(self._basis)
        ahead = _QUEUED * self._encoder.parallel
        queued: deque[tuple[TileTokens, Future[Projection] | None]] = deque()

        def fetch() -> int:
            tokens, future = queued.popleft()
            if future is not None:
                started = time.perf_counter()
                found = future.result()
                builder.add_entries(found.count, found.concept, found.value, rows=tokens.rows, columns=tokens.columns)
                self._residual += found.residual
                self._energy += found.energy
                self.factorize_seconds += time.perf_counter() - started
            return tokens.rows_done

        with ThreadPoolExecutor(1, thread_name_prefix="project") as pool:
            for tokens in self._encoded("encode"):
                future = None
                if tokens.tokens is not None:
                    started = time.perf_counter()
                    future = _begun(projector.start(tokens.tokens), pool, on_gpu=tokens.tokens.device.type == "cuda")
                    self.factorize_seconds += time.perf_counter() - started
                queued.append((tokens, future))
                while queued and (len(queued) > ahead or self._encoder.device.type != "cuda"):
                    yield fetch()
            while queued:
                yield fetch()

    def _nearest(self, builder: ActivationMapBuilder) -> Iterator[int]:
        for tokens in self._encoded("encode"):
            if tokens.tokens is not None:
                started = time.perf_counter()
                scores = nearest_scores(tokens.tokens, self._basis)
                builder.add(scores, rows=tokens.rows, columns=tokens.columns)
                self.factorize_seconds += time.perf_counter() - started
            yield tokens.rows_done

    def _reference(self, builder: ActivationMapBuilder) -> Iterator[int]:
        """The published solver stops by a criterion over all tokens at once, so it gets them all at once."""
        kept = [one for one in self._encoded("encode") if one.tokens is not None]
        if kept:
            tokens = np.concatenate([one.tokens.cpu().numpy() for one in kept if one.tokens is not None])
            started = time.perf_counter()
            activations = reference_projection(tokens, self._basis)
            builder.add(
                activations,
                rows=np.concatenate([one.rows for one in kept]),
                columns=np.concatenate([one.columns for one in kept]),
            )
            self.factorize_seconds += time.perf_counter() - started
            self._residual = float(((tokens - activations @ self._basis).astype(np.float64) ** 2).sum())
            self._energy = float((tokens.astype(np.float64) ** 2).sum())
        yield self._tiles.tokens_high

    def _learn(self) -> NDArray[np.float32] | None:
        """Learn concepts from a sample of the tokens; None where there is no tissue.

        Tokens are kept for the second pass while they are few; a large region is encoded a second time instead. The
        sample is chosen by position, so that the tile size does not matter.
        """
        ranks = sample_ranks(self._tiles.tokens_high, self._tiles.tokens_wide, seed=self._settings.seed)
        sample = TokenSample(_LEARNING_TOKENS, self._encoder.spec.channels)
        kept: list[TileTokens] | None = []
        kept_bytes = 0
        for tile in self._encoded("learn"):
            if tile.tokens is not None:
                sample.offer(ranks[tile.rows, tile.columns], tile.tokens)
                kept_bytes += tile.tokens.nbytes
            if kept is not None and kept_bytes <= _KEPT_BYTES:
                kept.append(tile)
            else:
                kept = None
        self._kept = kept
        tokens = torch.from_numpy(sample.best()).to(self._encoder.device)
        if not len(tokens):
            return None
        started = time.perf_counter()
        settings = self._settings
        concepts = learn_nmf(tokens, n_concepts=settings.n_concepts, seed=settings.seed, cancelled=self._cancelled)
        self.factorize_seconds += time.perf_counter() - started
        return concepts


def _begun(finish: Callable[[], Projection], pool: ThreadPoolExecutor, *, on_gpu: bool) -> Future[Projection]:
    """The result of ``finish``: for a GPU to come from another thread; a CPU has none to spare and does it now."""
    if on_gpu:
        return pool.submit(finish)
    future: Future[Projection] = Future()
    future.set_result(finish())
    return future
