"""Between the pixels of a label map and the full-resolution pixels of the image."""

from __future__ import annotations

import math

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.region import PixelGrid
from conceptseg.geometry.polygon_arrays import PolygonArrays

COORDINATE_STEP_PX = 0.25
"""Output coordinates are multiples of this many full-resolution px.

A quarter is the finest fraction that both GeoJSON with 2 decimals and QuPath's float32 (up to 4 million px)
keep exactly, so polygons that are valid here are bit for bit the same, and valid, everywhere downstream.
"""

_SMALLEST_PIECE_STEPS2 = 16.0
"""Cutting leaves no pieces below this many squared steps, 1 px²: nobody can see or select them."""


def place_polygons(
    outlines: PolygonArrays, *, grid: PixelGrid, clip: Polygon | MultiPolygon | None
) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Polygons of a coverage in full-resolution px of the image, cut to ``clip``.

    The result is again a valid coverage. All coordinates are multiples of `COORDINATE_STEP_PX` (finer for
    grids with less than 1 full-resolution px per output px), which moves outlines by at most 0.18 px; those of
    the clip, rounded before they are noded, mostly by less than 0.36 px and rarely by half a px. Polygons
    inside the clip are left as they are; those it cuts are noded together with it on that lattice (snap
    rounding, Hobby 1999), so neighbours get the same vertices on the clip's boundary; those outside are
    dropped, and pieces below 1 px² go to the neighbouring piece.

    Args:
        outlines: n polygons in pixel corners of the label map.
        grid: Where the label map lies in the image.
        clip: The shape of the parent annotation in full-resolution px, or None for the whole region.

    Returns:
        index: (n,) ascending, which of ``outlines`` each polygon is from; one that was cut can have several.
        polygons: (n,) `shapely.Polygon` in full-resolution px, valid and not empty.

    Raises:
        InvalidRequestError: ``clip`` is not a valid polygon or multi-polygon with an area.
    """
    step = _coordinate_step(grid)
    polygons = _to_image(outlines, grid=grid, step=step)
    index = np.arange(polygons.size)
    if clip is None:
        return index, polygons
    require_clip(clip)
    region = grid.region
    if clip.covers(shapely.box(region.x, region.y, region.x + region.width, region.y + region.height)):
        return index, polygons

    # Valid in, valid out: rounding the vertices one by one could make a narrow clip cross itself. Back to
    # floating precision at once: GEOS 3.14 buffers some geometries of fixed precision to nothing.
    clip = shapely.set_precision(shapely.set_precision(clip, step), 0)
    shapely.prepare(clip)
    # One px on either side: snapping changes nothing beyond, so the edges of all other polygons stay.
    band = clip.boundary.buffer(1.0 + 2 * step, quad_segs=2)
    shapely.prepare(band)
    cut = shapely.intersects(band, polygons)
    inside = ~cut
    inside[inside] = _contains(clip, polygons[inside])
    pieces, owner = _cut(polygons[cut], clip=clip, step=step)
    placed = np.concatenate([polygons[inside], pieces])
    placed_index = np.concatenate([index[inside], index[cut][owner]])
    if pieces.size > 0 and not _glued(polygons[inside], pieces):
        # A vertex so near to an edge that snapping moved the edge away from its untouched neighbour. Rare,
        # and cured by treating all polygons alike.
        placed, owner = _cut(polygons, clip=clip, step=step)
        placed_index = owner
    order = np.argsort(placed_index, kind="stable")
    return placed_index[order], placed[order]


def rasterize(
    clip: Polygon | MultiPolygon,
    *,
    grid: PixelGrid,
    dilate_px: int = 0,
    part: tuple[int, int, int, int] | None = None,
) -> NDArray[np.bool_]:
    """The output pixels whose centres lie inside ``clip``; with ``dilate_px`` all it touches and as many more.

    Labels outside the mask can be dropped before polygons are made. Dilate by the simplification tolerance,
    rounded up, plus 2: then the simplified outline of the masked map stays outside the clip and cutting to
    the clip leaves no unlabelled slivers along it.

    Args:
        clip: Shape in full-resolution px.
        grid: Where the output pixels lie in the image.
        dilate_px: Width in output px by which the mask grows, in x and y.
        part: Left, top, width and height in output px of the part that is wanted; None for the whole grid.

    Returns:
        (grid.height, grid.width) bool, or that of the part.

    Raises:
        InvalidRequestError: ``clip`` is not a valid polygon or multi-polygon with an area, or ``dilate_px``
            is negative.
    """
    require_clip(clip)
    if dilate_px < 0:
        raise InvalidRequestError(f"Expected dilate_px >= 0, got {dilate_px}.")
    pad = dilate_px
    left, top, width, height = part or (0, 0, grid.width, grid.height)
    rings = shapely.get_rings(shapely.get_parts(clip))
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    # Pixel centres become integers; the padding also catches what lies just beyond the map.
    x = (xy[:, 0] - grid.region.x) / grid.scale_x - 0.5 + pad - left
    y = (xy[:, 1] - grid.region.y) / grid.scale_y - 0.5 + pad - top
    shape = height + 2 * pad, width + 2 * pad
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    x0, y0, x1, y1 = x[edge], y[edge], x[edge + 1], y[edge + 1]
    # Even-odd rule: every edge toggles, in each row whose centre line it crosses, all pixels right of it.
    first = np.clip(np.ceil(np.minimum(y0, y1)), 0, shape[0]).astype(np.int64)
    rows = np.clip(np.ceil(np.maximum(y0, y1)), 0, shape[0]).astype(np.int64) - first
    of_edge = np.repeat(np.arange(edge.size), rows)
    row = np.arange(of_edge.size) - np.repeat(np.cumsum(rows) - rows, rows) + first[of_edge]
    crossing = x0[of_edge] + (row - y0[of_edge]) * (x1 - x0)[of_edge] / (y1 - y0)[of_edge]
    column = np.clip(np.ceil(crossing), 0, shape[1]).astype(np.int64)
    toggles = np.zeros((shape[0], shape[1] + 1), np.uint8)
    np.bitwise_xor.at(toggles, (row, column), 1)
    mask = np.bitwise_xor.accumulate(toggles, axis=1)[:, :-1]
    if pad:
        # Tips and strips too narrow to hold a pixel centre get their pixels from the outline.
        corners = np.rint(np.stack([x, y], axis=1)).astype(np.int32)
        outlines = np.split(corners, np.flatnonzero(np.diff(ring)) + 1)
        cv2.polylines(mask, outlines, isClosed=True, color=1)
        mask = cv2.dilate(mask, np.ones((2 * pad + 1, 2 * pad + 1), np.uint8))[pad:-pad, pad:-pad]
    return mask.astype(np.bool_)


def require_clip(clip: Polygon | MultiPolygon) -> None:
    """Raise InvalidRequestError unless ``clip`` is a valid polygon or multi-polygon with an area."""
    if not isinstance(clip, Polygon | MultiPolygon) or clip.is_empty:
        raise InvalidRequestError(
            f"Expected a polygon or multi-polygon with an area to cut to, got {clip.geom_type}"
            f"{' without points' if clip.is_empty else ''}. Select an annotation that encloses an area."
        )
    if not clip.is_valid:
        raise InvalidRequestError(
            f"The shape to cut to is not valid: {shapely.is_valid_reason(clip)}. Redraw the annotation so "
            "that its outline does not cross itself, or repair it with shapely.make_valid."
        )


def _coordinate_step(grid: PixelGrid) -> float:
    """`COORDINATE_STEP_PX`, halved until rounding by it is within the clearance of the coverage."""
    scale = min(grid.scale_x, grid.scale_y)
    return COORDINATE_STEP_PX * 2.0 ** min(0, math.floor(math.log2(scale)))


def _to_image(outlines: PolygonArrays, *, grid: PixelGrid, step: float) -> NDArray[np.object_]:
    scale = np.array([grid.scale_x, grid.scale_y])
    origin = np.array([grid.region.x, grid.region.y])
    return outlines.with_xy(np.round((outlines.xy * scale + origin) / step) * step).polygons()


def _contains(clip: Polygon | MultiPolygon, polygons: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which polygons, all away from the boundary of ``clip``, lie inside: any one vertex tells."""
    xy, owner = shapely.get_coordinates(polygons, return_index=True)
    first = np.searchsorted(owner, np.arange(polygons.size))
    return np.asarray(shapely.contains_xy(clip, xy[first]), np.bool_)


