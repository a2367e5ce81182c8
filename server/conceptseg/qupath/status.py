"""The state of a run as a file: for programs that watch it, and for a later run that does what is missing."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conceptseg.domain.errors import ConceptSegError, InvalidRequestError, OutputError
from conceptseg.domain.files import replacing
from conceptseg.domain.json_file import read_json
from conceptseg.pipeline.batch import Image, ImageStarted, Job, Outcome, RunEvent, RunStarted

_VERSION = 1
_DONE = {"done", "skipped", "resumed"}


class StatusFile:
    """Rewrites a JSON file after every event of a run; readers always find a whole one.

    ``state`` is ``running``, ``finished``, or ``stopped`` (by an error or the user). Every image of the project that
    this and earlier runs with the same file were about is in ``images`` with ``id``, ``name``, ``state`` (``waiting``,
    ``working``, or that of its `Outcome`), ``polygons``, ``message`` and ``seconds``; ``counts`` has their number per
    state. A run that was killed leaves ``running`` and the time of its last event in ``updated``.
    """

    def __init__(self, path: Path, *, project: Path, job: Job) -> None:
        """Go on with the file if it is there.

        Raises:
            InvalidRequestError: it is no status file, or of another project, or of a run with other settings.
        """
        self._path = path
        self._head = {"version": _VERSION, "project": str(project.absolute()), "settings": job.as_json()}
        self._run: str | None = None
        self._images = _read(path, self._head) if path.exists() else {}
        self._written = False

    def is_missing(self, image: str) -> bool:
        """Whether no run with this file has done the image of this number yet."""
        return image not in self._images or self._images[image]["state"] not in _DONE

    def __call__(self, event: RunEvent) -> None:
        """Note what happened.

        Raises:
            OutputError: the file cannot be written. Later failures are made up for by the next event.
        """
        if isinstance(event, RunStarted):
            self._run = event.run
            for image in event.images:
                self._note(image, "waiting")
        elif isinstance(event, ImageStarted):
            self._note(event.image, "working")
        elif isinstance(event, Outcome):
            seconds = round(event.segment_seconds + event.write_seconds, 3)
            self._note(event.image, event.state, polygons=event.polygons, message=event.message, seconds=seconds)
        else:
            return
        self._write("running")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is not None:
            self._write("finished" if error is None else "stopped")

    def _note(self, image: Image, state: str, *, polygons: int = 0, message: str = "", seconds: float = 0.0) -> None:
        self._images[image.identifier] = {
            "id": image.identifier,
            "name": image.name,
            "state": state,
            "polygons": polygons,
            "message": message,
            "seconds": seconds,
        }

    def _write(self, state: str) -> None:
        content = {
            **self._head,
            "run": self._run,
            "state": state,
            "updated": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "counts": {
                "images": len(self._images),
                **Counter(str(image["state"]) for image in self._images.values()),
            },
            "images": list(self._images.values()),
        }
        with suppress(OutputError) if self._written else nullcontext(), replacing(self._path) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        self._written = True


def _read(path: Path, head: dict[str, Any]) -> dict[str, dict[str, Any]]:
    try:
        content = read_json(path)
        known = {name: content[name] for name in head}
        images = {str(image["id"]): dict(image) for image in content["images"] if str(image["state"])}
    except (ConceptSegError, OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(
            f"--status-file {path} is there already and is no status file of this version ({error}). Choose another "
            "name, or delete it."
        ) from error
    for name, value in head.items():
        if known[name] != value:
            raise InvalidRequestError(
                f"--status-file {path} is of a run with another {name}{_difference(known[name], value)}. Repeat that "
                "run, choose another name, or delete the file."
            )
    return images


def _difference(known: object, wanted: object) -> str:
    if not (isinstance(known, dict) and isinstance(wanted, dict)):
        return f" ({known})"
    different = sorted(key for key in known.keys() | wanted.keys() if known.get(key) != wanted.get(key))
    return f" ({', '.join(different)})"
