"""The encoders ConceptSeg knows by name."""

from __future__ import annotations

import difflib
from dataclasses import replace

import timm
from timm.layers import SwiGLUPacked  # type: ignore[attr-defined]
from torch import nn

from conceptseg.domain.errors import EncoderError
from conceptseg.encoders.spec import IMAGENET_MEAN, IMAGENET_STD, EncoderSpec

_TIMM_PIXEL_SIZE_UM = 0.5
_SWIGLU = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
_BIOPTIMUS_MEAN = (0.707223, 0.578729, 0.703617)
_BIOPTIMUS_STD = (0.211883, 0.230117, 0.177517)


def _vit(
    identifier: str,
    architecture: str,
    hub: str,
    *,
    channels: int,
    blocks: int,
    patch_px: int,
    licence: str,
    gated: bool,
    note: str,
    arguments: dict[str, object],
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> EncoderSpec:
    """A vision transformer that sees 224 px windows; one token around the window is context only."""
    return EncoderSpec(
        identifier=identifier,
        architecture=architecture,
        layer=f"blocks.{blocks - 1}",
        source="hub",
        hub=hub,
        arguments={"img_size": 224, "num_classes": 0, **arguments},
        channels=channels,
        stride_px=patch_px,
        window_px=224,
        halo_px=patch_px,
        licence=licence,
        gated=gated,
        note=note,
        mean=mean,
        std=std,
    )


_LITE0 = EncoderSpec(
    identifier="efficientnet-lite0",
    architecture="tf_efficientnet_lite0",
    # The expansion of the first stride-16 block: 480 channels behind a ReLU6, non-negative by construction.
    layer="blocks.4.0.bn1",
    source="package",
    channels=480,
    stride_px=16,
    halo_px=80,
    cpu_tile_px=2048,
    # The weights' own transform is (pixel - 127) / 128.
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    licence="Apache-2.0",
    note="the default encoder's layer as it is, for comparison with the reference",
)

_SPECS = (
    replace(
        _LITE0,
        identifier="default",
        channels=_LITE0.channels + 2,
        halo_px=_LITE0.halo_px + _LITE0.stride_px,  # of the tokens around
        stain_weight=0.2,
        note="EfficientNet-Lite0, ImageNet, with stain densities; works without a network",
    ),
    _LITE0,
    EncoderSpec(
        identifier="resnet50",
        architecture="resnet50.tv_in1k",
        layer="layer3",
        source="timm",
        channels=1024,
        stride_px=16,
        halo_px=144,
        licence="BSD-3-Clause",
        note="ResNet50 layer3, ImageNet; the reference's CNN, with published dictionaries",
    ),
    _vit(
        "uni",
        "vit_large_patch16_224",
        "MahmoodLab/uni",
        channels=1024,
        blocks=24,
        patch_px=16,
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        note="UNI, ViT-L/16; published dictionaries",
        arguments={"init_values": 1e-5, "dynamic_img_size": True},
    ),
    _vit(
        "prov-gigapath",
        "vit_giant_patch14_dinov2",
        "prov-gigapath/prov-gigapath",
        channels=1536,
        blocks=40,
        patch_px=16,
        licence="Prov-GigaPath licence (Apache-2.0 code, gated weights)",
        gated=True,
        note="Prov-GigaPath tile encoder, ViT-g/16; published dictionaries",
        arguments={"patch_size": 16, "dynamic_img_size": True},
    ),
    _vit(
        "uni2-h",
        "vit_giant_patch14_224",
        "MahmoodLab/UNI2-h",
        channels=1536,
        blocks=24,
        patch_px=14,
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        note="UNI2-h, ViT-H/14 with 8 register tokens",
        arguments={
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
            **_SWIGLU,
        },
    ),
    _vit(
        "virchow2",
        "vit_huge_patch14_224",
        "paige-ai/Virchow2",
        channels=1280,
        blocks=32,
        patch_px=14,
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        note="Virchow2, ViT-H/14 with 4 register tokens",
        arguments={
            "init_values": 1e-5,
            "mlp_ratio": 5.3375,
            "reg_tokens": 4,
            "dynamic_img_size": True,
            **_SWIGLU,
        },
    ),
    _vit(
        "h-optimus-0",
        "vit_giant_patch14_reg4_dinov2",
        "bioptimus/H-optimus-0",
        channels=1536,
        blocks=40,
        patch_px=14,
        licence="Apache-2.0",
        gated=True,
        note="H-optimus-0, ViT-g/14 with 4 register tokens",
        arguments={"init_values": 1e-5, "dynamic_img_size": False},
        mean=_BIOPTIMUS_MEAN,
        std=_BIOPTIMUS_STD,
    ),
    _vit(
        "h0-mini",
        "vit_base_patch14_reg4_dinov2",
        "bioptimus/H0-mini",
        channels=768,
        blocks=12,
        patch_px=14,
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        note="H0-mini, ViT-B/14 with 4 register tokens",
        arguments={"mlp_ratio": 5.33334, "dynamic_img_size": True, **_SWIGLU},
        mean=_BIOPTIMUS_MEAN,
        std=_BIOPTIMUS_STD,
    ),
    _vit(
        "phikon",
        "vit_base_patch16_224",
        "1aurent/vit_base_patch16_224.owkin_pancancer",
        channels=768,
        blocks=12,
        patch_px=16,
        licence="Owkin non-commercial licence",
        gated=False,
        note="Phikon, ViT-B/16 (timm port)",
        arguments={},
    ),
    _vit(
        "lunit-vits16",
        "vit_small_patch16_224",
        "1aurent/vit_small_patch16_224.lunit_dino",
        channels=384,
        blocks=12,
        patch_px=16,
        licence="Lunit non-commercial licence",
        gated=False,
        note="Lunit DINO, ViT-S/16 (timm port)",
        arguments={},
        mean=(0.70322989, 0.53606487, 0.66096631),
        std=(0.21716536, 0.26081574, 0.20723464),
    ),
)

_BY_NAME = {spec.identifier: spec for spec in _SPECS}


def known_encoders() -> tuple[EncoderSpec, ...]:
    """All registered encoders, the default first."""
    return _SPECS


def is_timm_name(identifier: str) -> bool:
    """Whether ``identifier`` is ``timm:NAME`` or ``timm:NAME@LAYER``."""
    return identifier.startswith("timm:")


def get_spec(identifier: str) -> EncoderSpec:
    """The registered encoder of that name.

    Raises:
        EncoderError: no such encoder; the message lists those there are.
    """
    try:
        return _BY_NAME[identifier]
    except KeyError:
        raise EncoderError(
            f"Unknown encoder {identifier!r}. Expected one of {', '.join(_BY_NAME)}, or timm:NAME for any timm "
            "model (timm:NAME@LAYER to choose the layer)."
        ) from None


def default_pixel_size_um(identifier: str) -> float:
    """µm per pixel at which an encoder is used where nothing else is said.

    Raises:
        EncoderError: no such encoder.
    """
    return _TIMM_PIXEL_SIZE_UM if is_timm_name(identifier) else get_spec(identifier).pixel_size_um


def split_timm_name(identifier: str) -> tuple[str, str | None]:
    """Split ``timm:NAME@LAYER`` into model name and layer (None if not given).

    Raises:
        EncoderError: timm has no such model.
    """
    name, _, layer = identifier.removeprefix("timm:").partition("@")
    architecture = name.split(".")[0]
    if not name.startswith("hf-hub:") and not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=5)
        raise EncoderError(f"timm has no model {name!r}." + (f" Similar: {', '.join(close)}." if close else ""))
    return name, layer or None
