"""Coverages of neighbouring sheets, made one coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conceptseg.geometry._kernel import kernel
from conceptseg.geometry.components import find_root
from conceptseg.geometry.polygon_arrays import PolygonArrays, indices_of_spans


def join_sheets(
    polygons: PolygonArrays,
    labels: NDArray[np.int64],
    *,
    columns: Sequence[int],
    rows: Sequence[int],
) -> tuple[PolygonArrays, NDArray[np.int64]]:
    """Join polygons of equal label across the lines along which a label map was cut into sheets.

    Where two sheets meet, each has the corners of its own outlines on the common line; both get those of the other,
    so that neighbours share all vertices, and polygons of equal label that share an edge become one: that edge goes,
    and the rest of their outlines is linked anew. The result is one coverage whose outlines cross the lines on the
    pixels' edges. Polygons away from the lines stay as they are.

    Args:
        polygons: n polygons of `polygonize`, in pixel corners of the whole map, none of which crosses a line.
        labels: (n,) their labels.
        columns: x of the lines between sheets.
        rows: y of the lines between sheets.

    Returns:
        joined: m polygons, in the order of their first parts.
        owner: (n,) which of ``joined`` each polygon went into.
    """
    touches = on_lines(polygons, columns=columns, rows=rows)
    touching = np.flatnonzero(touches)
    root = np.arange(len(polygons), dtype=np.int32)
    if not touching.size:
        return polygons, root.astype(np.int64)
    noded = _noded(polygons.take(touching), labels[touching], columns=columns, rows=rows)
    for first, second in touching[noded.pairs]:
        a, b = find_root(root, first), find_root(root, second)
        root[max(a, b)] = min(a, b)
    while (root != root[root]).any():
        root = root[root]
    first_parts, owner = np.unique(root, return_inverse=True)

    # A ring of the result is spans of vertices: all of a ring as it was, or what is left of several, linked.
    linked = _linked(noded, owner[touching])
    others = np.flatnonzero(~touches)
    apart = polygons.take(others)
    vertices = len(noded.polygons.xy)
    last = len(linked.owner)
    rings = _Rings(
        owner=np.append(linked.owner, np.repeat(owner[others], np.diff(apart.polygon_start))),
        is_hole=np.append(linked.is_hole, _is_hole(apart)),
        of_span=np.append(linked.of_span, last + np.arange(len(apart.ring_start) - 1)),
        first=np.append(linked.first, vertices + apart.ring_start[:-1]),
        length=np.append(linked.length, np.diff(apart.ring_start)),
    )
    return _assembled(np.concatenate([noded.polygons.xy, apart.xy]), rings, n=len(first_parts)), owner


def on_lines(polygons: PolygonArrays, *, columns: Sequence[int], rows: Sequence[int]) -> NDArray[np.bool_]:
    """Which of n polygons, none of which crosses a line, reach one: (n,)."""
    bounds = polygons.bounds()
    reaches = np.isin(bounds[:, [0, 2]], columns) | np.isin(bounds[:, [1, 3]], rows)
    return np.asarray(reaches.any(axis=1), np.bool_)


class _Noded(NamedTuple):
    """Polygons along lines, with all vertices of all on the lines.

    Attributes:
        polygons: The polygons.
        pairs: (p, 2) which of them have equal labels and share an edge.
        shared: (vertices,) whether the edge from a vertex to the next is one of those.
    """

    polygons: PolygonArrays
    pairs: NDArray[np.int64]
    shared: NDArray[np.bool_]


class _Rings(NamedTuple):
    """Rings as lists of spans of vertices.

    Attributes:
        owner: (rings,) the polygon of every ring.
        is_hole: (rings,) whether it is a hole.
        of_span: (spans,) the ring of every span; those of one ring in order.
        first: (spans,) the first vertex of every span.
        length: (spans,) its vertices.
    """

    owner: NDArray[np.int64]
    is_hole: NDArray[np.bool_]
    of_span: NDArray[np.int64]
    first: NDArray[np.int64]
    length: NDArray[np.int64]


def _noded(
    polygons: PolygonArrays,
    labels: NDArray[np.int64],
    *,
    columns: Sequence[int],
    rows: Sequence[int],
) -> _Noded:
    """Give all polygons the vertices of all on the lines, and find the edges between equal labels."""
    xy, ring_start = polygons.xy, polygons.ring_start
    ring = np.repeat(np.arange(ring_start.size - 1), np.diff(ring_start))
    of_polygon = np.repeat(np.arange(len(polygons)), np.diff(polygons.polygon_start))[ring]
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
    keys, owners, edges = [], [], []
    for axis, lines in ((0, columns), (1, rows)):
        edge = np.flatnonzero(on_line == axis)
        pieces = inserted[edge] + 1
        within = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        low, count = np.repeat(first_node[edge], pieces), np.repeat(inserted[edge], pieces)
        down = np.repeat(falling[edge], pieces)
        keys.append(np.where(down, low + count - within, low + within) * 2 + axis)  # the lower end of every piece
        owners.append(np.repeat(of_polygon[edge], pieces))
        target = np.repeat(place[edge], pieces) + within
        edges.append(target)
        added = within > 0
        node = nodes_of[axis][np.where(down, low + count + 1 - within, low + within)[added]]
        noded[target[added], axis] = np.asarray(lines)[node // length]
        noded[target[added], 1 - axis] = node % length / 2
    key, owner, begin = np.concatenate(keys), np.concatenate(owners), np.concatenate(edges)
    order = np.argsort(key, kind="stable")
    key, owner, begin = key[order], owner[order], begin[order]
    same = np.flatnonzero((key[1:] == key[:-1]) & (labels[owner[1:]] == labels[owner[:-1]]))
    shared = np.zeros(len(noded), np.bool_)
    shared[begin[same]] = shared[begin[same + 1]] = True
    return _Noded(
        polygons=PolygonArrays(
            xy=noded,
            ring_start=np.append(place, len(noded))[ring_start],
            polygon_start=polygons.polygon_start,
        ),
        pairs=np.stack([owner[same], owner[same + 1]], axis=1),
        shared=shared,
    )


def _linked(noded: _Noded, owner: NDArray[np.int64]) -> _Rings:
    """The rings without their shared edges, what is left of them linked to rings.

    At the end of a shared edge meet four pixels, of which two or three are the joined polygon's: it has one outline
    that arrives there and one that leaves.
    """
    xy, ring_start = noded.polygons.xy, noded.polygons.ring_start
    ring_first, ring_last = ring_start[:-1], ring_start[1:] - 1
    ring = np.repeat(np.arange(ring_first.size), np.diff(ring_start))
    owner_of_ring = np.repeat(owner, np.diff(noded.polygons.polygon_start))
    is_cut = np.zeros(ring_first.size, np.bool_)
    is_cut[ring[noded.shared]] = True
    kept = is_cut[ring] & ~noded.shared
    kept[ring_last] = False  # no edge begins there
    # Chains of edges that are left; none goes on beyond the first vertex of a ring.
    before = np.append(False, kept[:-1])
    begin = np.flatnonzero(kept & ~before)
    end = np.flatnonzero(before & ~kept)
    chain_ring = ring[begin]
    onwards = np.empty(begin.size, np.int64)
    goes_round = kept[ring_first] & kept[ring_last - 1]
    closing = goes_round[chain_ring] & (end == ring_last[chain_ring])
    opening = goes_round[chain_ring] & (begin == ring_first[chain_ring])
    onwards[closing] = np.flatnonzero(opening)
    half = np.rint(2 * xy).astype(np.int64)
    size = int(half.max()) + 1

    def ordered(chains: NDArray[np.intp], vertex: NDArray[np.intp]) -> NDArray[np.intp]:
        x, y = half[vertex[chains]].T
        return chains[np.argsort((owner_of_ring[chain_ring[chains]] * size + x) * size + y)]

    onwards[ordered(np.flatnonzero(~closing), end)] = ordered(np.flatnonzero(~opening), begin)
    corner = np.where((half % 2 == 0).all(axis=1), half[:, 0] * size + half[:, 1], -1)
    of_span, first, length, area2 = _rings_of_chains(begin, end, onwards, corner, xy)
    example = np.empty(area2.size, np.int64)
    example[of_span] = first
    whole = np.flatnonzero(~is_cut)
    return _Rings(
        owner=np.append(owner_of_ring[ring[example]], owner_of_ring[whole]),
        is_hole=np.append(area2 < 0, _is_hole(noded.polygons)[whole]),
        of_span=np.append(of_span, area2.size + np.arange(whole.size)),
        first=np.append(first, ring_first[whole]),
        length=np.append(length, np.diff(ring_start)[whole]),
    )


@kernel
def _rings_of_chains(
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    onwards: NDArray[np.int64],
    corner: NDArray[np.int64],
    xy: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rings of chains of vertices ``begin`` … ``end``, each followed by chain ``onwards``, as spans.

    Where an outline comes through a pixel's corner a second time, since parts of one polygon touch there, what lies
    between is a ring of its own: the shell and a hole, or two holes, touch in that point.

    Args:
        begin: First vertex of every chain.
        end: Last vertex of every chain, which is the first of the next.
        onwards: The next chain.
        corner: A number for the place of every vertex in a pixel's corner, where alone outlines touch; else -1.
        xy: (vertices, 2).

    Returns:
        Ring, first vertex and number of vertices of every span; twice the signed area of every ring.
    """
    length = 0
    for chain in range(begin.size):
        length += end[chain] - begin[chain]
    # A ring's first vertex is repeated at its end, and every ring has four vertices or more.
    of_span = np.empty(2 * length, np.int64)
    first = np.empty(2 * length, np.int64)
    count = np.empty(2 * length, np.int64)
    area2 = np.zeros(length, np.float64)
    spans = 0
    rings = 0
    places = 16
    while places < 2 * length:
        places *= 2
    seen = np.full(places, -1, np.int64)  # hash table: corners, and where on the way they were met
    met = np.empty(places, np.int64)
    way = np.empty(length + 1, np.int64)
    done = np.zeros(begin.size, np.bool_)
    for candidate in range(begin.size):
        chain = candidate
        depth = 0
        while not done[chain]:
            done[chain] = True
            for vertex in range(begin[chain], end[chain]):
                if corner[vertex] >= 0:
                    place = ((corner[vertex] * 0x9E3779B97F4A7C1) >> 20) & (places - 1)
                    while seen[place] >= 0 and seen[place] != corner[vertex]:
                        place = (place + 1) & (places - 1)
                    back = met[place] if seen[place] >= 0 else depth
                    if back < depth and corner[way[back]] == corner[vertex]:
                        way[depth] = way[back]
                        spans, rings = _add_ring(way, back, depth, xy, of_span, first, count, area2, spans, rings)
                        depth = back
                    seen[place] = corner[vertex]
                    met[place] = depth
                way[depth] = vertex
                depth += 1
            chain = onwards[chain]
        if depth > 0:
            way[depth] = way[0]
            spans, rings = _add_ring(way, 0, depth, xy, of_span, first, count, area2, spans, rings)
    return of_span[:spans].copy(), first[:spans].copy(), count[:spans].copy(), area2[:rings].copy()


