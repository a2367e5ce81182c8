"""The registered encoders have the architecture their authors published; no weights are needed to say so."""

import pytest
import timm
import torch

from conceptseg.domain.errors import EncoderError
from conceptseg.encoders.features import LayerFeatures
from conceptseg.encoders.registry import get_spec, known_encoders, split_timm_name

# Parameters as published by the authors, and prefix tokens (class + registers).
PUBLISHED = {
    "uni": (303_350_784, 1),
    "prov-gigapath": (1_134_953_984, 1),
    "uni2-h": (681_394_176, 9),
    "virchow2": (631_239_424, 5),
    "h-optimus-0": (1_134_774_272, 5),
    "h0-mini": (85_739_520, 5),
    "phikon": (85_798_656, 1),
    "lunit-vits16": (21_665_664, 1),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_foundation_model_has_the_published_size_stride_and_prefix_tokens(name):
    spec = get_spec(name)
    with torch.device("meta"):  # shapes without memory: the largest has 1.1 billion parameters
        model = timm.create_model(spec.architecture, pretrained=False, **spec.arguments)
        features = LayerFeatures(model.eval(), layer=spec.layer)(torch.empty(2, 3, spec.window_px, spec.window_px))
    tokens = spec.window_px // spec.stride_px
    assert features.shape == (2, tokens, tokens, spec.channels)
    assert (sum(p.numel() for p in model.parameters()), model.num_prefix_tokens) == PUBLISHED[name]


def test_every_registered_encoder_is_described_completely():
    assert next(spec.identifier for spec in known_encoders()) == "default"
    for spec in known_encoders():
        assert spec.halo_px % spec.stride_px == 0
        assert spec.window_px is None or spec.window_px % spec.stride_px == 0
        assert spec.licence != "unknown"
        assert spec.note


def test_an_unknown_encoder_is_refused_with_the_known_names():
    with pytest.raises(EncoderError, match="Expected one of default, efficientnet-lite0, resnet50, uni"):
        get_spec("resnet51")


def test_a_timm_name_may_carry_a_layer():
    assert split_timm_name("timm:resnet18") == ("resnet18", None)
    assert split_timm_name("timm:resnet18@layer2") == ("resnet18", "layer2")


def test_a_misspelt_timm_name_suggests_similar_ones():
    with pytest.raises(EncoderError, match=r"no model 'resnet5O'.*resnet50"):
        split_timm_name("timm:resnet5O")
