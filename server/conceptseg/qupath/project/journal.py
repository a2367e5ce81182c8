"""What a run over a project has done so far, so that it can go on after it was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conceptseg.domain.errors import ProjectError
from conceptseg.domain.files import replacing

_VERSION = 1


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
        ProjectError: the journal is of another version.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    if not records:
        return None
    if records[0].get("version") != _VERSION:
        raise ProjectError(f"{path} is of another version of ConceptSeg. Run without --resume.")
    past = PastRun(run=records[0]["run"], settings=records[0]["settings"])
    for record in records[1:]:
        image = record["image"]
        past.writing.pop(image, None)
        if record["state"] == "done":
            past.done[image] = record["report"]
        else:
            past.writing[image] = record["sha256"]
    return past


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
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