@kernel
def _add_ring(
    way: NDArray[np.int64],
    start: int,
    stop: int,
    xy: NDArray[np.float64],
    of_span: NDArray[np.int64],
    first: NDArray[np.int64],
    count: NDArray[np.int64],
    area2: NDArray[np.float64],
    spans: int,
    rings: int,
) -> tuple[int, int]:
    """Add the ring of vertices ``way[start : stop + 1]``, the last of which is the first; return the new counts."""
    for at in range(start, stop + 1):
        vertex = way[at]
        if at > start and vertex == way[at - 1] + 1:
            count[spans - 1] += 1
        else:
            of_span[spans] = rings
            first[spans] = vertex
            count[spans] = 1
            spans += 1
        if at < stop:
            other = way[at + 1]
            area2[rings] += xy[vertex, 0] * xy[other, 1] - xy[other, 0] * xy[vertex, 1]
    return spans, rings + 1


def _is_hole(polygons: PolygonArrays) -> NDArray[np.bool_]:
    hole = np.ones(len(polygons.ring_start) - 1, np.bool_)
    hole[polygons.polygon_start[:-1]] = False
    return hole


def _assembled(xy: NDArray[np.float64], rings: _Rings, *, n: int) -> PolygonArrays:
    """``n`` polygons of rings of spans of ``xy``."""
    order = np.lexsort((rings.is_hole, rings.owner))  # stable
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    of_span = rank[rings.of_span]
    in_order = np.argsort(of_span, kind="stable")
    first, length = rings.first[in_order], rings.length[in_order]
    vertex, _ = indices_of_spans(first, length)
    ring_length = np.bincount(of_span[in_order], length, minlength=order.size).astype(np.int64)
    return PolygonArrays(
        xy=xy[vertex],
        ring_start=np.append(0, np.cumsum(ring_length)),
        polygon_start=np.append(0, np.cumsum(np.bincount(rings.owner, minlength=n))),
    )
