"""Coverages of neighbouring sheets, made one coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from conceptseg.geometry.components import find_root


def join_sheets(
    polygons: NDArray[np.object_],
    labels: NDArray[np.int64],
    *,
    columns: Sequence[int],
    rows: Sequence[int],
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Join polygons of equal label across the lines along which a label map was cut into sheets.

    Where two sheets meet, each has the corners of its own outlines on the common line; both get those of the other,
    so that neighbours share all vertices, and polygons of equal label that share an edge become one. The result is
    one coverage whose outlines cross the lines on the pixels' edges. Polygons away from the lines stay as they are.

    Args:
        polygons: (n,) `shapely.Polygon`, in pixel corners of the whole map, none of which crosses a line.
        labels: (n,) their labels.
        columns: x of the lines between sheets.
        rows: y of the lines between sheets.

    Returns:
        joined: (m,) polygons, in the order of their first parts.
        owner: (n,) which of ``joined`` each polygon went into.
    """
    bounds = shapely.bounds(polygons)
    on_line = np.isin(bounds[:, [0, 2]], columns).any(axis=1) | np.isin(bounds[:, [1, 3]], rows).any(axis=1)
    touching = np.flatnonzero(on_line)
    root = np.arange(polygons.size, dtype=np.int32)
    if not touching.size:
        return polygons, root.astype(np.int64)
    polygons = polygons.copy()
    polygons[touching], pairs = _noded(polygons[touching], labels[touching], columns=columns, rows=rows)
    for first, second in touching[pairs]:
        a, b = find_root(root, first), find_root(root, second)
        root[max(a, b)] = min(a, b)
    first_parts, owner = np.unique([find_root(root, i) for i in range(root.size)], return_inverse=True)
    joined = polygons[first_parts]
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(first_parts.size + 1))
    for group in np.flatnonzero(np.diff(starts) > 1):
        parts = polygons[order[starts[group] : starts[group + 1]]]
        # The union of polygons that share an edge is one polygon, which GEOS may wrap into a multi-polygon.
        joined[group] = shapely.get_geometry(shapely.coverage_union_all(parts), 0)
    return joined, owner


def _noded(
    polygons: NDArray[np.object_],
    labels: NDArray[np.int64],
    *,
    columns: Sequence[int],
    rows: Sequence[int],
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Polygons with all vertices of all on the lines; and (p, 2) indices of equal label that share an edge."""
    kind, xy, (ring_starts, polygon_starts) = shapely.to_ragged_array(polygons)
    ring = np.repeat(np.arange(ring_starts.size - 1), np.diff(ring_starts))
    of_polygon = (np.searchsorted(polygon_starts, np.arange(ring_starts.size - 1), side="right") - 1)[ring]
    length = 2 * int(xy.max()) + 2
    # A position on a line is one number: the line's, then the position along it in half pixels.
    inserted: NDArray[np.int64] = np.zeros(len(xy), np.int64)
    first_node = np.zeros(len(xy), np.int64)
    falling = np.zeros(len(xy), np.bool_)
    on_line = np.full(len(xy), -1)
    nodes_of: list[NDArray[np.int64]] = []
    for axis, lines in ((0, columns), (1, rows)):
        line = np.searchsorted(lines, xy[:, axis])
        there = np.isin(xy[:, axis], lines)
        position = line * length + np.rint(2 * xy[:, 1 - axis]).astype(np.int64)
        nodes = np.unique(position[there])
        along = np.flatnonzero((ring[:-1] == ring[1:]) & there[:-1] & there[1:] & (line[:-1] == line[1:]))
        start, end = position[along], position[along + 1]
        low = np.searchsorted(nodes, np.minimum(start, end))
        high = np.searchsorted(nodes, np.maximum(start, end))
        inserted[along] = high - low - 1
        first_node[along] = low
        falling[along] = start > end
        on_line[along] = axis
        nodes_of.append(nodes)
    place = np.arange(len(xy)) + np.concatenate([[0], np.cumsum(inserted)[:-1]])
    noded = np.empty((len(xy) + int(inserted.sum()), 2))
    noded[place] = xy
    keys, owners = [], []
    for axis, lines in ((0, columns), (1, rows)):
        edge = np.flatnonzero(on_line == axis)
        pieces = inserted[edge] + 1
        within = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        low, count = np.repeat(first_node[edge], pieces), np.repeat(inserted[edge], pieces)
        down = np.repeat(falling[edge], pieces)
        keys.append(np.where(down, low + count - within, low + within) * 2 + axis)  # the lower end of every piece
        owners.append(np.repeat(of_polygon[edge], pieces))
        added = within > 0
        node = nodes_of[axis][np.where(down, low + count + 1 - within, low + within)[added]]
        target = (np.repeat(place[edge], pieces) + within)[added]
        noded[target, axis] = np.asarray(lines)[node // length]
        noded[target, 1 - axis] = node % length / 2
    starts = np.append(place, len(noded))[ring_starts]
    key, owner = np.concatenate(keys), np.concatenate(owners)
    order = np.argsort(key, kind="stable")
    key, owner = key[order], owner[order]
    same = np.flatnonzero((key[1:] == key[:-1]) & (labels[owner[1:]] == labels[owner[:-1]]))
    pairs = np.stack([owner[same], owner[same + 1]], axis=1)
    return shapely.from_ragged_array(kind, noded, (starts, polygon_starts)), pairs
