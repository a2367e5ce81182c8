"""One writer per project.

The system's own file lock decides, so that a killed process leaves nothing behind that would have to be cleaned
up. What the file says is for people, and for folders shared by computers whose locks do not reach each other.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from conceptseg.domain.errors import ConceptSegError, ProjectError
from conceptseg.domain.json_file import parse_json

if sys.platform == "win32":
    import msvcrt

    _FAR_BYTE = 1 << 30  # Windows locks keep others from reading: lock what nobody reads

    def _try_lock(file: BinaryIO) -> bool:
        file.seek(_FAR_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class ProjectLock:
    """Holds a project for this process, until closed or until the process ends in whatever way."""

    def __init__(self, path: Path, *, force: bool = False) -> None:
        """Take the lock.

        Args:
            path: The lock file; its folder exists.
            force: Ignore what a process on another computer left in the file. A lock that is held on this computer
                cannot be forced.

        Raises:
            ProjectError: somebody else has the project.
        """
        self._path = path
        self._file = path.open("a+b")
        if not _try_lock(self._file):
            owner = _read(path)
            self._file.close()
            raise ProjectError(
                f"Another ConceptSeg process is writing to this project{_named(owner)}. Wait until it is done, or end "
                "it, and run this again."
            )
        owner = _read(path)
        if owner and owner.get("host") != socket.gethostname() and not force:
            self._file.close()
            raise ProjectError(
                f"ConceptSeg on another computer says that it is writing to this project{_named(owner)}. If it is not "
                f"any more (it was killed, for instance), run this again with --force. The lock is {path}."
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}))

    def close(self) -> None:
        """Let others have the project."""
        if not self._file.closed:
            self._write("")
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, text: str) -> None:
        # The file itself stays: removing it would let two processes hold locks on two files of one name.
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text.encode())
        self._file.flush()


def _read(path: Path) -> dict[str, object]:
    try:
        owner = parse_json(path.read_bytes() or b"{}", name=str(path))
    except (OSError, ConceptSegError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _named(owner: dict[str, object]) -> str:
    if not owner:
        return ""
    return f" (process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')})"
