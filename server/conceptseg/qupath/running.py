"""Whether a QuPath on this machine has a project open.

QuPath locks nothing, and a project that is open there does not see what is written here: its next Save would undo it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from conceptseg.domain.errors import ProjectError

_SLIDES = frozenset(
    {".svs", ".ndpi", ".mrxs", ".scn", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bif", ".czi", ".vsi"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningQuPath:
    """A QuPath that runs on this machine.

    Attributes:
        pid: Its process id.
        parent: That of the process that started it.
        arguments: Its command line.
        files: Files that it has open, as far as this user may know.
    """

    pid: int
    parent: int
    arguments: tuple[str, ...]
    files: frozenset[Path]

    def has_open(self, project: Path, slides: Iterable[Path]) -> bool:
        """Whether it was started with the project, or has one of its slides open."""
        if self.files & {_resolved(slide) for slide in slides}:
            return True
        ours = {_resolved(project), _resolved(project.parent)}
        return any(_resolved(path) in ours for path in self._paths())

    def is_elsewhere(self) -> bool:
        """Whether it was started with a project, or has a slide open: one that is not ours, if `has_open` says no."""
        return any(path.suffix == ".qpproj" for path in self._paths()) or any(
            file.suffix.lower() in _SLIDES for file in self.files
        )

    def _paths(self) -> Iterator[Path]:
        return (Path(argument.rpartition("=")[2]) for argument in self.arguments[1:] if argument)


def running_qupaths() -> list[RunningQuPath]:
    """Every QuPath on this machine that this user may see."""
    found = {qupath.pid: qupath for qupath in _processes()}
    # QuPath's launcher starts a process of the same name: the two are one QuPath.
    for qupath in list(found.values()):
        launcher = found.get(qupath.parent)
        if launcher is not None:
            files = launcher.files | qupath.files
            found[launcher.pid] = replace(launcher, arguments=(*launcher.arguments, *qupath.arguments), files=files)
            del found[qupath.pid]
    return list(found.values())


def _processes() -> Iterator[RunningQuPath]:
    for process in psutil.process_iter():
        try:
            arguments, parent = tuple(process.cmdline()), process.ppid()
            if process.pid == os.getpid() or not _is_qupath(process.name(), arguments):
                continue
            try:
                files = frozenset(_resolved(Path(file.path)) for file in process.open_files())
            except psutil.AccessDenied:
                files = frozenset()
        except psutil.Error:  # it ended meanwhile, or belongs to somebody else
            continue
        yield RunningQuPath(pid=process.pid, parent=parent, arguments=arguments, files=files)


def require_closed(project: Path, slides: Sequence[Path], *, force: bool) -> list[str]:
    """Raise ProjectError if a QuPath on this machine has the project open, unless ``force``; return warnings."""
    warnings = []
    unknown = []
    for qupath in running_qupaths():
        if not qupath.has_open(project, slides):
            if not qupath.is_elsewhere():
                unknown.append(str(qupath.pid))
        elif force:
            warnings.append(
                f"QuPath (process {qupath.pid}) has this project, or a slide of it, open: do not save there, and "
                "reopen it afterwards."
            )
        else:
            raise ProjectError(
                f"QuPath (process {qupath.pid}) has this project, or a slide of it, open. It would not see what is "
                "written here, and overwrite it with its next Save. Close the project there, or go on with --force."
            )
    if unknown:
        warnings.append(
            f"QuPath is running (process {', '.join(unknown)}). If it has this project open, close the project there: "
            "it does not see what is written here, and would overwrite it."
        )
    return warnings


def _is_qupath(name: str, arguments: tuple[str, ...]) -> bool:
    """The launcher is called QuPath-0.6.0 or QuPath.exe; without it, Java runs the class qupath.QuPath."""
    return name.lower().startswith("qupath") or "qupath.QuPath" in arguments


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))
