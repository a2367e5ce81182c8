"""Changes a project image by image. Whatever happens, each image is as it was or as it shall be."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conceptseg.domain.errors import ProjectError
from conceptseg.domain.files import replacing, sync
from conceptseg.qupath.project.contents import Changes, ImageContents, ImageState, Outline, ProjectBackend
from conceptseg.qupath.project.create import create_project
from conceptseg.qupath.project.entries import ImageEntry, read_document, read_entries, rebased
from conceptseg.qupath.project.inside import part_of
from conceptseg.qupath.project.journal import Journal, PastRun, read_journal
from conceptseg.qupath.project.lock import ProjectLock
from conceptseg.qupath.project.snapshot import FileState, is_unchanged, state_of
from conceptseg.qupath.project.stage import CLASSES, DATA, staged
from conceptseg.qupath.project.verify import verify

OWN_FOLDER = ".conceptseg"
"""In the project's folder: lock, journal, backups, and the copy QuPath works on."""

JOURNAL = "annotate.jsonl"
_KEPT_BACKUPS = 3


class ProjectReader:
    """Reads a project and writes nothing in its folder."""

    def __init__(self, project: Path, *, backend: ProjectBackend, stages: Path | None = None) -> None:
        """Look at a project.

        Args:
            project: The project file.
            backend: The QuPath to read it with.
            stages: Folder for the copies that QuPath works on; one of the system's for temporary files when None.
        """
        self.project = project
        self._backend = backend
        self._stages = stages or Path(tempfile.mkdtemp(prefix="conceptseg-"))
        self._numbers = itertools.count()

    def entries(self) -> tuple[ImageEntry, ...]:
        """The images of the project."""
        return read_entries(self.project)

    def contents(self, image: str) -> ImageContents:
        """What an image holds."""
        with self._stage(image) as stage:
            return self._backend.contents(stage)

    def state(self, image: str) -> ImageState:
        """All that an image holds."""
        with self._stage(image) as stage:
            return self._backend.state(stage)

    def outlines(self, image: str) -> Mapping[str, Outline]:
        """Shape and numbers of every result of an image, by id."""
        with self._stage(image) as stage:
            return self._backend.outlines(stage)

    def export_geojson(self, image: str, target: Path) -> int:
        """Write all objects of an image as QuPath exports them; return how many."""
        with self._stage(image) as stage, replacing(target) as temporary:
            return self._backend.export_geojson(stage, temporary)

    def create(self, slides: Sequence[Path]) -> Mapping[Path, str]:
        """Create this very project, which must not exist; see `create_project`."""
        return create_project(self.project.parent, slides, backend=self._backend)

    def close(self) -> None:
        """Remove the copies that QuPath worked on."""
        shutil.rmtree(self._stages, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _stage(self, image: str) -> Iterator[Path]:
        folder = self._stages / str(next(self._numbers))
        with _disk_errors(folder), staged(self.project, image, folder=folder) as stage:
            yield stage


class ProjectWriter(ProjectReader):
    """The only one who changes a project.

    Every image goes through the same steps: read and remember the state of its file; let QuPath change a copy; read
    the copy again and compare; check that nobody changed the file meanwhile; keep the old file as backup; rename the
    new file into place, which is one atomic step. `journal` records what is done.
    """

    def __init__(self, project: Path, *, backend: ProjectBackend, force: bool = False) -> None:
        """Take the project.

        Args:
            project: The project file.
            backend: The QuPath to write with.
            force: Ignore the lock that a process on another computer left.

        Raises:
            ProjectError: somebody else is writing to the project, or its folder cannot be written or is a link.
        """
        self._folder = part_of(project, OWN_FOLDER)
        # In the project's own folder, since a file can only be renamed within one file system.
        super().__init__(project, backend=backend, stages=part_of(project, OWN_FOLDER, "stage"))
        self._journal = Journal(part_of(project, OWN_FOLDER, JOURNAL))
        self._recording = False
        self._backups: Path | None = None
        self._read: dict[str, FileState | None] = {}
        self._project_state = state_of(project)
        try:
            self._folder.mkdir(exist_ok=True)
            sync(project.parent)
            self._lock = ProjectLock(part_of(project, OWN_FOLDER, "lock"), force=force)
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        shutil.rmtree(self._stages, ignore_errors=True)  # what a killed process left

    def last_run(self) -> PastRun | None:
        """What the journal says of the last run."""
        return read_journal(self._folder / JOURNAL)

    def start_run(self, *, run: str, settings: Mapping[str, Any]) -> None:
        """Begin a run that can be resumed.

        Args:
            run: Its id.
            settings: What makes two runs the same; plain JSON values.
        """
        with _disk_errors(self._folder):
            self._journal.start(run=run, settings=settings)
        self._recording = True
        self.keep_backups(run)

    def resume_run(self, *, settings: Mapping[str, Any]) -> PastRun:
        """Go on with the last run.

        Images whose new file was already in place when it was killed count as done.

        Raises:
            ProjectError: there is none, or it was asked something else.
        """
        past = self.last_run()
        if past is None:
            raise ProjectError(f"There is no run to resume in {self.project.parent}. Run without --resume.")
        if dict(past.settings) != dict(settings):
            different = sorted(
                key for key in past.settings.keys() | settings.keys() if past.settings.get(key) != settings.get(key)
            )
            raise ProjectError(
                f"The run to resume had other settings ({', '.join(different)}). Repeat them, or run without --resume."
            )
        with _disk_errors(self._folder):
            self._journal.mend()
            for image, sha256 in list(past.writing.items()):
                state = state_of(self._data(image) / DATA)
                if state is not None and state.sha256 == sha256:
                    self._journal.done(image, {})
                    past.done[image] = {}
                    del past.writing[image]
        self._recording = True
        self.keep_backups(past.run)
        return past

    def keep_backups(self, name: str) -> None:
        """Keep what is replaced from now on in ``.conceptseg/backup/NAME``; only the newest few are kept."""
        self._backups = part_of(self.project, OWN_FOLDER, "backup", name)
        root = self._backups.parent
        try:
            self._backups.mkdir(parents=True, exist_ok=True)
            os.utime(self._backups)
            sync(root)
            sync(self._folder)
            others = sorted((path for path in root.iterdir() if path != self._backups), key=lambda p: p.stat().st_mtime)
            for old in others[: -(_KEPT_BACKUPS - 1)]:
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise _cannot_write(self._backups, error) from error

    def rebase(self, *, old: str, new: Path) -> int:
        """Make the project look for its slides below ``new`` instead of ``old``; return how many moved.

        The project file as it was is kept as backup.

        Raises:
            ProjectError: somebody changed the project meanwhile.
        """
        document, moved = rebased(read_document(self.project), old=old, new=new)
        if moved:
            if self._backups is None:
                self.keep_backups(f"rebase-{datetime.now():%Y-%m-%d-%H%M%S}")
            self._require_same_project()
            self._back_up(self.project, self.project.name)
            with replacing(self.project) as temporary:
                temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
            self._project_state = state_of(self.project)
        return moved

    def inspect(self, image: str) -> ImageContents:
        """What an image holds, and remember the state of its file for `write`."""
        state = state_of(self._data(image) / DATA)
        contents = self.contents(image)
        self._read[image] = state
        return contents

    def write(self, image: str, changes: Changes, *, name: str, report: Mapping[str, Any] | None = None) -> None:
        """Change an image that was inspected before, and record it.

        Args:
            image: Number of the image.
            changes: What shall change; without any, the image is only recorded.
            name: What messages call the image.
            report: Recorded with it.

        Raises:
            ProjectError: somebody changed the image or the project since `inspect`, QuPath failed, or what it wrote
                is not what it was given. The image is as it was.
        """
        state = self._read.pop(image)
        if changes:
            classes = state_of(self._classes)  # before the copy that QuPath gets is made of it
            with self._stage(image) as stage:
                before = self._backend.state(stage)
                self._backend.apply(stage, changes)
                verify(name, before=before, changes=changes, after=self._backend.state(stage))
                self._put_in_place(stage.parent, image, state, classes, name)
        if self._recording:
            with _disk_errors(self._folder):
                self._journal.done(image, report or {})

    def close(self) -> None:
        """Let others have the project."""
        super().close()
        self._lock.close()

    def _put_in_place(
        self, stage: Path, image: str, state: FileState | None, classes: FileState | None, name: str
    ) -> None:
        data, new = self._data(image), stage / "data" / image
        new_state = state_of(new / DATA)
        if new_state is None:
            raise ProjectError(f"{name}: QuPath wrote no file. The image was left as it was.")
        sync(new / DATA)
        if not data.is_dir():
            data.mkdir(parents=True, exist_ok=True)
            sync(data.parent)
        self._back_up(data / DATA, f"{image}-{DATA}")
        self._require_same_project()
        self._require_same_image(image, state, name)
        if self._recording:
            self._journal.writing(image, sha256=new_state.sha256)
        self._put_classes(stage, classes, name)
        for extra in ("summary.json", "server.json"):
            if (new / extra).is_file() and (extra == "summary.json" or not (data / extra).exists()):
                sync(new / extra)
                (new / extra).replace(data / extra)
        self._require_same_image(image, state, name)
        # Last, and atomic: until here the image is as it was, from here on it is as it shall be.
        (new / DATA).replace(data / DATA)
        sync(data)

    def _put_classes(self, stage: Path, before: FileState | None, name: str) -> None:
        """The class list as QuPath wrote it, if classes were added.

        Args:
            stage: Folder of the copy that QuPath wrote.
            before: What the list was when the copy was made.
            name: What messages call the image.
        """
        new, old = stage / CLASSES, self._classes
        new_state = state_of(new)
        if new_state is None or (before is not None and before.sha256 == new_state.sha256):
            return
        old.parent.mkdir(exist_ok=True)
        sync(new)
        self._back_up(old, CLASSES.name)
        if not is_unchanged(old, before):
            raise ProjectError(
                f"{name}: another program changed the project's classes ({old}) meanwhile, so the image was not "
                "written. Close the project in QuPath and run this again with --resume."
            )
        new.replace(old)
        sync(old.parent)

    def _back_up(self, file: Path, name: str) -> None:
        """Keep a file that is about to be replaced, as it was before the run."""
        if self._backups is None or not file.is_file() or (self._backups / name).exists():
            return
        backup = self._backups / name
        try:
            os.link(file.resolve(), backup)  # the old content stays under this name when a new file takes the other
        except OSError:
            with replacing(backup) as temporary:
                shutil.copy2(file, temporary)
        sync(self._backups)

    @property
    def _classes(self) -> Path:
        return part_of(self.project, *CLASSES.parent.parts) / CLASSES.name

    def _data(self, image: str) -> Path:
        return part_of(self.project, "data", image)

    def _require_same_project(self) -> None:
        if not is_unchanged(self.project, self._project_state):
            raise ProjectError(
                f"Another program changed {self.project} during this run, so this image was not written. Close the "
                "project in QuPath and run this again with --resume."
            )

    def _require_same_image(self, image: str, state: FileState | None, name: str) -> None:
        if not is_unchanged(self._data(image) / DATA, state):
            raise ProjectError(
                f"{name}: another program saved this image while it was segmented, so it was not written. Close the "
                "project in QuPath and run this again with --resume."
            )


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> ProjectError:
    hint = {
        errno.ENOSPC: "Free some space and run this again with --resume.",
        errno.EDQUOT: "Free some of your quota and run this again with --resume.",
    }.get(error.errno or 0, "Check that you may write in the project's folder.")
    return ProjectError(f"Cannot write {error.filename or path}: {error.strerror or error}. Nothing was lost. {hint}")
