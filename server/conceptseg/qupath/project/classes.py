"""The classes of a QuPath project and their colours: ``classifiers/classes.json`` in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from conceptseg.domain.classes import Colour
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
        listed = json.loads((project.parent / CLASSES).read_bytes())["pathClasses"]
        return {str(item["name"]): _unpacked(item.get("color")) for item in listed if item.get("name")}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return dict.fromkeys(STANDARD_CLASSES)


def _unpacked(packed: object) -> Colour | None:
    """QuPath's colours are signed 32-bit numbers 0xAARRGGBB."""
    if not isinstance(packed, int):
        return None
    return (packed >> 16) & 0xFF, (packed >> 8) & 0xFF, packed & 0xFF
