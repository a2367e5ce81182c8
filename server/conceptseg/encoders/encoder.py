"""A frozen encoder on a device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from conceptseg.domain.errors import DeviceMemoryError, InvalidRequestError
from conceptseg.encoders.allocator import reuse_large_blocks
from conceptseg.encoders.features import LayerFeatures
from conceptseg.encoders.graph import CapturedForward, capture
from conceptseg.encoders.spec import EncoderSpec
from conceptseg.encoders.stain import stain_densities

_log = logging.getLogger(__name__)

GPU_TILE_PX = 1024
_LARGEST_BATCH = 512
_WORTHWHILE = 1.01
"""A batch of twice the size is taken when it is that much faster."""


class Encoder:
    """Turns RGB tiles into feature maps; safe to call from one thread at a time.

    On a GPU the results may be used before they are computed, as all of torch's.

    Attributes:
        spec: What the encoder is.
        device: Where it runs.
        dtype: What the model computes in.
        batch_tiles: Tiles per forward pass; halves for good when the device runs out of memory.
        parallel: Devices that batches go to.
    """

    parallel = 1

    def __init__(
        self, spec: EncoderSpec, features: LayerFeatures, *, device: torch.device, dtype: torch.dtype = torch.float32
    ):
        """Move the model to the device; it computes in ``dtype``, and what it returns is float32."""
        self.spec = spec
        self.device = device
        if device.type == "cpu":
            reuse_large_blocks()
        self.dtype = dtype
        # Measured on CPU (README, Benchmarks): channels_last is fastest once batch norms are folded, and a batch
        # whose activations stay in the cache beats a large one.
        self._features = features.to(device, dtype=self.dtype).to(memory_format=torch.channels_last)
        self._scale = torch.tensor([1 / (255 * s) for s in spec.std], device=device)
        self._shift = torch.tensor([-m / s for m, s in zip(spec.mean, spec.std, strict=True)], device=device)
        window_batch = 64 if device.type == "cuda" else 4
        self.batch_tiles = window_batch if spec.window_px else (8 if device.type == "cuda" else 1)
        self._captured: CapturedForward | None = None
        self._is_tuned = device.type != "cuda"

    @property
    def default_tile_px(self) -> int:
        """Side of the tiles this encoder is fastest on, in output px without the halo."""
        return self.spec.tile_px or (GPU_TILE_PX if self.device.type == "cuda" else self.spec.cpu_tile_px)

    def tune(self) -> None:
        """Find the fastest batch on a GPU, once; worth its second for regions of thousands of windows.

        Doubles the batch while that pays and memory lasts, then records the forward pass as a CUDA graph, which
        the device runs without waiting for Python. Results stay those of other batches up to rounding.
        """
        side = self.spec.window_px
        if self._is_tuned or side is None:
            return
        self._is_tuned = True
        with torch.cuda.device(self.device):
            self._tune(side)

    def _tune(self, side: int) -> None:
        best = 0.0
        batch = 16
        while batch <= _LARGEST_BATCH:
            images = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, device=self.device)
            try:
                per_second = batch / _seconds(lambda images=images: self._compute(images))  # type: ignore[misc]
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            if per_second < best * _WORTHWHILE:
                break
            best, self.batch_tiles = per_second, batch
            batch *= 2
        images = torch.zeros((self.batch_tiles, side, side, 3), dtype=torch.uint8, device=self.device)
        self._captured = capture(self._compute, images)

    def in_turn(self) -> Encoder:
        """The encoder that shall get the next batch: itself, or where there are several devices one after another."""
        return self

    def encode(self, tiles: NDArray[np.uint8] | Tensor) -> Tensor:
        """Encode RGB tiles.

        Args:
            tiles: (n, height, width, 3) uint8; height and width are multiples of the stride, and equal to the
                window where the encoder has one. A tensor may be on the encoder's device already.

        Returns:
            (n, grid_h, grid_w, channels) float32 on the encoder's device, >= 0, halo included.

        Raises:
            DeviceMemoryError: one tile alone does not fit.
        """
        self._require_shape(tuple(tiles.shape))
        images = torch.from_numpy(np.ascontiguousarray(tiles)) if isinstance(tiles, np.ndarray) else tiles
        parts: list[Tensor] = []
        start = 0
        while start < len(images):
            batch = images[start : start + self.batch_tiles]
            try:
                parts.append(self._forward(batch))
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise DeviceMemoryError(
                        f"A single tile of {tiles.shape[1]} × {tiles.shape[2]} px does not fit {self.device} with "
                        f"encoder {self.spec.identifier}. Use a smaller --tile-px, a smaller encoder or --device cpu."
                    ) from error
                self.batch_tiles = max(1, len(batch) // 2)
                self._captured = None
                _log.warning("Out of device memory: going on with batches of %d tiles.", self.batch_tiles)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            start += len(batch)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _forward(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        if self._captured is not None and self._captured.fits(images):
            return self._captured(images)
        return self._compute(images)

    @torch.inference_mode()
    def _compute(self, images: Tensor) -> Tensor:
        # (n, h, w, 3) permuted to (n, 3, h, w) is channels_last already: no copy.
        normalised = torch.addcmul(self._shift, images.float(), self._scale).to(self.dtype).permute(0, 3, 1, 2)
        features: Tensor = self._features(normalised).float()
        return self._with_stains(features, images) if self.spec.stain_weight else features

    def _with_stains(self, features: Tensor, images: Tensor) -> Tensor:
        """Features of unit length, so that what a token shows counts and not how loudly; stains; both averaged."""
        densities = stain_densities(images, stride_px=self.spec.stride_px)
        tokens = torch.cat((functional.normalize(features, dim=-1), self.spec.stain_weight * densities), dim=-1)
        around = functional.avg_pool2d(tokens.permute(0, 3, 1, 2), 3, stride=1, padding=1, count_include_pad=False)
        return around.permute(0, 2, 3, 1)

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        window, stride = self.spec.window_px, self.spec.stride_px
        if len(shape) != 4 or shape[3] != 3 or shape[1] % stride or shape[2] % stride:
            raise InvalidRequestError(
                f"Encoder {self.spec.identifier} expects tiles (n, height, width, 3) with sides that are multiples of "
                f"{stride} px, got {shape}."
            )
        if window is not None and shape[1:3] != (window, window):
            raise InvalidRequestError(
                f"Encoder {self.spec.identifier} expects windows of {window} × {window} px, got {shape[1:3]}."
            )


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left: only CUDA has a type of error for that."""
    says = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in says or "not enough memory" in says
    )


def _seconds(forward: Callable[[], Tensor], *, runs: int = 3) -> float:
    """Seconds of one forward pass on a GPU."""
    forward()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(runs):
        forward()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / runs
