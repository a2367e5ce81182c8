"""Sheets of a label map, outlined one by one, become one coverage."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.geometry.maps import label_maps, smooth_noise

from conceptseg.geometry.coverage import polygonize
from conceptseg.geometry.join import join_sheets
from conceptseg.geometry.polygon_arrays import PolygonArrays


def outlined(labels: np.ndarray, *, side: int, tolerance_px: float) -> tuple[PolygonArrays, np.ndarray]:
    """Polygons and labels of sheets of ``side`` px, in px of the whole map."""
    polygons, values = [], []
    for y in range(0, labels.shape[0], side):
        for x in range(0, labels.shape[1], side):
            coverage = polygonize(labels[y : y + side, x : x + side], tolerance_px=tolerance_px)
            polygons.append(coverage.outlines.with_xy(coverage.outlines.xy + np.array([x, y])))
            values.append(coverage.labels.astype(np.int64))
    return PolygonArrays.concatenated(polygons), np.concatenate(values)


def lines(length: int, side: int) -> list[int]:
    return list(range(side, length, side))


def joined_sheets(labels: np.ndarray, *, side: int, tolerance_px: float) -> tuple[np.ndarray, ...]:
    """Polygons of the sheets, their labels, the joined polygons, and into which each went."""
    polygons, values = outlined(labels, side=side, tolerance_px=tolerance_px)
    height, width = labels.shape
    joined, owner = join_sheets(polygons, values, columns=range(side, width, side), rows=range(side, height, side))
    return polygons.polygons(), values, joined.polygons(), owner


def check_joined(labels: np.ndarray, *, side: int, tolerance_px: float) -> None:
    polygons, values, joined, owner = joined_sheets(labels, side=side, tolerance_px=tolerance_px)
    assert len(joined) == len(polygonize(labels, tolerance_px=tolerance_px).polygons)
    assert shapely.is_valid(joined).all()
    assert shapely.coverage_is_valid(joined)
    for index, polygon in enumerate(joined):
        parts = polygons[owner == index]
        assert len(set(values[owner == index])) == 1
        assert shapely.equals(polygon, shapely.union_all(parts))
        assert shapely.is_ccw(polygon.exterior)
        assert not any(shapely.is_ccw(hole) for hole in polygon.interiors)


@pytest.mark.parametrize(("seed", "side", "tolerance"), [(0, 64, 1.0), (1, 50, 0.0), (2, 77, 2.0), (3, 33, 1.0)])
def test_joined_sheets_are_one_valid_coverage_of_the_unions_of_their_parts(seed, side, tolerance):
    check_joined(smooth_noise(190, 230, labels=5, feature=9, seed=seed), side=side, tolerance_px=tolerance)


@settings(deadline=None, max_examples=100)
@given(label_maps(), st.integers(2, 20), st.sampled_from([0.0, 1.0]))
def test_so_are_those_of_any_map_and_side(labels, side, tolerance):
    check_joined(labels, side=side, tolerance_px=tolerance)


def test_without_simplification_they_are_the_polygons_of_the_whole_map():
    labels = smooth_noise(120, 130, labels=4, feature=7, seed=4)
    _, _, joined, _ = joined_sheets(labels, side=40, tolerance_px=0)
    whole = polygonize(labels, tolerance_px=0).polygons
    places = shapely.STRtree(whole).query(shapely.point_on_surface(joined), predicate="within")[1]
    assert shapely.equals(joined, whole[places]).all()


def test_areas_that_touch_in_a_corner_of_four_sheets_stay_apart():
    labels = np.array([[1, 2], [2, 1]], np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    _, _, joined, owner = joined_sheets(labels, side=8, tolerance_px=0)
    assert len(joined) == 4
    assert owner.tolist() == [0, 1, 2, 3]


def test_a_ring_around_a_corner_gets_its_hole():
    labels = np.ones((16, 16), np.uint8)
    labels[5:11, 5:11] = 2
    _, _, joined, _ = joined_sheets(labels, side=8, tolerance_px=0)
    assert sorted(shapely.area(joined)) == [36, 220]
    assert sorted(shapely.get_num_interior_rings(joined)) == [0, 1]


def test_polygons_away_from_the_lines_stay_as_they_are():
    labels = np.zeros((16, 16), np.uint8)
    labels[2:5, 2:5] = 1
    polygons, _, joined, owner = joined_sheets(labels, side=8, tolerance_px=0)
    assert shapely.equals_exact(joined[0], polygons[0])
    assert owner.tolist() == [0]


def test_no_polygons_are_joined_to_none():
    _, _, joined, owner = joined_sheets(np.zeros((16, 16), np.uint8), side=8, tolerance_px=0)
    assert joined.size == owner.size == 0
