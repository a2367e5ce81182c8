"""From a label map to polygons that form one planar coverage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import Labels
from conceptseg.geometry._arcs import OUTSIDE, trace_arcs
from conceptseg.geometry._rings import join_rings, ring_coordinates
from conceptseg.geometry._simplify import simplify_arcs
from conceptseg.geometry.components import Components, label_components, require_labels
from conceptseg.geometry.polygon_arrays import PolygonArrays


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """Polygons of a label map that share their edges: no gaps, no overlaps.

    Attributes:
        labels: (n,) the label of every polygon, never 0.
        outlines: n polygons in pixel corners of the label map: x right, y down, the pixel (row i, column j)
            covers [j, j + 1] × [i, i + 1]. Shells have a positive area, holes a negative.
        component: (n,) int32, the component of every polygon, ascending.
        components: All components of the label map, the unlabelled ones included.
    """

    labels: Labels
    outlines: PolygonArrays
    component: NDArray[np.int32]
    components: Components

    @property
    def polygons(self) -> NDArray[np.object_]:
        """The outlines as (n,) `shapely.Polygon`."""
        return self.outlines.polygons()


def polygonize(labels: Labels, *, tolerance_px: float) -> Coverage:
    """One polygon, with its holes, for every 4-connected area of equal label.

    The outlines are traced as arcs between junctions, each arc is simplified once, and the polygons are put
    together from the arcs, so neighbours stay glued: `shapely.coverage_is_valid` holds at any tolerance.
    Simplification joins the middles of the pixel edges first (a diagonal staircase becomes a straight line)
    and then removes points (Douglas & Peucker 1973). It never lets outlines cross or touch, swallows no
    component and keeps 0.36 px between outlines, so that coordinates may be rounded afterwards. The map's own
    border and corners stay exact.

    Args:
        labels: (h, w) uint8 or uint16; 0 = unlabelled, which gets no polygon.
        tolerance_px: How far outlines may move, in px of the label map. 0 keeps the exact pixel outline: the
            area of a polygon is its number of pixels. Below 0.36 staircases are not smoothed.

    Raises:
        InvalidRequestError: ``labels`` is no label map, or ``tolerance_px`` is negative or not finite.
    """
    if not (math.isfinite(tolerance_px) and tolerance_px >= 0):
        raise InvalidRequestError(f"Expected tolerance_px >= 0, got {tolerance_px}.")
    labels = require_labels(labels)
    components = label_components(labels)
    arcs = trace_arcs(labels, components)
    rings = join_rings(arcs)
    chains = simplify_arcs(arcs, rings, tolerance_px=tolerance_px, shape=labels.shape)

    # Rings come sorted by component, the shell first, the outside (-1) before all.
    labelled = np.zeros(rings.component.size, np.bool_)
    inside = rings.component != OUTSIDE
    labelled[inside] = components.label[rings.component[inside]] > 0
    kept = np.flatnonzero(labelled)
    coordinates, ring_offsets = ring_coordinates(
        rings.halves, rings.start, kept, chains.x2, chains.y2, chains.start, chains.size
    )
    shells = np.flatnonzero(rings.area2[kept] > 0)
    component = rings.component[kept][shells]
    outlines = PolygonArrays(xy=coordinates, ring_start=ring_offsets, polygon_start=np.append(shells, kept.size))
    return Coverage(labels=components.label[component], outlines=outlines, component=component, components=components)
