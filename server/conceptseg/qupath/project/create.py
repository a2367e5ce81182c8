"""A new project of slides. It appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from conceptseg.domain.errors import ProjectError
from conceptseg.domain.files import sync
from conceptseg.qupath.project.contents import ProjectBackend
from conceptseg.qupath.project.entries import PROJECT_FILE, read_document


def create_project(folder: Path, slides: Sequence[Path], *, backend: ProjectBackend) -> Mapping[Path, str]:
    """Create a project of H&E slides, with thumbnails.

    Args:
        folder: The project's folder, new or empty.
        slides: The image files.
        backend: The QuPath to create it with.

    Returns:
        Which slides are not in the project, and why.

    Raises:
        ProjectError: the folder is not empty or cannot be written, or no slide could be added.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ProjectError(f"{folder} is not an empty folder. Choose a new one for the project.")
    making = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        failed = backend.create(making, [slide.absolute() for slide in slides])
        document = read_document(making / PROJECT_FILE)
        if not document["images"]:
            reasons = "; ".join(f"{slide}: {reason}" for slide, reason in failed.items())
            raise ProjectError(f"No slide could be added to the project, so there is none. {reasons}")
        document["uri"] = (folder / PROJECT_FILE).as_uri().replace("file:///", "file:/", 1)
        (making / PROJECT_FILE).write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
        (making / f"{PROJECT_FILE}.backup").unlink(missing_ok=True)
        if folder.exists():
            folder.rmdir()
        for made in (*making.rglob("*"), making):
            sync(made)
        making.rename(folder)
        sync(folder.parent)
    except OSError as error:
        raise ProjectError(f"Cannot create {folder}: {error.strerror or error}. Choose another folder.") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return failed
