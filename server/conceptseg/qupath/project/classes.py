"""The classes of a QuPath project and their colours: ``classifiers/classes.json`` in its folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from conceptseg.domain.classes import Colour
from conceptseg.domain.errors import ProjectError
from conceptseg.domain.json_file import read_json
from conceptseg.qupath.project.stage import CLASSES

STANDARD_CLASSES = (
    "Tumor",
    "Stroma",
    "Immune cells",
    "Necrosis",
    "Other",
    "Region*",
    "Ignore*",
    "Positive",
    "Negative",
)
"""Those that QuPath gives every new project."""


def class_colours(project: Path) -> dict[str, Colour | None]:
    """Class -> colour, in QuPath's order; its standard classes without colours if the project has no list of its own.

    A list that cannot be understood is as good as none: it is QuPath's file, and only a help here.
    """
    try:
        return {item["name"]: _unpacked(item.get("color")) for item in _listed(project)}
    except (FileNotFoundError, ProjectError):
        return dict.fromkeys(STANDARD_CLASSES)


def require_sound_classes(project: Path) -> None:
    """Refuse a project whose class list is damaged: QuPath would put a new one in its place.

    Raises:
        ProjectError: it is damaged.
    """
    with suppress(FileNotFoundError):
        _listed(project)


def _listed(project: Path) -> list[dict[str, Any]]:
    path = project.parent / CLASSES
    remedy = "QuPath would lose the classes in it. Repair it, or move it away and begin with QuPath's standard classes."
    document = read_json(path, error=ProjectError, remedy=remedy)
    listed = document.get("pathClasses") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(_is_class(item) for item in listed):
        raise ProjectError(
            f"{path} is damaged: expected the list pathClasses of classes with names, got something else. {remedy}"
        )
    return [item for item in listed if item.get("name")]


def _is_class(item: object) -> bool:
    """Whether it is a class; QuPath's own list may hold one without a name."""
    return isinstance(item, dict) and isinstance(item.get("name"), str | None)


def _unpacked(packed: object) -> Colour | None:
    """QuPath's colours are signed 32-bit numbers 0xAARRGGBB."""
    if not isinstance(packed, int):
        return None
    return (packed >> 16) & 0xFF, (packed >> 8) & 0xFF, packed & 0xFF
