from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.geometry.maps import AWKWARD, component_map, label_maps, smooth_noise

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.geometry.coverage import Coverage, polygonize

TOLERANCES = [0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 40.0]


def check_valid(coverage: Coverage) -> None:
    polygons = coverage.polygons
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    assert (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all()
    assert (shapely.area(polygons) > 0).all()
    # Exactly the labelled components, in their order.
    np.testing.assert_array_equal(coverage.component, np.flatnonzero(coverage.components.label > 0))
    np.testing.assert_array_equal(coverage.labels, coverage.components.label[coverage.component])


def check_exact(labels: np.ndarray) -> None:
    """Every polygon covers exactly the pixels of its component."""
    coverage = polygonize(labels, tolerance_px=0)
    check_valid(coverage)
    areas = coverage.components.area_px[coverage.component]
    np.testing.assert_array_equal(shapely.area(coverage.polygons), areas)
    pixels = component_map(coverage.components)
    y, x = np.indices(labels.shape) + 0.5
    for component, polygon in zip(coverage.component, coverage.polygons, strict=True):
        np.testing.assert_array_equal(shapely.contains_xy(polygon, x, y), pixels == component)


@pytest.mark.parametrize("name", AWKWARD)
def test_without_tolerance_awkward_maps_become_exactly_their_pixels(name):
    check_exact(AWKWARD[name])


@settings(deadline=None, max_examples=100)
@given(label_maps())
def test_without_tolerance_polygons_are_exactly_their_pixels(labels):
    check_exact(labels)


@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_maps_stay_a_valid_coverage_at_any_tolerance(name, tolerance):
    check_valid(polygonize(AWKWARD[name], tolerance_px=tolerance))


def neighbours(polygons: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of polygons that share an edge."""
    pairs = shapely.STRtree(polygons).query(polygons, predicate="intersects").T
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    shared = shapely.length(shapely.intersection(polygons[pairs[:, 0]], polygons[pairs[:, 1]]))
    return {(int(a), int(b)) for a, b in pairs[shared > 0]}


@settings(deadline=None, max_examples=250)
@given(label_maps(max_side=20), st.sampled_from(TOLERANCES))
def test_simplification_keeps_a_valid_coverage_with_all_polygons_holes_and_neighbours(labels, tolerance):
    exact = polygonize(labels, tolerance_px=0)
    simple = polygonize(labels, tolerance_px=tolerance)
    check_valid(simple)
    np.testing.assert_array_equal(
        shapely.get_num_interior_rings(simple.polygons), shapely.get_num_interior_rings(exact.polygons)
    )
    if simple.polygons.size:
        assert neighbours(simple.polygons) == neighbours(exact.polygons)
        distance = shapely.hausdorff_distance(simple.polygons, exact.polygons)
        assert (distance <= max(tolerance, 0.0) + 1e-9).all()


@settings(deadline=None, max_examples=100)
@given(label_maps(), st.sampled_from(TOLERANCES), st.randoms(use_true_random=False))
def test_vertices_may_move_by_an_eighth_of_a_pixel_and_the_coverage_stays_valid(labels, tolerance, random):
    polygons = polygonize(labels, tolerance_px=tolerance).polygons
    xy = shapely.get_coordinates(polygons)
    points, place = np.unique(xy, axis=0, return_inverse=True)
    shift = np.random.default_rng(random.getrandbits(32)).choice([-0.125, 0.125], points.shape)
    moved = shapely.set_coordinates(polygons.copy(), (points + shift)[place.reshape(-1)])
    assert shapely.is_valid(moved).all()
    assert shapely.coverage_is_valid(moved)


@pytest.mark.parametrize("tolerance", [1.0, 1.5, 3.0])
def test_a_realistic_map_is_valid_has_far_fewer_vertices_and_keeps_its_areas(tolerance):
    labels = smooth_noise(300, 420, labels=6, feature=14, seed=3)
    exact, simple = polygonize(labels, tolerance_px=0), polygonize(labels, tolerance_px=tolerance)
    check_valid(simple)
    vertices = [shapely.get_num_coordinates(c.polygons).sum() for c in (exact, simple)]
    assert vertices[1] < 0.45 * vertices[0]
    areas = exact.components.area_px[exact.component]
    large = areas > 200
    change = shapely.area(simple.polygons) / areas - 1
    assert np.abs(change[large]).max() < 0.2
    assert abs(shapely.area(simple.polygons).sum() / areas.sum() - 1) < 0.01


@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_the_border_of_the_map_stays_exact(tolerance):
    labels = smooth_noise(60, 90, labels=4, feature=10, seed=1)
    labels[labels == 0] = 1
    union = shapely.coverage_union_all(polygonize(labels, tolerance_px=tolerance).polygons)
    assert union.equals(shapely.box(0, 0, 90, 60))


def test_a_diagonal_staircase_becomes_a_straight_line():
    labels = np.tri(40, dtype=np.uint8) + 1
    upper, lower = np.sort(shapely.get_num_coordinates(polygonize(labels, tolerance_px=1.0).polygons))
    # The ends of the diagonal and the corners of the map, the first point twice; nothing in between.
    assert (upper, lower) == (4, 6)


def test_a_circle_stays_round():
    y, x = np.indices((101, 101)) - 50
    labels = (np.hypot(x, y) < 40).astype(np.uint8)
    circle = polygonize(labels, tolerance_px=1.0).polygons[0]
    assert shapely.hausdorff_distance(circle, shapely.Point(50.5, 50.5).buffer(40, quad_segs=64)) < 1.5
    assert 8 <= shapely.get_num_coordinates(circle) <= 40


def test_an_island_is_not_left_on_the_wrong_side_of_a_simplified_outline():
    # A one-pixel island in the notch of a large area: a coarse outline would jump over it.
    labels = np.ones((40, 60), np.uint8)
    labels[20:, :] = 2
    labels[14:20, 28:33] = 2
    labels[16, 30] = 3
    for tolerance in (1, 3, 7, 20):
        coverage = polygonize(labels, tolerance_px=tolerance)
        check_valid(coverage)
        around = coverage.polygons[coverage.labels == 2][0]
        island = coverage.polygons[coverage.labels == 3][0]
        assert shapely.Polygon(around.exterior).contains(island)
        assert len(around.interiors) == 1


def test_junctions_are_vertices_of_all_their_polygons():
    labels = np.array([[1, 1], [2, 3]], np.uint8)
    for polygon in polygonize(labels, tolerance_px=0).polygons:
        assert [1, 1] in shapely.get_coordinates(polygon).tolist()


def test_collinear_points_between_junctions_are_removed():
    polygon = polygonize(np.ones((7, 5), np.uint8), tolerance_px=0).polygons[0]
    assert shapely.get_num_coordinates(polygon) == 5


def test_shells_have_a_positive_and_holes_a_negative_area():
    labels = AWKWARD["nested rings"]
    for polygon in polygonize(labels, tolerance_px=1).polygons:
        assert shapely.is_ccw(polygon.exterior)
        assert not shapely.is_ccw(list(polygon.interiors)).any()


def test_the_same_map_gives_the_same_polygons_in_the_same_order():
    labels = smooth_noise(120, 80, labels=5, feature=8, seed=2)
    first, second = (polygonize(labels, tolerance_px=1.0) for _ in range(2))
    assert (shapely.to_wkb(first.polygons) == shapely.to_wkb(second.polygons)).all()


def test_the_outlines_are_those_of_rasterio():
    features = pytest.importorskip("rasterio.features")
    labels = smooth_noise(90, 70, labels=4, feature=6, seed=5)
    theirs = [
        (shapely.geometry.shape(geometry).normalize(), int(label))
        for geometry, label in features.shapes(labels, mask=labels > 0, connectivity=4)
    ]
    ours = polygonize(labels, tolerance_px=0)
    pairs = zip(shapely.normalize(shapely.remove_repeated_points(ours.polygons)), ours.labels, strict=True)
    remaining = {shapely.simplify(polygon, 0).normalize().wkb: label for polygon, label in theirs}
    for polygon, label in pairs:
        matches = [wkb for wkb, other in remaining.items() if other == label and shapely.from_wkb(wkb).equals(polygon)]
        assert len(matches) == 1
        del remaining[matches[0]]
    assert not remaining


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_an_impossible_tolerance_is_refused(tolerance):
    with pytest.raises(InvalidRequestError, match="tolerance_px >= 0"):
        polygonize(np.ones((2, 2), np.uint8), tolerance_px=tolerance)
