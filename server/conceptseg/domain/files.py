"""Files appear whole or not at all, and stay when the power fails."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conceptseg.domain.errors import OutputError

_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS}
"""What file systems answer that have no such thing. Every other answer says that the content is not on disk."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends well.

    The content and the new name are on disk then. An existing file keeps its permissions; a new one gets those that
    the user's umask leaves. On any error or interruption the temporary file is removed and an existing ``path`` stays
    as it was.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    try:
        temporary = _empty_beside(path)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    try:
        made = temporary.stat().st_mode
        yield temporary
        # A library may have made the file anew, with a mode of its own.
        temporary.chmod(stat.S_IMODE(path.stat().st_mode if path.is_file() else made))
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _empty_beside(path: Path) -> Path:
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}{path.suffix}")
    # Made with its mode: to ask for the umask afterwards means to change it, for all threads.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return temporary


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk before going on: a power cut then finds the same order of things.

    Raises:
        OSError: it is not on disk: the disk failed or, on network file systems, is full.
    """
    windows = sys.platform == "win32"
    if windows and path.is_dir():
        return  # Windows cannot, and does so by itself
    try:
        descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    except PermissionError:
        return  # a folder that may be written but not read
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> str:
    return (
        f"Cannot write {path}: {error.strerror or error}. Nothing was left half-written. "
        "Check that the folder exists, is writable and has free space, or choose another output path."
    )
