"""Which parts of an image a run works on, and what of earlier runs it replaces."""

from __future__ import annotations

from dataclasses import dataclass

from conceptseg.pipeline.batch import Rerun
from conceptseg.qupath.project.contents import Area, ImageContents


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A part of an image to segment.

    Attributes:
        area: The annotation to stay inside; None for the whole image.
        replaces: Ids of earlier results that go when the new ones come.
        reviewed: How many of those a person reviewed.
    """

    area: Area | None
    replaces: frozenset[str] = frozenset()
    reviewed: int = 0

    @property
    def parent(self) -> str | None:
        """Id of the annotation that the results go into; None for the image."""
        return self.area.identifier if self.area else None


def choose_targets(
    contents: ImageContents, *, within: str | None, rerun: Rerun, plane: tuple[int, int] = (0, 0)
) -> tuple[tuple[Target, ...], int]:
    """What to segment.

    Args:
        contents: What the image holds.
        within: Class of the annotations to stay inside; None for the whole image.
        rerun: What becomes of results that are already there: ``replace`` them, ``add`` to them, or ``skip`` those
            parts of the image that have some. Only results directly inside the same annotation, or directly in the
            image and on ``plane``, count.
        plane: z and t of what is segmented of a whole image; annotations lie on planes of their own.

    Returns:
        What to segment, and how many parts were skipped.
    """
    areas: list[Area | None] = [None]
    if within is not None:
        areas = [area for area in contents.areas if area.class_name == within and area.wkb is not None]
    targets = []
    skipped = 0
    for area in areas:
        parent = area.identifier if area else None
        earlier = [
            result
            for result in contents.results
            if result.parent == parent and (area is not None or (result.z, result.t) == plane)
        ]
        if earlier and rerun == "skip":
            skipped += 1
            continue
        replaced = earlier if rerun == "replace" else []
        identifiers = frozenset(result.identifier for result in replaced)
        reviewed = sum(result.is_reviewed for result in replaced)
        targets.append(Target(area=area, replaces=identifiers, reviewed=reviewed))
    return tuple(targets), skipped


def about_other_classes(contents: ImageContents, *, within: str | None) -> str:
    """A sentence about areas that a person may have meant by a class, too; empty if there are none.

    QuPath shows `Tumor: Stroma` as a kind of Tumor and of Stroma, but it is a class of its own.
    """
    if within is None:
        return ""
    present = {area.class_name for area in contents.areas if area.class_name and area.wkb is not None}
    others = sorted(present - {within})
    alike = [name for name in others if _parts(name) >= _parts(within)]
    if alike:
        return f"Left out: annotations of class {', '.join(alike)}. --within takes the whole name of one class."
    if within not in present and others:
        return f"There are annotations of class {', '.join(others)}."
    return ""


def _parts(class_name: str) -> set[str]:
    return {part.strip().casefold() for part in class_name.split(":")}
