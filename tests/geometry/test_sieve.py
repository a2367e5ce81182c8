from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.geometry.maps import component_map, label_maps

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.geometry.components import Components, label_components
from conceptseg.geometry.sieve import remove_small


def as_map(text: str) -> np.ndarray:
    return np.array([[0 if c == "." else int(c) for c in row] for row in text.split()], np.uint8)


def enclosed(components: Components) -> np.ndarray:
    """Which components are background that does not touch the border of the map."""
    pixels = component_map(components)
    border = np.unique(np.concatenate([pixels[line] for line in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])]))
    hole = components.label == 0
    hole[border] = False
    return hole


areas = st.sampled_from([0, 1, 2, 3.5, 8, 20, 1e9])


@settings(deadline=None, max_examples=200)
@given(label_maps(), areas, areas)
def test_nothing_small_is_left_and_removing_again_changes_nothing(labels, min_area, min_hole):
    before = labels.copy()
    result = remove_small(labels, min_area_px=min_area, min_hole_area_px=min_hole)
    np.testing.assert_array_equal(labels, before)
    components = label_components(result)
    assert (components.area_px[components.label > 0] >= min_area).all()
    assert (components.area_px[enclosed(components)] >= min_hole).all()
    again = remove_small(result, min_area_px=min_area, min_hole_area_px=min_hole)
    np.testing.assert_array_equal(result, again)
    assert result.dtype == labels.dtype


@settings(deadline=None, max_examples=100)
@given(label_maps(), areas)
def test_background_grows_only_where_an_island_lay_in_background(labels, min_area):
    result = remove_small(labels, min_area_px=min_area, min_hole_area_px=0)
    if (labels > 0).all() and labels.size >= min_area:
        assert (result > 0).all()


def test_an_area_goes_to_the_neighbour_with_the_longest_shared_boundary():
    labels = as_map("11222 13222 11122")
    assert (remove_small(labels, min_area_px=2, min_hole_area_px=0) == as_map("11222 11222 11122")).all()


def test_a_labelled_neighbour_is_preferred_to_a_longer_boundary_with_background():
    labels = as_map("..... .2111 ..111")
    assert (remove_small(labels, min_area_px=2, min_hole_area_px=0) == as_map("..... .1111 ..111")).all()


def test_an_island_in_background_becomes_background():
    labels = as_map("1.... 1..2. 1....")
    assert (remove_small(labels, min_area_px=2, min_hole_area_px=0) == as_map("1.... 1.... 1....")).all()


def test_a_small_hole_is_filled_by_the_neighbour_with_the_longest_shared_boundary():
    labels = as_map("11122 1..22 11122")
    assert (remove_small(labels, min_area_px=0, min_hole_area_px=3) == as_map("11122 11122 11122")).all()


def test_background_at_the_border_of_the_map_is_not_a_hole():
    labels = as_map("1.1 111")
    assert (remove_small(labels, min_area_px=0, min_hole_area_px=100) == labels).all()


def test_a_hole_of_exactly_the_minimum_area_stays():
    labels = as_map("1111 1..1 1111")
    assert (remove_small(labels, min_area_px=0, min_hole_area_px=2) == labels).all()


def test_small_areas_that_join_to_a_large_one_stay():
    # The 3 is smallest, goes to a 2 first, and joins both to an area of five.
    labels = as_map("22322111 11111111")
    expected = as_map("22222111 11111111")
    assert (remove_small(labels, min_area_px=3, min_hole_area_px=0) == expected).all()


@pytest.mark.parametrize("value", [-1, float("nan")])
def test_an_impossible_area_is_refused_by_name(value):
    with pytest.raises(InvalidRequestError, match="min_hole_area_px >= 0"):
        remove_small(as_map("1"), min_area_px=0, min_hole_area_px=value)
