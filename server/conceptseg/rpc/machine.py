"""What the server runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TypedDict

import torch


class Machine(TypedDict):
    """Fields of GetServerInfoResponse; see there."""

    device: str
    device_name: str
    device_memory_total_bytes: int
    device_memory_free_bytes: int
    process_memory_bytes: int


def describe_machine(device: torch.device) -> Machine:
    """The device and its memory."""
    free, total = torch.cuda.mem_get_info(device) if device.type == "cuda" else _memory_of_computer()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return Machine(
        device=str(device),
        device_name=name,
        device_memory_total_bytes=total,
        device_memory_free_bytes=free,
        process_memory_bytes=process_memory_bytes(),
    )


def process_memory_bytes() -> int:
    """Memory of this process; 0 where the system does not say in a file."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _memory_of_computer() -> tuple[int, int]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, macOS
        return 0, 0
