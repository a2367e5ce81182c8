from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.geometry.maps import AWKWARD, component_map, label_maps

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.geometry.components import label_components


def flood_fill(labels: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel: number areas by their first pixel in raster order."""
    result = np.full(labels.shape, -1, np.int32)
    count = 0
    for seed in np.ndindex(labels.shape):
        if result[seed] >= 0:
            continue
        waiting = [seed]
        result[seed] = count
        while waiting:
            y, x = waiting.pop()
            for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= other[0] < labels.shape[0] and 0 <= other[1] < labels.shape[1]
                if inside and result[other] < 0 and labels[other] == labels[seed]:
                    result[other] = count
                    waiting.append(other)
        count += 1
    return result


def check_against_flood_fill(labels: np.ndarray) -> None:
    components = label_components(labels)
    expected = flood_fill(labels)
    np.testing.assert_array_equal(component_map(components), expected)
    np.testing.assert_array_equal(components.area_px, np.bincount(expected.ravel()))
    np.testing.assert_array_equal(components.painted(components.label), labels)
    assert components.label.dtype == labels.dtype


@settings(deadline=None, max_examples=100)
@given(label_maps())
def test_components_are_those_of_a_flood_fill_in_raster_order(labels):
    check_against_flood_fill(labels)


@pytest.mark.parametrize("name", AWKWARD)
def test_components_of_awkward_maps_are_those_of_a_flood_fill(name):
    check_against_flood_fill(AWKWARD[name])


def test_a_view_that_is_not_contiguous_is_labelled_like_its_copy():
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)[::2, ::-1] // 5
    np.testing.assert_array_equal(
        component_map(label_components(labels)), component_map(label_components(labels.copy()))
    )


@pytest.mark.parametrize(
    "labels", [np.zeros((3, 3), np.int32), np.zeros((0, 3), np.uint8), np.zeros(3, np.uint8)], ids=repr
)
def test_what_is_no_label_map_is_refused_with_the_expected_shape_and_type(labels):
    with pytest.raises(InvalidRequestError, match=r"Expected labels \(h, w\) of uint8 or uint16"):
        label_components(labels)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_runs_inside_a_mask_are_all_its_pixels_and_no_others(share):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, (40, 50), np.uint8)
    mask = rng.random(labels.shape) < share
    found = label_components(labels)
    runs = found.runs_inside(mask)
    painted = np.full(labels.shape, -1)
    for y in range(len(labels)):
        for run in range(runs.row_start[y], runs.row_start[y + 1]):
            assert (painted[y, runs.first[run] : runs.stop[run]] == -1).all()
            painted[y, runs.first[run] : runs.stop[run]] = runs.component[run]
    numbers = found.painted(np.arange(len(found.label)))
    np.testing.assert_array_equal(painted, np.where(mask, numbers, -1))
