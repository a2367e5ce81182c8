"""A project writer in a process of its own, as seen from outside: a call here runs there.

A kill of that process leaves every image as it was or as it shall be; a kill of this one makes that one end.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.project.contents import Changes, ImageContents, ImageState, Outline, ProjectBackend
from conceptseg.qupath.project.entries import ImageEntry
from conceptseg.qupath.project.journal import PastRun
from conceptseg.qupath.project_writer import PaquoBackend, Task, serve

_END_SECONDS = 20
_KILLED = -9
"""Exit code of a process that was killed. Windows has neither the signal nor its name."""


class WriterDiedError(ProjectError):
    """The writer process ended without being asked to: it was killed, or QuPath crashed."""


class ProjectProcess:
    """Reads a project, and writes it if asked to. The methods are those of `ProjectWriter`."""

    def __init__(
        self,
        project: Path,
        *,
        write: bool,
        force: bool = False,
        backend: Callable[[], ProjectBackend] = PaquoBackend,
    ) -> None:
        """Start the process and return at once; the first call waits for QuPath, and says what is wrong.

        Args:
            project: The project file.
            write: Change the project, instead of only reading it.
            force: Ignore the lock that a process on another computer left.
            backend: Makes the QuPath to work with; importable by name.
        """
        self._log = tempfile.TemporaryDirectory(prefix="conceptseg-log-")
        task = Task(project=project, write=write, force=force, backend=backend, log=Path(self._log.name) / "qupath.log")
        # Never fork: torch's threads and a Java machine do not survive it.
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(task, other), name="conceptseg-writer", daemon=True)
        self._process.start()
        other.close()
        self._ready = False

    @property
    def pid(self) -> int | None:
        """Id of the process."""
        return self._process.pid

    def entries(self) -> tuple[ImageEntry, ...]:
        """The images of the project."""
        return self._call("entries")  # type: ignore[no-any-return]

    def contents(self, image: str) -> ImageContents:
        """What an image holds."""
        return self._call("contents", image)  # type: ignore[no-any-return]

    def state(self, image: str) -> ImageState:
        """All that an image holds."""
        state: ImageState = self._call("state", image)
        return state

    def outlines(self, image: str) -> Mapping[str, Outline]:
        """Shape and numbers of every result of an image, by id."""
        return self._call("outlines", image)  # type: ignore[no-any-return]

    def export_geojson(self, image: str, target: Path) -> int:
        """Write all objects of an image as QuPath exports them; return how many."""
        return self._call("export_geojson", image, target)  # type: ignore[no-any-return]

    def create(self, slides: Sequence[Path]) -> Mapping[Path, str]:
        """Create the project; return which slides are not in it, and why."""
        return self._call("create", list(slides))  # type: ignore[no-any-return]

    def start_run(self, *, run: str, settings: Mapping[str, Any]) -> None:
        """Begin a run that can be resumed."""
        self._call("start_run", run=run, settings=dict(settings))

    def resume_run(self, *, settings: Mapping[str, Any]) -> PastRun:
        """Go on with the last run."""
        return self._call("resume_run", settings=dict(settings))  # type: ignore[no-any-return]

    def keep_backups(self, name: str) -> None:
        """Keep what is replaced from now on."""
        self._call("keep_backups", name)

    def rebase(self, *, old: str, new: Path) -> int:
        """Make the project look for its slides below ``new`` instead of ``old``."""
        return self._call("rebase", old=old, new=new)  # type: ignore[no-any-return]

    def inspect(self, image: str) -> ImageContents:
        """What an image holds, remembered for `write`."""
        return self._call("inspect", image)  # type: ignore[no-any-return]

    def write(self, image: str, changes: Changes, *, name: str, report: Mapping[str, Any] | None = None) -> None:
        """Change an image that was inspected before, and record it."""
        self._call("write", image, changes, name=name, report=report)

    def close(self) -> None:
        """Let the process finish what it is writing, and end."""
        self._connection.close()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():  # between two images nothing can be lost
            self._process.kill()
            self._process.join()
        self._log.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        if not self._ready:
            self._answer()
            self._ready = True
        try:
            self._connection.send((method, arguments, keywords))
        except OSError as error:
            raise self._died() from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            good, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if not good:
            raise answer
        return answer

    def _died(self) -> WriterDiedError:
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        how = f"was killed ({_signal(-code)})" if code is not None and code < 0 else f"ended (code {code})"
        try:
            lines = (Path(self._log.name) / "qupath.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        said = f" Its last words: {' | '.join(lines[-3:])}" if lines and code != _KILLED else ""
        return WriterDiedError(
            f"The process that writes the project {how}. No image is half-written. Run this again with --resume.{said}"
        )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one that has no name on this system
        return f"signal {number}"
