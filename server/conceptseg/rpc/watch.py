"""Whether another process still lives."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable


def watch_process(pid: int) -> Callable[[], bool]:
    """Watch a process from now on.

    Returns:
        A function that says whether it still lives. On Linux and Windows a process that takes over its number later
        is not mistaken for it.
    """
    if sys.platform == "win32":
        return _watch_windows(pid)
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return lambda: False
        except OSError:  # an old kernel
            return lambda: _exists(pid)
        # Readable as soon as the process has ended, also while nobody has collected its exit code.
        return lambda: not select.select([descriptor], [], [], 0)[0]
    return lambda: _exists(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _watch_windows(pid: int) -> Callable[[], bool]:
    if sys.platform != "win32":  # lets type checkers on other systems skip the rest
        raise OSError("Only on Windows.")
    import ctypes

    kernel = ctypes.windll.kernel32
    synchronize, timed_out = 0x00100000, 0x102
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return lambda: False
    return lambda: bool(kernel.WaitForSingleObject(handle, 0) == timed_out)
