"""Pixels that somebody else has read."""

import numpy as np
import pytest

from conceptseg.domain.errors import ImageError
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.source import RegionSource


def test_streamed_pixels_are_served_on_their_own_grid_without_resampling(noise):
    region = Region(x=1003, y=517, width=1000, height=701)
    grid = PixelGrid.at_downsample(region, downsample=2.004, full_pixel_size_um=0.25)
    margin = 16
    array = noise(grid.height + 2 * margin, grid.width + 2 * margin)
    reader = ArrayReader(
        array,
        name="from QuPath",
        pixel_size_um=0.25,
        origin=(region.x - margin * grid.scale_x, region.y - margin * grid.scale_y),
        scale=(grid.scale_x, grid.scale_y),
        full_width=20000,
        full_height=10000,
    )
    source = RegionSource(reader=reader, grid=grid)
    core = source.read(x=0, y=0, width=grid.width, height=grid.height)
    np.testing.assert_array_equal(core, array[margin:-margin, margin:-margin])
    whole = source.read(x=-margin, y=-margin, width=array.shape[1], height=array.shape[0])
    np.testing.assert_array_equal(whole, array)
    beyond = source.read(x=-margin - 4, y=0, width=8, height=8)
    np.testing.assert_array_equal(beyond[:, :4], np.repeat(array[margin : margin + 8, :1], 4, axis=1))


def test_the_image_can_be_larger_than_the_array(noise):
    reader = ArrayReader(
        noise(10, 20), name="a", pixel_size_um=0.5, origin=(100, 50), full_width=5000, full_height=4000
    )
    assert (reader.width, reader.height) == (5000, 4000)


def test_without_further_words_the_array_is_the_image(noise):
    with ArrayReader(noise(10, 20), name="a", pixel_size_um=None) as reader:
        assert (reader.name, reader.width, reader.height, reader.pixel_size_um) == ("a", 20, 10, None)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_anything_but_8_bit_rgb_is_refused(array):
    with pytest.raises(ImageError, match=r"streamed: expected RGB .* 8-bit RGB"):
        ArrayReader(array, name="streamed", pixel_size_um=None)


def test_a_scale_that_is_not_positive_is_refused(noise):
    with pytest.raises(ImageError, match="scale > 0"):
        ArrayReader(noise(4, 4), name="a", pixel_size_um=None, scale=(0, 1))
