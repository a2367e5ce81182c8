"""Sheets of a label map, outlined one by one, become one coverage."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from tests.geometry.maps import smooth_noise

from conceptseg.geometry.coverage import polygonize
from conceptseg.geometry.join import join_sheets


def outlined(labels: np.ndarray, *, side: int, tolerance_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Polygons and labels of sheets of ``side`` px, in px of the whole map."""
    polygons, values = [], []
    for y in range(0, labels.shape[0], side):
        for x in range(0, labels.shape[1], side):
            coverage = polygonize(labels[y : y + side, x : x + side], tolerance_px=tolerance_px)
            polygons.append(shapely.transform(coverage.polygons, lambda xy, x=x, y=y: xy + np.array([x, y])))
            values.append(coverage.labels.astype(np.int64))
    return np.concatenate(polygons), np.concatenate(values)


def lines(length: int, side: int) -> list[int]:
    return list(range(side, length, side))


@pytest.mark.parametrize(("seed", "side", "tolerance"), [(0, 64, 1.0), (1, 50, 0.0), (2, 77, 2.0), (3, 33, 1.0)])
def test_joined_sheets_are_one_valid_coverage_with_as_many_polygons_as_the_whole_map(seed, side, tolerance):
    labels = smooth_noise(190, 230, labels=5, feature=9, seed=seed)
    polygons, values = outlined(labels, side=side, tolerance_px=tolerance)
    joined, owner = join_sheets(polygons, values, columns=lines(230, side), rows=lines(190, side))
    whole = polygonize(labels, tolerance_px=tolerance)
    assert len(joined) == len(whole.polygons) < len(polygons)
    assert (shapely.get_type_id(joined) == shapely.GeometryType.POLYGON).all()
    assert shapely.is_valid(joined).all()
    assert shapely.coverage_is_valid(joined)
    assert shapely.area(joined).sum() == pytest.approx(shapely.area(polygons).sum())
    assert all(len(set(values[owner == index])) == 1 for index in range(len(joined)))


def test_without_simplification_they_are_the_polygons_of_the_whole_map():
    labels = smooth_noise(120, 130, labels=4, feature=7, seed=4)
    polygons, values = outlined(labels, side=40, tolerance_px=0)
    joined, _ = join_sheets(polygons, values, columns=lines(130, 40), rows=lines(120, 40))
    whole = polygonize(labels, tolerance_px=0).polygons
    places = shapely.STRtree(whole).query(shapely.point_on_surface(joined), predicate="within")[1]
    assert shapely.equals(joined, whole[places]).all()


def test_areas_that_touch_in_a_corner_of_four_sheets_stay_apart():
    labels = np.array([[1, 2], [2, 1]], np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    polygons, values = outlined(labels, side=8, tolerance_px=0)
    joined, owner = join_sheets(polygons, values, columns=[8], rows=[8])
    assert len(joined) == 4
    assert owner.tolist() == [0, 1, 2, 3]


def test_a_ring_around_a_corner_gets_its_hole():
    labels = np.ones((16, 16), np.uint8)
    labels[5:11, 5:11] = 2
    polygons, values = outlined(labels, side=8, tolerance_px=0)
    joined, _ = join_sheets(polygons, values, columns=[8], rows=[8])
    assert sorted(shapely.area(joined)) == [36, 220]
    assert sorted(shapely.get_num_interior_rings(joined)) == [0, 1]


def test_polygons_away_from_the_lines_stay_as_they_are():
    inside = shapely.box(2, 2, 5, 5)
    joined, owner = join_sheets(np.array([inside], object), np.array([1]), columns=[8], rows=[8])
    assert joined[0] is inside
    assert owner.tolist() == [0]
