"""What a run over a project has done so far, so that it can go on after it was killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from errno import ENOSPC
from os import SEEK_END, strerror
from pathlib import Path
from typing import Any

from conceptseg.domain.errors import ProjectError
from conceptseg.domain.files import replacing, sync
from conceptseg.domain.json_file import parse_json

_VERSION = 1
_REMEDY = (
    "It says what the last run of `conceptseg annotate` did. Move it away, or begin a new run without --resume; "
    "results and labels are in other files."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PastRun:
    """What a journal says.

    Attributes:
        run: Id of the run, which every object it made carries.
        settings: What it was asked to do.
        done: Image -> report, of the images that are finished.
        writing: Image -> sha256 of the data file that was about to be put in place when the journal ends.
    """

    run: str
    settings: Mapping[str, Any]
    done: dict[str, Any] = field(default_factory=dict)
    writing: dict[str, str] = field(default_factory=dict)


def read_journal(path: Path) -> PastRun | None:
    """The last run; None if there was none.

    A line that a killed process left incomplete is as good as not written.

    Raises:
        ProjectError: the journal cannot be read, is damaged, or of another version.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError(f"Cannot read {path}: {error.strerror or error}. Check its permissions.") from error
    past = None
    for number, line in enumerate(lines, start=1):
        name = f"{path}, line {number},"
        record = parse_json(line, name=name, error=ProjectError, remedy=_REMEDY)
        if not isinstance(record, dict):
            raise _damaged(name)
        if past is None:
            past = _begun(record, name)
        else:
            _note(past, record, name)
    return past


def _begun(record: Mapping[str, Any], name: str) -> PastRun:
    version, run, settings = record.get("version"), record.get("run"), record.get("settings")
    if version != _VERSION and isinstance(version, int):
        raise ProjectError(f"{name} is of another version of ConceptSeg. Run without --resume.")
    if version != _VERSION or not isinstance(run, str) or not isinstance(settings, dict):
        raise _damaged(name)
    return PastRun(run=run, settings=settings)


def _note(past: PastRun, record: Mapping[str, Any], name: str) -> None:
    image, state, report, sha256 = (record.get(key) for key in ("image", "state", "report", "sha256"))
    if not isinstance(image, str):
        raise _damaged(name)
    past.writing.pop(image, None)
    if state == "done" and isinstance(report, dict) and isinstance(report.get("polygons", 0), int):
        past.done[image] = report
    elif state == "writing" and isinstance(sha256, str):
        past.writing[image] = sha256
    else:
        raise _damaged(name)


def _damaged(name: str) -> ProjectError:
    return ProjectError(f"{name} is damaged: expected what ConceptSeg wrote there, got something else. {_REMEDY}")


class Journal:
    """Appends to the record of a run; every line is on disk when a method returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, *, run: str, settings: Mapping[str, Any]) -> None:
        """Begin a new run; the journal of the previous one is gone."""
        with replacing(self._path) as temporary:
            temporary.write_text(_line({"version": _VERSION, "run": run, "settings": dict(settings)}), encoding="utf-8")

    def mend(self) -> None:
        """Remove the incomplete last line that a killed process may have left."""
        content = self._path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if complete != content:
            with replacing(self._path) as temporary:
                temporary.write_bytes(complete)

    def writing(self, image: str, *, sha256: str) -> None:
        """Say that a data file with this content is about to be put in place."""
        self._append({"image": image, "state": "writing", "sha256": sha256})

    def done(self, image: str, report: Mapping[str, Any]) -> None:
        """Say that an image is finished."""
        self._append({"image": image, "state": "done", "report": dict(report)})

    def _append(self, record: Mapping[str, Any]) -> None:
        with self._path.open("ab", buffering=0) as file:
            end = file.seek(0, SEEK_END)
            line = _line(record).encode("utf-8")
            try:
                if file.write(line) < len(line):
                    raise OSError(ENOSPC, strerror(ENOSPC), str(self._path))
                sync(self._path)
            except OSError:
                file.truncate(end)  # half a line would spoil the next one
                raise


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
