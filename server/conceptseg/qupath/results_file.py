"""ConceptSeg's results in a GeoJSON file, written by `conceptseg segment` or exported from QuPath."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shapely import MultiPolygon, Polygon

from conceptseg.domain.classes import Colour
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.qupath.geojson import WithoutArea, plane_of, read_features
from conceptseg.qupath.project.contents import (
    CONCEPT,
    DICTIONARY,
    REASSIGNED,
    REVIEW,
    RUN,
    concept_number,
    concept_numbers,
    counted_as,
)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FileResult:
    """A result in a file; the attributes are those of `conceptseg.qupath.project.contents.Result`.

    Attributes:
        outline: Its area in full-resolution px.
        class_name: QuPath class.
        colour: Colour of that class; None if the file does not say.
        run: Run that made it.
        dictionary: Concept dictionary of that run.
        found: Indices of its concepts in the dictionary, as they were found; several after merging.
        z: Index of the z-slice it lies on.
        t: Index of the time point.
        measurements: Name with unit to a finite number.
        reassigned: The concept that a person gave it instead.
        review: ``accepted`` or ``rejected`` by a person.
    """

    outline: Polygon | MultiPolygon
    class_name: str
    colour: Colour | None
    run: str
    dictionary: str
    found: tuple[int, ...]
    z: int = 0
    t: int = 0
    measurements: Mapping[str, float] = field(default_factory=dict)
    reassigned: int | None = None
    review: str | None = None

    @property
    def concepts(self) -> tuple[int, ...]:
        """Indices of the concepts it counts as."""
        return counted_as(self.found, self.reassigned)


def read_results(path: Path, *, warn: Callable[[str], None]) -> tuple[FileResult, ...]:
    """The results in a file; objects that ConceptSeg did not make are passed over.

    Args:
        path: The file.
        warn: Told which results are left out since they enclose no area.

    Raises:
        InvalidRequestError: the file cannot be read, is not GeoJSON, or an outline in it crosses itself.
    """
    results = []
    without_area = WithoutArea(path)
    for number, feature in enumerate(read_features(path), start=1):
        properties = feature.get("properties")
        metadata = properties.get("metadata") if isinstance(properties, dict) else None
        if not isinstance(properties, dict) or not isinstance(metadata, dict) or RUN not in metadata:
            continue
        found = concept_numbers(str(metadata.get(CONCEPT, "")))
        if not found:
            raise InvalidRequestError(f"{path}: feature {number} has no concept. Export it again from QuPath.")
        polygons = without_area.polygons(feature.get("geometry"), number=number)
        if not polygons:
            continue
        z, t = plane_of(feature) or (0, 0)
        class_name, colour = _class_of(properties)
        results.append(
            FileResult(
                outline=polygons[0] if len(polygons) == 1 else MultiPolygon(polygons),
                class_name=class_name,
                colour=colour,
                run=str(metadata[RUN]),
                dictionary=str(metadata.get(DICTIONARY, "")),
                found=found,
                z=z,
                t=t,
                measurements=_numbers(properties.get("measurements")),
                reassigned=concept_number(str(metadata.get(REASSIGNED, ""))),
                review=str(metadata[REVIEW]) if REVIEW in metadata else None,
            )
        )
    without_area.tell(warn)
    return tuple(results)


def _class_of(properties: Mapping[str, Any]) -> tuple[str, Colour | None]:
    classification = properties.get("classification")
    if not isinstance(classification, dict):
        return "", None
    names = classification.get("names")  # QuPath exports a class with sub-classes as a list
    name = ": ".join(map(str, names)) if isinstance(names, list) else str(classification.get("name", ""))
    colour = classification.get("color")
    if isinstance(colour, list) and len(colour) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
        return name, (colour[0], colour[1], colour[2])
    return name, None


def _numbers(measurements: object) -> dict[str, float]:
    if not isinstance(measurements, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in measurements.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
