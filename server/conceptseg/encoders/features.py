"""Feature maps from a layer inside a model."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn

from conceptseg.domain.errors import EncoderError


class _LayerReachedError(Exception):
    """Carries the feature map out of the forward pass, so that later layers are never computed."""

    def __init__(self, output: Tensor):
        self.output = output


def _leave_with_output(_module: nn.Module, _inputs: object, output: Tensor) -> NoReturn:
    raise _LayerReachedError(output)


class LayerFeatures(nn.Module):
    """ReLU of the output of one layer, as a grid of tokens.

    Forward takes normalised images (n, 3, height, width) and returns (n, grid_h, grid_w, channels): tokens
    last-axis contiguous, prefix tokens (class, registers) dropped, negative values clipped at 0.
    """

    def __init__(self, model: nn.Module, *, layer: str):
        super().__init__()
        try:
            tapped = model.get_submodule(layer)
        except AttributeError as error:
            names = [name for name, _ in model.named_modules() if name and name.count(".") <= 1]
            raise EncoderError(f"The model has no layer {layer!r}. Layers include: {', '.join(names[:40])}.") from error
        self.model = model
        self.prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
        self.patch_px: tuple[int, int] | None = (int(patch[0]), int(patch[1])) if patch is not None else None
        tapped.register_forward_hook(_leave_with_output)

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map (n, grid_h, grid_w, channels) of ``images`` (n, 3, height, width)."""
        try:
            self.model(images)
        except _LayerReachedError as reached:
            output = reached.output
        else:
            raise EncoderError("The layer is not part of the model's forward pass.")
        if output.ndim == 3:
            output = self._grid(output, height=images.shape[2], width=images.shape[3])
        elif output.ndim == 4:
            output = output.permute(0, 2, 3, 1)
        else:
            raise EncoderError(f"Expected a layer with 3 or 4 axes, got an output of shape {tuple(output.shape)}.")
        return output.relu()

    def _grid(self, tokens: Tensor, *, height: int, width: int) -> Tensor:
        """Reshape (n, prefix + grid_h * grid_w, channels) to (n, grid_h, grid_w, channels)."""
        if self.patch_px is None:
            raise EncoderError("A layer that returns tokens needs a model with patch_embed.patch_size.")
        grid_h, grid_w = height // self.patch_px[0], width // self.patch_px[1]
        n, count, channels = tokens.shape
        if count - self.prefix_tokens != grid_h * grid_w:
            raise EncoderError(f"Expected {self.prefix_tokens} prefix + {grid_h} × {grid_w} tokens, got {count}.")
        return tokens[:, self.prefix_tokens :].reshape(n, grid_h, grid_w, channels)


def receptive_radius_px(features: nn.Module, *, stride_px: int, probe_px: int) -> int:
    """Measure how far from a token's centre an input pixel can change it, in px.

    Sends the gradient of the middle token back to an input of ``probe_px`` × ``probe_px``. Returns about
    ``probe_px // 2`` where the whole input matters (attention, squeeze-and-excitation).
    """
    images = torch.rand((1, 3, probe_px, probe_px), generator=torch.Generator().manual_seed(0), requires_grad=True)
    with torch.enable_grad():
        tokens = features(images)
        middle = tokens.shape[1] // 2
        tokens[0, middle, middle].sum().backward()
    assert images.grad is not None
    touched = images.grad.abs().sum(dim=(0, 1)).nonzero()
    centre = (middle + 0.5) * stride_px - 0.5
    return int((touched - centre).abs().max().ceil().item()) - stride_px // 2 if len(touched) else 0
