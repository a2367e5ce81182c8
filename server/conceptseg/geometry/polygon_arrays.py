"""Polygons by the million: a few arrays for all of them instead of an object for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class PolygonArrays:
    """Polygons as the ragged arrays of `shapely.from_ragged_array`: quick to move, to cut up and to put together.

    Attributes:
        xy: (vertices, 2) float64, ring after ring; the first vertex of a ring is also its last.
        ring_start: (n_rings + 1,) int64, where the vertices of every ring start.
        polygon_start: (n + 1,) int64, where the rings of every polygon start: its shell, then its holes.
    """

    xy: NDArray[np.float64]
    ring_start: NDArray[np.int64]
    polygon_start: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.polygon_start) - 1

    def with_xy(self, xy: NDArray[np.float64]) -> Self:
        """The same polygons with other coordinates (vertices, 2)."""
        return replace(self, xy=xy)

    def polygons(self) -> NDArray[np.object_]:
        """(n,) `shapely.Polygon`."""
        found = shapely.from_ragged_array(shapely.GeometryType.POLYGON, self.xy, (self.ring_start, self.polygon_start))
        return np.asarray(found, object)

    def bounds(self) -> NDArray[np.float64]:
        """(n, 4): least x and y, greatest x and y."""
        if not len(self):
            return np.empty((0, 4))
        first = self.ring_start[self.polygon_start[:-1]]
        return np.hstack([np.minimum.reduceat(self.xy, first), np.maximum.reduceat(self.xy, first)])

    def take(self, which: NDArray[np.intp]) -> PolygonArrays:
        """Some of the polygons, in that order."""
        ring, polygon_start = indices_of_spans(self.polygon_start[which], np.diff(self.polygon_start)[which])
        vertex, ring_start = indices_of_spans(self.ring_start[ring], np.diff(self.ring_start)[ring])
        return PolygonArrays(xy=self.xy[vertex], ring_start=ring_start, polygon_start=polygon_start)

    @staticmethod
    def concatenated(parts: Sequence[PolygonArrays]) -> PolygonArrays:
        """The polygons of all parts."""
        return PolygonArrays(
            xy=np.concatenate([np.empty((0, 2)), *(part.xy for part in parts)]),
            ring_start=_starts_of_all([part.ring_start for part in parts]),
            polygon_start=_starts_of_all([part.polygon_start for part in parts]),
        )


def indices_of_spans(first: NDArray[np.int64], length: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Indices ``first``, ``first + 1`` … of spans, one span after the other, and (n_spans + 1,) where each starts."""
    start = np.append(0, np.cumsum(length))
    return np.repeat(first - start[:-1], length) + np.arange(start[-1]), start


def _starts_of_all(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    counts = [np.diff(part) for part in parts]
    return np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *counts]))])
