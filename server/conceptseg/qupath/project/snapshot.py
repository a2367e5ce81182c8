"""Whether a file is still the one that was read."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from conceptseg.domain.errors import ProjectError

_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """What a file was at one moment.

    Attributes:
        size: Bytes.
        mtime_ns: Time of the last change in ns.
        sha256: Of the content.
    """

    size: int
    mtime_ns: int
    sha256: str


def state_of(path: Path) -> FileState | None:
    """The file's state now; None if there is no such file.

    Raises:
        ProjectError: it is no file, or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would never end
            raise ProjectError(f"{path} is no file. Remove it.")
        with path.open("rb") as file:
            status = path.stat()
            while piece := file.read(_PIECE):
                digest.update(piece)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError(f"Cannot read {path}: {error.strerror or error}. Check its permissions.") from error
    return FileState(size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=digest.hexdigest())


def is_unchanged(path: Path, before: FileState | None) -> bool:
    """Whether the file has the content it had; a file that was merely touched has not changed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return before is None
    if before is None or status.st_size != before.size:
        return False
    # A program can keep size and time when it writes twice within the clock's resolution, but none writes a
    # project that way: equal size and time are as good as the content, and cost nothing.
    if status.st_mtime_ns == before.mtime_ns:
        return True
    now = state_of(path)
    return now is not None and now.sha256 == before.sha256