def _cut(
    polygons: NDArray[np.object_], *, clip: Polygon | MultiPolygon, step: float
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Cut all ``polygons`` at once: the pieces inside the clip, and the index of the polygon each is from.

    Outlines and clip are noded together on the lattice, so every common edge is cut once for both sides.
    """
    lines = shapely.union_all([*shapely.boundary(polygons), clip.boundary], grid_size=step)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    middle = shapely.point_on_surface(faces)
    kept = shapely.contains(clip, middle)
    faces, middle = faces[kept], middle[kept]
    face, owner = shapely.STRtree(polygons).query(middle, predicate="intersects")
    # A middle on a common edge (after rounding) lies in both neighbours; the first takes it.
    face, unique = np.unique(face, return_index=True)
    return _absorb_small(faces[face], owner[unique], smallest=_SMALLEST_PIECE_STEPS2 * step**2)


def _absorb_small(
    pieces: NDArray[np.object_], owner: NDArray[np.int64], *, smallest: float
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Give pieces below the area ``smallest`` to the piece with which they share the longest edge."""
    small = shapely.area(pieces) < smallest
    crumbs, pieces, owner = pieces[small], pieces[~small], owner[~small]
    crumb, piece = shapely.STRtree(pieces).query(crumbs, predicate="intersects")
    shared = shapely.length(shapely.intersection(crumbs[crumb], pieces[piece]))
    order = np.lexsort((-shared, crumb))
    order = order[shared[order] > 0]
    crumb, first = np.unique(crumb[order], return_index=True)
    piece = piece[order][first]
    for absorbing in np.unique(piece):
        pieces[absorbing] = shapely.coverage_union_all([pieces[absorbing], *crumbs[crumb[piece == absorbing]]])
    # The union of polygons that share an edge is one polygon, which GEOS may wrap into a multi-polygon.
    return shapely.get_geometry(pieces, 0), owner


def _glued(untouched: NDArray[np.object_], pieces: NDArray[np.object_]) -> bool:
    """Whether the pieces and the untouched polygons beside them form a valid coverage.

    GEOS 3.14 also says no, wrongly, where a polygon touches its own hole and another polygon in one vertex.
    """
    beside = np.unique(shapely.STRtree(untouched).query(pieces, predicate="intersects")[1])
    return bool(shapely.coverage_is_valid(np.concatenate([untouched[beside], pieces])))
