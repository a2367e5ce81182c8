"""What an image of a project holds, what shall change in it, and the QuPath that does it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

from conceptseg.domain.classes import Colour

RUN, DICTIONARY, CONCEPT = "conceptseg.run", "conceptseg.dictionary", "conceptseg.concept"
"""Metadata of every object that ConceptSeg makes: here, in the QuPath scripts and in GeoJSON."""

REASSIGNED, REVIEW = "conceptseg.reassigned", "conceptseg.review"
"""Metadata of objects that a person reviewed: the concept it is instead, and ``accepted`` or ``rejected``."""

ACCEPTED, REJECTED = "accepted", "rejected"


_CONCEPT_NUMBER = re.compile(r"[0-9]{1,9}")


def concept_number(text: str) -> int | None:
    """The concept that metadata name; None if it is no number, which objects that other programs made may have."""
    return int(text) if _CONCEPT_NUMBER.fullmatch(text) else None


def concept_numbers(text: str) -> tuple[int, ...]:
    """The concepts that metadata list with commas between; what is no number is left out."""
    return tuple(number for part in text.split(",") if (number := concept_number(part)) is not None)


def counted_as(found: tuple[int, ...], reassigned: int | None) -> tuple[int, ...]:
    """The concepts that a result counts as: the one a person gave it, else those that were found."""
    return found if reassigned is None else (reassigned,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """An annotation that ConceptSeg made.

    Attributes:
        identifier: QuPath's id of the object, a UUID.
        parent: Id of the annotation it lies in; None for the image itself.
        class_name: QuPath class.
        run: Run that made it.
        dictionary: Concept dictionary of that run.
        found: Indices of its concepts in the dictionary, as they were found; several after merging.
        area_px: Area in full-resolution px².
        length_px: Length of its outline in full-resolution px.
        z: Index of the z-slice it lies on.
        t: Index of the time point.
        reassigned: The concept that a person gave it instead; None if nobody did.
        review: What a person said about it, `ACCEPTED` or `REJECTED`; None if nobody did.
    """

    identifier: str
    parent: str | None
    class_name: str
    run: str
    dictionary: str
    found: tuple[int, ...]
    area_px: float
    length_px: float
    z: int = 0
    t: int = 0
    reassigned: int | None = None
    review: str | None = None

    @property
    def concepts(self) -> tuple[int, ...]:
        """Indices of the concepts it counts as: the one a person gave it, else those that were found."""
        return counted_as(self.found, self.reassigned)

    @property
    def is_reviewed(self) -> bool:
        """A person gave it another concept, accepted it or rejected it."""
        return self.reassigned is not None or self.review is not None

    @property
    def metadata(self) -> dict[str, str]:
        """What it says about itself in QuPath."""
        said = {RUN: self.run, DICTIONARY: self.dictionary, CONCEPT: ",".join(map(str, self.found))}
        if self.reassigned is not None:
            said[REASSIGNED] = str(self.reassigned)
        if self.review is not None:
            said[REVIEW] = self.review
        return said

    def with_class(self, name: str) -> Self:
        """The same result in another class."""
        return replace(self, class_name=name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """Shape and numbers of a result.

    Attributes:
        wkb: Polygon in full-resolution px, as WKB.
        measurements: Name with unit to a finite number.
    """

    wkb: bytes
    measurements: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """An annotation that is not ours.

    Attributes:
        identifier: QuPath's id of the object.
        parent: Id of the annotation it lies in; None for the image itself.
        class_name: QuPath class; None without one.
        wkb: Its shape as WKB in full-resolution px; None if it is no area.
        z: Index of the z-slice.
        t: Index of the time point.
    """

    identifier: str
    parent: str | None
    class_name: str | None
    wkb: bytes | None
    z: int
    t: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageContents:
    """What an image holds.

    Attributes:
        results: What ConceptSeg made.
        areas: The other annotations.
        object_count: All objects, including detections and TMA cores.
    """

    results: tuple[Result, ...]
    areas: tuple[Area, ...]
    object_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectState:
    """An object of any kind: annotation, detection, cell, TMA core.

    Attributes:
        kind: Its kind as QuPath's user interface calls it.
        class_name: QuPath class; None without one.
        parent: Id of the object it lies in; None for the image itself.
        rest: Fingerprint of everything else about it: shape, plane, name, measurements, metadata, colour, lock.
    """

    kind: str
    class_name: str | None
    parent: str | None
    rest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step of an image's workflow.

    Attributes:
        name: Its name.
        content: Parameters and script.
    """

    name: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageState:
    """All that an image holds, to be compared with another state of it.

    Attributes:
        objects: Id -> object, of every object.
        results: Id -> what ConceptSeg made, with its measurements.
        steps: The workflow.
        facts: Name -> value of what belongs to the image itself: its type, stains, properties, TMA grid.
    """

    objects: Mapping[str, ObjectState]
    results: Mapping[str, tuple[Result, Mapping[str, float]]]
    steps: tuple[Step, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassStyle:
    """A class that results use.

    Attributes:
        name: Class name as QuPath takes it.
        colour: Colour for a class that QuPath and the project do not know yet; None to leave it to QuPath.
        chosen: A person chose the colour for this project: it wins over the class's own.
    """

    name: str
    colour: Colour | None
    chosen: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What shall change in an image. Everything else stays.

    Attributes:
        remove: Ids of results that go; what lies inside them moves up to their parent.
        add: Results that come, with their outlines.
        rename: Id of a result to its new class.
        styles: Every class that ``add`` and ``rename`` use, and those whose colour somebody chose.
    """

    remove: frozenset[str] = frozenset()
    add: tuple[tuple[Result, Outline], ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    styles: tuple[ClassStyle, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.add or self.rename or any(style.chosen for style in self.styles))


class ProjectBackend(Protocol):
    """A QuPath that reads and writes one image of a project.

    It is only ever given copies of a project with a single image: what it leaves half-written is thrown away.
    All methods raise ProjectError when QuPath fails.
    """

    def contents(self, project: Path) -> ImageContents:
        """What the image holds."""

    def state(self, project: Path) -> ImageState:
        """All that the image holds."""

    def outlines(self, project: Path) -> Mapping[str, Outline]:
        """Shape and numbers of every result, by id."""

    def apply(self, project: Path, changes: Changes) -> None:
        """Change the image, register the classes that are new to the project, and save both."""

    def export_geojson(self, project: Path, target: Path) -> int:
        """Write all objects of the image as QuPath exports them; return how many."""

    def create(self, folder: Path, slides: Sequence[Path]) -> Mapping[Path, str]:
        """Create a project of H&E slides with thumbnails in an empty folder; return what failed, and why."""
