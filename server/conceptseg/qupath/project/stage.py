"""A copy of one image of a project, for QuPath to work on.

QuPath and paquo write files in place, create folders when they only read, and save even after errors. So they never
see the project itself: they get a copy with one image, and what they made of it is moved into the project when it
is known to be right.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conceptseg.qupath.project.entries import PROJECT_FILE, only_entry, read_document, relocated
from conceptseg.qupath.project.inside import part_of, require_file_of

CLASSES = Path("classifiers") / "classes.json"
DATA = "data.qpdata"


@contextmanager
def staged(project: Path, image: str, *, folder: Path) -> Iterator[Path]:
    """Yield the project file of a copy of ``project`` that has this image alone; remove the copy afterwards.

    Args:
        project: The project file.
        image: Number of the image.
        folder: Where the copy shall be; it must not exist.

    Raises:
        ProjectError: the project cannot be read, has no such image, or a link in it leads out of its folder.
        OSError: the copy cannot be written.
    """
    document = relocated(only_entry(read_document(project), image), project)
    sources = list(_sources(project, image))
    try:
        folder.mkdir(parents=True)
        (folder / PROJECT_FILE).write_text(json.dumps(document), encoding="utf-8")
        for source in sources:
            copy = folder / source.relative_to(project.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
        yield folder / PROJECT_FILE
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sources(project: Path, image: str) -> Iterator[Path]:
    """Only files: folders in there hold pictures and classifiers that scripts made, and may be large."""
    classes = part_of(project, *CLASSES.parent.parts) / CLASSES.name
    data = part_of(project, "data", image)
    for source in (classes, *sorted(data.glob("*"))):
        if os.path.lexists(source) and not source.is_dir():
            require_file_of(project, source)
            yield source
