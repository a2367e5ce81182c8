"""How many bits an encoder computes with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from conceptseg.domain.errors import EncoderError

_NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_FIRST_CAPABILITY = (8, 0)
"""Of NVIDIA's GPUs those from Ampere on compute in bfloat16; torch only emulates it on older ones."""


def split_precision(device: str) -> tuple[str, str | None]:
    """``cuda:0/float32`` as device and name of the precision, None where it does not say.

    Raises:
        EncoderError: an unknown precision.
    """
    place, slash, precision = device.partition("/")
    if slash and precision not in _NAMES:
        raise EncoderError(f"--device {device}: expected {' or '.join(_NAMES)} after the slash, got {precision!r}.")
    return place, precision if slash else None


def dtype_for(devices: Sequence[torch.device], precision: str | None) -> torch.dtype:
    """The asked precision; by default bfloat16 on GPUs that all compute in it, else float32.

    Batches go to the devices in turn, so all of them compute in the same. On a processor bfloat16 changes the features
    by its rounding, so it is used there only where it is asked for.

    Raises:
        EncoderError: bfloat16 on a processor that does not compute in it.
    """
    if precision is None:
        return torch.bfloat16 if all(map(_is_gpu_with_bfloat16, devices)) else torch.float32
    on_cpu = any(device.type == "cpu" for device in devices)
    if precision == "bfloat16" and on_cpu and not _processor_has_bfloat16():
        raise EncoderError(
            "This processor does not compute in bfloat16 (AVX-512 BF16 or AMX): it would be slower than float32. "
            "Use --device cpu."
        )
    return _NAMES[precision]


def _is_gpu_with_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FIRST_CAPABILITY


def _processor_has_bfloat16() -> bool:
    # torch says so under private names only, and not in all its versions.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe is not None and probe() for probe in probes)
