"""A slide end to end against the encoder alone, and the encoder against timm's own model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.bench.bare import bare_layer
from conceptseg.bench.line import Line, medians, time_in_turn
from conceptseg.bench.slides import synthetic_slide
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.kmeans import fit_kmeans
from conceptseg.factorization.learn import reference_projection
from conceptseg.factorization.nnls import NonNegativeProjector, Projection
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.segment import segment
from conceptseg.qupath.geojson import write_geojson

_RUNS = 5
_BATCHES_ALONE = 8
_KS = (16, 64, 256)
_REFERENCE_TOKENS = 1_000


def encoder_lines(encoder: Encoder, texture: Rgb) -> Iterator[Line]:
    """Yield ``encoder_vs_timm`` and, on a GPU, per k ``projection_kK_of_forward``; then ``factorization_kK``."""
    encoder.tune()
    side = encoder.spec.window_px or encoder.default_tile_px
    windows = _windows(texture, side, encoder.batch_tiles)
    on_gpu = encoder.device.type == "cuda"
    pinned = windows.pin_memory() if on_gpu else windows
    bare, pixels, setting = best_bare_forward(encoder, texture)
    forward, theirs = medians(time_in_turn([_synced(lambda: encoder.encode(pinned)), bare], runs=_RUNS))
    yield Line(
        name="encoder_vs_timm",
        ours=len(windows) * side**2 / forward / 1e6,
        baseline=pixels / theirs / 1e6,
        unit="Mpx/s",
        better="higher",
        detail={"ours": f"batch {len(windows)} of {side} px, from uint8 in memory", "timm": setting},
    )
    tokens = encoder.encode(pinned).reshape(-1, encoder.spec.channels)
    for k in _KS:
        concepts = fit_kmeans(tokens.cpu().numpy(), n_concepts=k, seed=0).concepts
        projector = NonNegativeProjector(concepts)
        if on_gpu:
            yield _projection_beside_forward(encoder, pinned, projector, k=k)
        yield _factorization(projector, tokens, concepts, k=k)


def _projection_beside_forward(encoder: Encoder, windows: Tensor, projector: NonNegativeProjector, *, k: int) -> Line:
    """What the projection adds to forward passes that are queued one behind another, as `segment` queues them."""
    batches = 16

    def forward_only() -> None:
        for _ in range(batches):
            encoder.encode(windows)

    def with_projection() -> None:
        queued: deque[Future[Projection]] = deque()
        with ThreadPoolExecutor(1) as pool:
            for _ in range(batches):
                tokens = encoder.encode(windows).reshape(-1, encoder.spec.channels)
                queued.append(pool.submit(projector.start(tokens)))
                if len(queued) > 2:
                    queued.popleft().result()

    bare, both = medians(time_in_turn([_synced(forward_only), _synced(with_projection)], runs=_RUNS))
    return Line(
        name=f"projection_k{k}_of_forward",
        ours=max(both - bare, 1e-9),
        baseline=bare,
        detail={"share_of_forward": (both - bare) / bare, "batches": batches, "windows": len(windows)},
    )


def _factorization(projector: NonNegativeProjector, tokens: Tensor, concepts: NDArray[np.float32], *, k: int) -> Line:
    """Seconds per token against the published solver, on the same features."""
    (ours,) = medians(time_in_turn([_synced(lambda: projector.project(tokens))], runs=_RUNS))
    few = tokens[:: max(1, len(tokens) // _REFERENCE_TOKENS)].contiguous()
    sample = few.cpu().numpy()
    started = time.perf_counter()
    reference = reference_projection(sample, concepts)
    theirs = time.perf_counter() - started
    mine, on_cpu = projector.project(few), projector.project(few.cpu())
    return Line(
        name=f"factorization_k{k}",
        ours=ours / len(tokens),
        baseline=theirs / len(few),
        unit="s/token",
        detail={
            "tokens": len(tokens),
            "reference_tokens": len(few),
            "channels": tokens.shape[1],
            "active_per_token": round(len(on_cpu.value) / len(few), 2),
            "reference_objective_above_ours": _objective(sample, reference, concepts)
            / _objective(sample, mine.activations, concepts)
            - 1,
            "labels_equal_to_cpu": float((mine.activations.argmax(1) == on_cpu.activations.argmax(1)).mean()),
        },
    )


def segment_file(slide: Path, *, encoder: Encoder, dictionary: ConceptDictionary) -> SegmentationResult:
    """All of a slide, as `conceptseg segment` does it by default."""
    with open_image(slide) as reader:
        region = open_region(reader, region=None, pixel_size_um=encoder.spec.pixel_size_um)
        return segment(region, encoder=encoder, dictionary=dictionary)


def slide_line(
    encoder: Encoder, dictionary: ConceptDictionary, texture: Rgb, *, side_px: int, share: float, folder: Path
) -> Line:
    """``slide_vs_encoder``: file to polygons against timm's forward passes alone, over the same windows or tiles.

    In its details ``of_encoder_alone`` is the same against our own encoder, whose windows lie in memory, and
    ``without_forward_passes_mpx_s`` is the speed of everything else: an encoder faster than that would have to wait.
    """
    slide = folder / "slide.tif"
    synthetic_slide(slide, texture, side_px=side_px, tissue_share=share)
    counted, replayed = _Counting(encoder), _Replaying(encoder)
    runs: list[tuple[dict[str, float], int, float]] = []

    def ours() -> None:
        counted.pixels[0] = 0
        found = segment_file(slide, encoder=counted, dictionary=dictionary)
        started = time.perf_counter()
        write_geojson(folder / "slide.geojson", found)
        runs.append((dict(found.seconds), len(found.polygons), time.perf_counter() - started))

    ours()  # compiles, and finds the batch
    bare, pixels, setting = best_bare_forward(encoder, texture)
    windows = _windows(texture, encoder.spec.window_px or _outer_px(encoder), encoder.batch_tiles)
    windows = windows.pin_memory() if encoder.device.type == "cuda" else windows
    alone = _synced(lambda: [encoder.encode(windows) for _ in range(_BATCHES_ALONE)])
    times = time_in_turn([ours, bare, alone], runs=3, warm_up=False)
    without_files = [whole - run[2] for whole, run in zip(times[0], runs[1:], strict=True)]
    mine, theirs, own = medians([without_files, *times[1:]])
    # Halos are our own price where the tile size is free; where windows are fixed they are the encoder's.
    done = counted.pixels[0] * (1.0 if encoder.spec.window_px else _core_share(encoder))
    rest = time_in_turn([lambda: segment_file(slide, encoder=replayed, dictionary=dictionary)], runs=1)[0][0]
    alone_pixels = _BATCHES_ALONE * int(np.prod(windows.shape[:3]))
    return Line(
        name="slide_vs_encoder",
        ours=done / mine / 1e6,
        baseline=encoder.parallel * pixels / theirs / 1e6,
        unit="Mpx/s",
        better="higher",
        detail={
            "devices": encoder.parallel,
            "slide": f"{side_px} px, tissue in {share:.0%} of its tiles",
            "encoder": encoder.spec.identifier,
            "k": len(dictionary.concepts),
            "timm": setting,
            "of_encoder_alone": round((counted.pixels[0] / mine) / (alone_pixels / own), 3),
            "without_forward_passes_mpx_s": round(done / rest / 1e6, 1),
            "seconds": round(mine, 2),
            "geojson_seconds": round(runs[-1][2], 2),
            "polygons": runs[-1][1],
            "stage_seconds": {name: round(seconds, 2) for name, seconds in runs[-1][0].items()},
        },
    )


def _outer_px(encoder: Encoder) -> int:
    return encoder.default_tile_px + 2 * encoder.spec.halo_px


def _core_share(encoder: Encoder) -> float:
    return (encoder.default_tile_px / _outer_px(encoder)) ** 2


class _Counting(Encoder):
    """An encoder that counts the pixels it is given."""

    def __init__(self, encoder: Encoder, pixels: list[int] | None = None):
        self.spec, self.device, self.dtype, self._encoder = encoder.spec, encoder.device, encoder.dtype, encoder
        self.batch_tiles, self.parallel = encoder.batch_tiles, encoder.parallel
        self.pixels = pixels or [0]  # shared by the encoders of several devices

    def tune(self) -> None:
        """Tune the encoder."""
        self._encoder.tune()
        self.batch_tiles = self._encoder.batch_tiles

    def in_turn(self) -> Encoder:
        """See `Encoder.in_turn`."""
        return _Counting(self._encoder.in_turn(), self.pixels)

    def encode(self, tiles: NDArray[np.uint8] | Tensor) -> Tensor:
        """Encode and count."""
        self.pixels[0] += int(np.prod(tiles.shape[:3]))
        return self._encoder.encode(tiles)


class _Replaying(_Counting):
    """An encoder that gives the tokens of the first batch of a shape for all batches of that shape."""

    def __init__(self, encoder: Encoder, known: dict[tuple[int, ...], Tensor] | None = None):
        super().__init__(encoder)
        self._known = {} if known is None else known

    def in_turn(self) -> Encoder:
        """See `Encoder.in_turn`."""
        return _Replaying(self._encoder.in_turn(), self._known)

    def encode(self, tiles: NDArray[np.uint8] | Tensor) -> Tensor:
        """Encode the first time only."""
        shape = tuple(tiles.shape)
        if shape not in self._known:
            self._known[shape] = self._encoder.encode(tiles)
        return self._known[shape]


def _windows(texture: Rgb, side: int, count: int) -> Tensor:
    """(count, side, side, 3) windows of the texture, at random places."""
    pad = [(0, max(0, side + 1 - length)) for length in texture.shape[:2]]
    texture = np.pad(texture, [*pad, (0, 0)], mode="symmetric")
    places = np.random.default_rng(0).integers(0, np.array(texture.shape[:2]) - side, size=(count, 2))
    return torch.from_numpy(np.stack([texture[y : y + side, x : x + side] for y, x in places]))


def best_bare_forward(encoder: Encoder, texture: Rgb) -> tuple[Callable[[], Any], int, str]:
    """Timm's own model up to the same layer, as a benchmark of timm runs it, at its fastest setting here.

    Returns:
        The forward pass, how many pixels it takes, and the setting in words.
    """
    spec, device, dtype = encoder.spec, encoder.device, encoder.dtype
    on_gpu = device.type == "cuda"
    sides = [spec.window_px] if spec.window_px else [256, 512, 1024]
    best: tuple[float, Callable[[], Any], int, str] = (0.0, lambda: None, 0, "")
    for memory_format in (torch.contiguous_format, torch.channels_last):
        features = bare_layer(architecture=spec.architecture, arguments=spec.arguments, layer=spec.layer)
        features = features.to(device, dtype=dtype).to(memory_format=memory_format)
        for side in sides:
            batch = 32 if on_gpu else 1
            while batch * side**2 <= (512 * 224**2 if on_gpu else 32 * 256**2):
                images = _windows(texture, side, batch).permute(0, 3, 1, 2).to(device, dtype=dtype) / 255
                images = images.contiguous(memory_format=memory_format)

                def forward(features: Any = features, images: Tensor = images) -> None:
                    with torch.inference_mode():
                        features(images)

                try:
                    (seconds,) = medians(time_in_turn([_synced(forward)], runs=3))
                except torch.OutOfMemoryError:
                    break
                pixels = batch * side**2
                if pixels / seconds > best[0]:
                    words = f"{str(memory_format).removeprefix('torch.')}, batch {batch} of {side} px"
                    best = pixels / seconds, _synced(forward), pixels, words
                batch *= 2
    return best[1:]


def _synced(call: Callable[[], Any]) -> Callable[[], None]:
    """The call until the device is done."""

    def until_done() -> None:
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return until_done


def _objective(tokens: NDArray[np.float32], activations: NDArray[np.float32], concepts: NDArray[np.float32]) -> float:
    difference = tokens.astype(np.float64) - activations.astype(np.float64) @ concepts.astype(np.float64)
    return float((difference**2).sum())
