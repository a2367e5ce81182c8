"""The part of an image to look at for an outline."""

import numpy as np
import pytest
from shapely import Point, box

from conceptseg.pipeline.around import WINDOW_PX, open_around

SIZES = {"pixel_size_um": 0.5, "image_pixel_size_um": None}


@pytest.fixture
def reader(region_of):
    return region_of(np.zeros((2400, 2400, 3), np.uint8)).reader


def test_of_a_small_outline_its_bounds(reader):
    region = open_around(reader, box(10.5, 20.5, 50, 60), **SIZES).grid.region
    assert (region.x, region.y, region.width, region.height) == (10, 20, 40, 40)


def test_of_a_large_one_a_window_around_its_widest_place(reader):
    club = Point(1600, 1700).buffer(600).union(box(0, 1690, 1600, 1710))
    grid = open_around(reader, club, **SIZES).grid
    assert WINDOW_PX <= max(grid.width, grid.height) <= WINDOW_PX + 1
    assert abs(grid.region.x + grid.width / 2 - 1600) < 50
    assert abs(grid.region.y + grid.height / 2 - 1700) < 50


def test_outside_the_image_there_is_nothing(reader):
    assert open_around(reader, box(3000, 0, 3100, 100), **SIZES) is None
