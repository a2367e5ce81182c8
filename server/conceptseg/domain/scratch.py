"""Temporary files that are mapped into memory: their space is taken before they are."""

from __future__ import annotations

import errno
import os
from typing import IO

_CHUNK = bytes(1 << 20)
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


def reserve(file: IO[bytes], size: int) -> None:
    """Make an empty file ``size`` bytes long, all zero, with space for every byte.

    A file that is only made long has holes. The system looks for space when a hole of a mapped file is touched (on
    tmpfs even when it is read), and where there is none it kills the process (SIGBUS). Here that is an error.

    Raises:
        OSError: there is not enough space.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            return
    for start in range(0, size, len(_CHUNK)):
        file.write(_CHUNK[: size - start])
    file.flush()
