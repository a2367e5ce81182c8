"""Where QuPath is installed.

The same folders as paquo's defaults, in the same order, so that the first one found is the one paquo would
start, with one difference: ``~`` is expanded here, which paquo 0.9 does not do. So whoever starts paquo
passes the path on in ``PAQUO_QUPATH_DIR``. Nothing here imports paquo or starts a JVM.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_SEARCH_FOLDERS = (
    "/opt",
    "/Applications",
    "c:/Program Files",
    "/usr/local",
    "~/Applications",
    "~/AppData/Local",
    "~",
)
_CONDA_FOLDERS = {"linux": "opt/QuPath", "darwin": "bin/QuPath.app", "win32": "Library/QuPath"}
_JARS = {"linux": "lib/app", "darwin": "Contents/app", "win32": "app"}
_JVMS = {
    "linux": "lib/runtime/lib/server/libjvm.so",
    "darwin": "Contents/runtime/Contents/Home/lib/libjli.dylib",
    "win32": "runtime/bin/server/jvm.dll",
}
_LAUNCHERS = {"linux": "bin/QuPath*", "darwin": "Contents/MacOS/QuPath*", "win32": "QuPath*(console).exe"}
_CORE_JAR = re.compile(r"qupath-core-(\d.*)\.jar")


class QuPathInstallation(NamedTuple):
    """One QuPath on this machine.

    Attributes:
        path: The folder that ``PAQUO_QUPATH_DIR`` expects.
        version: Such as ``0.5.1``.
    """

    path: Path
    version: str

    @property
    def launcher(self) -> Path | None:
        """The program to start from a command line; None if the installation has none."""
        return next(iter(sorted(self.path.glob(_LAUNCHERS[_system()]))), None)


def find_qupath_installations(folders: Iterable[str | Path] | None = None) -> list[QuPathInstallation]:
    """Find every QuPath on this machine, the one paquo would use first.

    Args:
        folders: Folders that hold QuPath folders. By default, as in paquo: only ``PAQUO_QUPATH_DIR`` if that
            is set, otherwise an active conda environment and then ``/opt``, ``/Applications``,
            ``c:/Program Files``, ``/usr/local``, ``~/Applications``, ``~/AppData/Local`` and ``~``.

    Returns:
        The installations; empty if there is none. A folder without QuPath's jars and its own Java, both of
        which paquo needs, is not an installation.
    """
    found = []
    for path in dict.fromkeys(_candidates(folders)):
        version = _version(path)
        if version is not None:
            found.append(QuPathInstallation(path, version))
    return found


def _candidates(folders: Iterable[str | Path] | None) -> Iterator[Path]:
    if folders is None:
        chosen = os.environ.get("PAQUO_QUPATH_DIR")
        if chosen:
            yield Path(chosen)
            return
        conda = os.environ.get("CONDA_PREFIX")
        if conda:
            yield Path(conda) / _CONDA_FOLDERS[_system()]
        folders = _SEARCH_FOLDERS
    for folder in folders:
        try:
            inside = list(Path(folder).expanduser().iterdir())
        except (OSError, RuntimeError):  # absent, not readable, or a user without a home folder
            continue
        named = [path for path in inside if path.name.lower().startswith("qupath")]
        yield from sorted(named, key=lambda path: path.name.lower(), reverse=True)


def _version(path: Path) -> str | None:
    try:
        if not (path / _JVMS[_system()]).is_file():
            return None
        jars = [jar.name for jar in (path / _JARS[_system()]).glob("qupath-core-*.jar")]
    except OSError:
        return None
    versions = [match[1] for match in map(_CORE_JAR.fullmatch, jars) if match]
    return min(versions, default=None)


def _system() -> str:
    return sys.platform if sys.platform in ("darwin", "win32") else "linux"
