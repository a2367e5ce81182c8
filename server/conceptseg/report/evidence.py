"""What a report is made of: the slides, and the polygons that were found on them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from conceptseg.domain.classes import Colour
from conceptseg.domain.dictionary import ConceptDictionary

ACTIVATION, PURITY, AREA = "Mean activation", "Concept purity", "Area µm^2"
"""Measurements of a polygon that a report uses."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Piece:
    """One polygon of a slide.

    Attributes:
        outline: Its area in full-resolution px.
        dictionary: Dictionary of its concepts.
        concepts: Indices of its concepts, corrections taken into account; several after merging.
        class_name: What QuPath calls it.
        run: Run that made it.
        measurements: Name with unit to a finite number.
        reassigned_from: The concepts it had before a person gave it another one; None if nobody did.
        review: ``accepted`` or ``rejected`` by a person; None without a verdict.
        plane: The z-slice and time point it lies on.
    """

    outline: Polygon | MultiPolygon
    dictionary: str
    concepts: tuple[int, ...]
    class_name: str
    run: str
    measurements: Mapping[str, float] = field(default_factory=dict)
    reassigned_from: tuple[int, ...] | None = None
    review: str | None = None
    plane: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Slide:
    """An image and what was found on it.

    Attributes:
        name: What people call it.
        file: Its image file; None if there is none.
        problem: Why no picture of it can be shown, although it has results; None if all is well.
        series: Number of the image inside its file; None for the one that QuPath proposes.
        pieces: What was found.
        pixel_size_um: µm per full-resolution px; None when nobody knows.
        provenance: What is known about the run, for people.
    """

    name: str
    file: Path | None
    pieces: tuple[Piece, ...]
    problem: str | None = None
    pixel_size_um: float | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    series: int | None = None

    @property
    def plane(self) -> tuple[int, int] | None:
        """The z-slice and time point that most pieces lie on; None without pieces."""
        counted = Counter(piece.plane for piece in self.pieces).most_common(1)
        return counted[0][0] if counted else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What a person said about a concept.

    Attributes:
        name: Its name; None without one.
        colour: The colour somebody chose for it; None if nobody did.
        ignored: QuPath's own commands shall leave it out.
        review: ``accepted`` or ``rejected``; None without a verdict.
    """

    name: str | None = None
    colour: Colour | None = None
    ignored: bool = False
    review: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that a report shows.

    Attributes:
        title: What the report is about.
        slides: The slides.
        labels: (dictionary, concept) -> what people said.
        class_colours: Class -> its colour in QuPath; None for a class whose colour is QuPath's own business.
        dictionaries: Identifier -> dictionary, of those that were found.
        provenance: What is known about all of it, for people.
    """

    title: str
    slides: tuple[Slide, ...]
    labels: Mapping[tuple[str, int], Label] = field(default_factory=dict)
    class_colours: Mapping[str, Colour | None] = field(default_factory=dict)
    dictionaries: Mapping[str, ConceptDictionary] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """What a report shows as one concept: concepts of a dictionary that its polygons cannot tell apart.

    Attributes:
        dictionary: Identifier of the dictionary.
        members: Indices in the dictionary; more than one where polygons were merged.
    """

    dictionary: str
    members: tuple[int, ...]


def concepts_of(slides: Sequence[Slide]) -> tuple[Concept, ...]:
    """The concepts of all slides, by dictionary and number.

    Where polygons of two concepts were joined, no one can say any more which part is which: the two are one concept
    from then on.
    """
    members: dict[str, dict[int, set[int]]] = defaultdict(dict)
    for dictionary, together in {(piece.dictionary, piece.concepts) for slide in slides for piece in slide.pieces}:
        groups = members[dictionary]
        joined = set(together).union(*(groups.get(concept, ()) for concept in together))
        for concept in joined:
            groups[concept] = joined
    return tuple(
        Concept(dictionary=dictionary, members=group)
        for dictionary, groups in sorted(members.items())
        for group in sorted({tuple(sorted(group)) for group in groups.values()})
    )


def rows_of_pieces(slide: Slide, concepts: Sequence[Concept]) -> NDArray[np.int64]:
    """(n,) index in ``concepts`` of every piece of a slide."""
    row = {(concept.dictionary, member): i for i, concept in enumerate(concepts) for member in concept.members}
    return np.array([row[piece.dictionary, piece.concepts[0]] for piece in slide.pieces], np.int64)


def areas_px(slide: Slide) -> NDArray[np.float64]:
    """(n,) area of every piece in full-resolution px²."""
    return np.asarray(shapely.area([piece.outline for piece in slide.pieces]), np.float64).reshape(-1)


def measured(slide: Slide, name: str) -> NDArray[np.float64]:
    """(n,) a measurement of every piece; NaN where it has none."""
    return np.array([piece.measurements.get(name, np.nan) for piece in slide.pieces], np.float64)


def pixel_size_of(pieces: Sequence[Piece]) -> float | None:
    """µm per px as the measured areas of results have it; None if no area was measured."""
    for piece in pieces:
        area = piece.measurements.get(AREA, 0.0)
        if area > 0 and piece.outline.area > 0:
            return float(np.sqrt(area / piece.outline.area))
    return None
