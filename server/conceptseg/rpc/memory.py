"""Memory that the C library keeps after it was freed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable


def _find_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


_malloc_trim = _find_trim()


def give_back_free_memory() -> None:
    """Return to the system what is free in the C library's arenas, where that library is glibc.

    It keeps freed blocks for later, per arena, and only ever shrinks an arena from its end: a server that works for
    weeks holds the memory of its largest moments. It takes some milliseconds, so do it when nobody waits.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
