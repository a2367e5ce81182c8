"""What an output pixel is, whatever the file: `read_levels` seen through an array."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.imaging import levels
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.levels import Level, choose_level, level_downsample

PICTURE = np.random.default_rng(1).integers(0, 256, (97, 131, 3), np.uint8)


def reader_of(array):
    return ArrayReader(array, name="array", pixel_size_um=None)


def slow_area_means(array, *, x, y, width, height, scale):
    """The definition, pixel by pixel, for blocks inside the array."""
    out = np.empty((height, width, 3))
    for i in range(height):
        for j in range(width):
            left, top = x + j * scale, y + i * scale
            columns = np.arange(int(left), int(np.ceil(left + scale - 1e-9)))
            rows = np.arange(int(top), int(np.ceil(top + scale - 1e-9)))
            wx = np.minimum(left + scale, columns + 1) - np.maximum(left, columns)
            wy = np.minimum(top + scale, rows + 1) - np.maximum(top, rows)
            block = array[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
            out[i, j] = np.einsum("y,x,yxc->c", wy, wx, block) / scale**2
    return out


@settings(max_examples=120, deadline=None)
@given(
    scale=st.one_of(st.sampled_from([1.0, 2.0, 4.0]), st.floats(1, 7), st.fractions(1, 5, max_denominator=97)),
    start=st.tuples(st.floats(-30, 120), st.floats(-30, 120)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    part=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_a_pixel_does_not_depend_on_the_block_it_is_read_in(scale, start, size, part):
    scale, (x, y), (width, height) = float(scale), start, size
    reader = reader_of(PICTURE)
    whole = reader.read(x=x, y=y, width=width, height=height, scale_x=scale, scale_y=scale)
    left, top = int(part[0] * (width - 1)), int(part[1] * (height - 1))
    w, h = 1 + int(part[2] * (width - 1 - left)), 1 + int(part[3] * (height - 1 - top))
    block = reader.read(x=x + left * scale, y=y + top * scale, width=w, height=h, scale_x=scale, scale_y=scale)
    np.testing.assert_array_equal(block, whole[top : top + h, left : left + w])


@pytest.mark.parametrize(("x", "y", "scale"), [(0, 0, 2.0), (3, 5, 4.0), (0.5, 0.25, 1.0), (7.3, 1.9, 2.37)])
def test_an_output_pixel_is_the_area_mean_of_the_box_it_covers(x, y, scale):
    got = reader_of(PICTURE).read(x=x, y=y, width=20, height=17, scale_x=scale, scale_y=scale)
    expected = slow_area_means(PICTURE, x=x, y=y, width=20, height=17, scale=scale)
    # Half a level of rounding, and box edges that are kept to 1/4096 px.
    assert np.abs(got - expected).max() <= 0.5 + 255 / 4096 * 4


def test_pixels_on_the_grid_of_the_image_are_copied():
    got = reader_of(PICTURE).read(x=11, y=7, width=50, height=40, scale_x=1, scale_y=1)
    np.testing.assert_array_equal(got, PICTURE[7:47, 11:61])
    assert got.flags.writeable
    assert not np.shares_memory(got, PICTURE)


@pytest.mark.parametrize(("x", "y"), [(-5, -8), (120, 90), (-40, 3), (500, 3), (3, -500), (500, 500), (-1000, 1000)])
def test_outside_the_image_the_nearest_edge_pixel_repeats(x, y):
    got = reader_of(PICTURE).read(x=x, y=y, width=30, height=20, scale_x=1, scale_y=1)
    rows, columns = np.clip(np.arange(y, y + 20), 0, 96), np.clip(np.arange(x, x + 30), 0, 130)
    np.testing.assert_array_equal(got, PICTURE[rows][:, columns])


@pytest.mark.parametrize("scale", [1.0, 1.7, 2.0])
def test_a_uniform_image_stays_uniform_at_every_scale_and_beyond_its_edge(scale):
    reader = reader_of(np.full((40, 50, 3), (200, 13, 77), np.uint8))
    got = reader.read(x=-9.3, y=-7.1, width=60, height=60, scale_x=scale, scale_y=scale)
    assert (got == (200, 13, 77)).all()


def test_a_large_reduction_works_in_pieces_with_the_same_result(monkeypatch):
    reader = reader_of(PICTURE)
    box = {"x": -3.0, "y": 2.0, "width": 9, "height": 7, "scale_x": 14.1, "scale_y": 12.3}
    whole = reader.read(**box)
    monkeypatch.setattr(levels, "_MAX_SOURCE_PX", 500)
    np.testing.assert_array_equal(reader.read(**box), whole)


def test_the_axes_may_have_different_scales():
    got = reader_of(PICTURE).read(x=0, y=0, width=65, height=97, scale_x=2, scale_y=1)
    expected = (PICTURE[:, 0:130:2].astype(int) + PICTURE[:, 1:130:2] + 1) // 2
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"height": -1}, {"scale_x": 0.0}, {"scale_y": -2.0}, {"x": float("nan")}]
)
def test_an_impossible_block_is_refused(wrong):
    box = {"x": 0.0, "y": 0.0, "width": 4, "height": 4, "scale_x": 1.0, "scale_y": 1.0} | wrong
    with pytest.raises(InvalidRequestError, match="Expected a block"):
        reader_of(PICTURE).read(**box)


def test_the_coarsest_level_that_is_fine_enough_is_read():
    pyramid = [Level(downsample_x=d, downsample_y=d, right=1000 / d, bottom=1000 / d) for d in (1, 4, 16)]
    chosen = {scale: choose_level(pyramid, scale_x=scale, scale_y=scale) for scale in (0.5, 1, 3.9, 4, 15, 16, 99)}
    assert chosen == {0.5: 0, 1: 0, 3.9: 0, 4: 1, 15: 1, 16: 2, 99: 2}


def test_rounding_a_region_to_whole_pixels_does_not_cost_a_level():
    pyramid = [Level(downsample_x=d, downsample_y=d, right=5001 / d, bottom=5001 / d) for d in (1, 2)]
    assert choose_level(pyramid, scale_x=5001 / 2501, scale_y=2.0) == 1


@pytest.mark.parametrize(
    ("full", "level", "expected"),
    [
        (4443, 2221, 2.0),
        (3567, 1783, 2.0),
        (46000, 11500, 4.0),
        (2967, 742, 4.0),
        (1000, 333, 3.0),
        (1000, 390, 1000 / 390),
    ],
)
def test_the_downsample_of_a_level_is_the_whole_number_that_explains_its_size(full, level, expected):
    assert level_downsample(full=full, level=level) == expected
