"""Changes the labels file of a project so that no writer loses what another one wrote.

Commands, the served page and the QuPath scripts all hold one lock while they read, change and write. The lock is the
byte `_LOCKED_BYTE` of a file beside the labels: Python and Java see each other's locks of that kind. The labels file
itself cannot carry it, since every change puts another file in its place.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from conceptseg.domain.errors import OutputError, ProjectError
from conceptseg.qupath.project.labels import Labels

_LOCKED_BYTE = 1 << 30  # ProjectLabels.java locks the same one
_PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 0.005
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_THREADS = Lock()  # a lock of this kind belongs to the process, so threads need one of their own

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCKED_BYTE)


def update_labels(path: Path, change: Callable[[Labels], Labels]) -> Labels:
    """Change the labels of a project; nobody else changes them meanwhile.

    Args:
        path: The labels file; without it there are no labels yet.
        change: Gets the labels as they are, returns what is written. What it raises leaves the file as it was.

    Returns:
        What was written.

    Raises:
        InvalidRequestError: the file is damaged.
        OutputError: the file cannot be written.
        ProjectError: another program holds the file for long.
    """
    with _held(path):
        changed = change(Labels.load(path))
        changed.save(path)
        return changed


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock of a labels file."""
    lock_file = path.with_name(f".{path.name}.lock")
    # A link would make a file where it leads to, so it is not followed.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with _THREADS:
        try:
            descriptor = os.open(lock_file, flags, 0o666)
        except OSError as error:
            raise OutputError(
                f"Cannot write {path}: {lock_file} cannot be opened ({error.strerror or error}). Check that the folder "
                "exists and is writable, and that the file is no link. Nothing was changed."
            ) from error
        try:
            _wait_for(descriptor, path)
            yield
        finally:
            os.close(descriptor)  # the lock goes with it; the file stays, so that all lock the same one


def _wait_for(descriptor: int, path: Path) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno not in _HELD:
                return  # a file system without locks: all that can be done there is to be quick
        else:
            return
        if time.monotonic() > end:
            raise ProjectError(
                f"Another program has been writing to {path} for {_PATIENCE_SECONDS:.0f} s. Nothing was changed. End "
                "that program, or wait until it is done, and try again."
            )
        time.sleep(_POLL_SECONDS)
