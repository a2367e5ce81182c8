"""Polygons of one concept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shapely import Polygon


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptPolygon:
    """One connected area of one concept.

    Attributes:
        concept: Index of the concept in its dictionary, from 0.
        polygon: Outline with holes, in full-resolution px of the image; valid and not empty.
        measurements: Name with unit (``Area µm^2``) to value.
    """

    concept: int
    polygon: Polygon
    measurements: Mapping[str, float] = field(default_factory=dict)
