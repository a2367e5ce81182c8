"""A forward pass recorded once and replayed: hundreds of kernels in one launch."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


class CapturedForward:
    """A forward pass as a CUDA graph, for batches of one size and smaller ones."""

    def __init__(self, graph: torch.cuda.CUDAGraph, *, images: Tensor, features: Tensor):
        self._graph, self._images, self._features = graph, images, features

    def fits(self, images: Tensor) -> bool:
        """Whether the graph takes ``images`` and most of its batch would be used."""
        return images.shape[1:] == self._images.shape[1:] and len(self._images) // 2 < len(images) <= len(self._images)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of ``images``; what the rest of the batch holds does not matter to them."""
        self._images[: len(images)].copy_(images)
        self._graph.replay()
        return self._features[: len(images)].clone()


def capture(forward: Callable[[Tensor], Tensor], images: Tensor) -> CapturedForward | None:
    """Record ``forward`` on a batch like ``images``; None where a model or torch cannot."""
    try:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.inference_mode():
            for _ in range(2):
                forward(images)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate pinned memory meanwhile, which a capture of the whole process forbids.
        with torch.inference_mode(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            features = forward(images)
    except RuntimeError as error:
        _log.info("The forward pass is not recorded: %s", str(error).splitlines()[0])
        return None
    return CapturedForward(graph, images=images, features=features)
