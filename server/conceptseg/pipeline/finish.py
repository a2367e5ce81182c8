"""Outlines to the polygons that users get: in full-resolution px, measured, and summed up per concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.polygons import ConceptPolygon
from conceptseg.domain.region import PixelGrid
from conceptseg.geometry.place import place_polygons
from conceptseg.pipeline.result import ConceptSummary
from conceptseg.pipeline.sheets import Outlines


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Polygons in full-resolution px with what is measured of them.

    Attributes:
        polygons: (n,) `shapely.Polygon`.
        concept: (n,).
        area_um2: (n,).
        perimeter_um: (n,).
        activation: (n,) mean of the own concept's activation.
        purity: (n,) mean share of all activations.
        concept_px: (n_concepts,) pixels of the label map.
        concept_activation: (n_concepts,) the own concept's activation, summed over them.
    """

    polygons: NDArray[np.object_]
    concept: NDArray[np.int64]
    area_um2: NDArray[np.float64]
    perimeter_um: NDArray[np.float64]
    activation: NDArray[np.float64]
    purity: NDArray[np.float64]
    concept_px: NDArray[np.float64]
    concept_activation: NDArray[np.float64]


def place(outlines: Outlines, *, grid: PixelGrid, clip: Polygon | MultiPolygon | None, n_concepts: int) -> Placed:
    """Place outlines in the image, cut to ``clip``, and measure them."""
    index, placed = place_polygons(outlines.polygons, grid=grid, clip=clip)
    concept = outlines.label - 1
    return Placed(
        polygons=placed,
        concept=concept[index],
        area_um2=shapely.area(placed) * grid.full_pixel_area_um2,
        perimeter_um=shapely.length(placed) * grid.full_pixel_size_um,
        activation=(outlines.activation / outlines.area_px)[index],
        purity=(outlines.purity / outlines.area_px)[index],
        concept_px=np.bincount(concept, outlines.area_px, minlength=n_concepts).astype(np.float64),
        concept_activation=np.bincount(concept, outlines.activation, minlength=n_concepts).astype(np.float64),
    )


def finished(
    parts: Sequence[Placed], classes: Sequence[ConceptClass]
) -> tuple[tuple[ConceptPolygon, ...], tuple[ConceptSummary, ...]]:
    """The polygons of all parts, at least one, in their order; and one summary per concept."""
    concept = np.concatenate([part.concept for part in parts])
    area = np.concatenate([part.area_um2 for part in parts])
    total = max(float(area.sum()), np.finfo(float).tiny)
    rows = zip(
        concept.tolist(),
        (polygon for part in parts for polygon in part.polygons),
        area.tolist(),
        (100 * area / total).tolist(),
        np.concatenate([part.perimeter_um for part in parts]).tolist(),
        np.concatenate([part.activation for part in parts]).tolist(),
        np.concatenate([part.purity for part in parts]).tolist(),
        strict=True,
    )
    polygons = tuple(
        ConceptPolygon(
            concept=own,
            polygon=outline,
            measurements={
                "Area µm^2": area_um2,
                "Area %": area_percent,
                "Perimeter µm": perimeter_um,
                "Mean activation": activation,
                "Concept purity": purity,
            },
        )
        for own, outline, area_um2, area_percent, perimeter_um, activation, purity in rows
    )
    n = len(classes)
    areas = np.bincount(concept, area, minlength=n).tolist()
    counts = np.bincount(concept, minlength=n).tolist()
    pixels = np.sum([part.concept_px for part in parts], axis=0)
    activation = np.sum([part.concept_activation for part in parts], axis=0) / np.maximum(pixels, 1)
    summaries = tuple(
        ConceptSummary(
            concept_class=classes[k],
            area_um2=areas[k],
            area_percent=100 * areas[k] / total,
            polygons=counts[k],
            mean_activation=float(activation[k]),
        )
        for k in range(n)
    )
    return polygons, summaries
