"""Timm's own model up to a layer, with whatever weights: what everybody is compared with, here and at the peers'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm

from conceptseg.encoders.features import LayerFeatures


def bare_layer(*, architecture: str, arguments: Mapping[str, Any], layer: str) -> LayerFeatures:
    """The model, on the CPU and in float32, that returns the layer's grid of tokens."""
    model = timm.create_model(architecture, pretrained=False, **dict[str, Any](arguments))
    return LayerFeatures(model.eval(), layer=layer).eval()
