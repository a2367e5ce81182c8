"""Brings every image of a project in line with its labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from conceptseg.domain.classes import Colour
from conceptseg.domain.errors import ConceptSegError
from conceptseg.qupath.project.contents import Changes, ImageContents, Outline
from conceptseg.qupath.project.entries import ImageEntry
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.relabel import Relabelling, relabel
from conceptseg.qupath.writer_process import WriterDiedError


class Writer(Protocol):
    """What it needs of a `ProjectWriter`, here or in a process of its own."""

    def keep_backups(self, name: str) -> None:
        """Keep what is replaced from now on."""

    def outlines(self, image: str) -> Mapping[str, Outline]:
        """Shape and numbers of every result of an image, by id."""

    def inspect(self, image: str) -> ImageContents:
        """What an image holds, remembered for `write`."""

    def write(self, image: str, changes: Changes, *, name: str, report: Mapping[str, Any] | None = None) -> None:
        """Change an image that was inspected before, and record it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What became of an image.

    Attributes:
        entry: The image.
        change: What changed; None if it failed.
        message: Why it failed.
    """

    entry: ImageEntry
    change: Relabelling | None
    message: str = ""


def apply_labels(
    writer: Writer, entries: Sequence[ImageEntry], labels: Labels, *, colours: Mapping[str, Colour | None]
) -> Iterator[Applied]:
    """Give the results of images the names, colours and merges of the labels, with a backup of what is replaced.

    Args:
        writer: Writes the project.
        entries: The images.
        labels: Labels of the project.
        colours: Classes of the project; see `relabel`.

    Yields:
        What became of each image; a failed one does not stop the others.

    Raises:
        WriterDiedError: nothing can be written any more.
    """
    writer.keep_backups(f"labels-{datetime.now():%Y-%m-%d-%H%M%S}")
    for entry in entries:
        try:
            contents = writer.inspect(entry.identifier)
            change = relabel(contents, writer.outlines(entry.identifier), labels, colours=colours)
            writer.write(entry.identifier, change.changes, name=entry.name)
        except WriterDiedError:
            raise
        except ConceptSegError as error:
            yield Applied(entry=entry, change=None, message=str(error))
            continue
        yield Applied(entry=entry, change=change)
