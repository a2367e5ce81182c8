"""How a region is cut up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.imaging.tiles import Tile, TileGrid


@given(
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    stride=st.sampled_from([8, 14, 16]),
    tokens=st.integers(1, 9),
)
def test_cores_cover_every_token_once(width, height, stride, tokens):
    tiles = TileGrid(width=width, height=height, tile_px=tokens * stride, stride_px=stride)
    covered = np.zeros((tiles.tokens_high * stride, tiles.tokens_wide * stride), int)
    for tile in tiles:
        covered[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] += 1
        assert tile.x % stride == tile.y % stride == tile.width % stride == tile.height % stride == 0
    assert (covered == 1).all()
    assert width <= covered.shape[1] < width + stride
    assert height <= covered.shape[0] < height + stride
    assert len(list(tiles)) == len(tiles) == tiles.rows * tiles.columns


def test_tiles_come_row_by_row_and_the_last_are_as_small_as_the_stride_allows():
    assert list(TileGrid(width=100, height=40, tile_px=64, stride_px=16)) == [
        Tile(x=0, y=0, width=64, height=48),
        Tile(x=64, y=0, width=48, height=48),
    ]


def test_a_tile_grows_by_its_halo_beyond_the_region():
    assert Tile(x=0, y=64, width=64, height=48).grown(16) == Tile(x=-16, y=48, width=96, height=80)


def test_the_tiles_of_an_analysis_grid():
    region = Region(x=5, y=5, width=1000, height=500)
    grid = PixelGrid.at_downsample(region, downsample=2, full_pixel_size_um=0.25)
    tiles = TileGrid.over(grid, tile_px=256, stride_px=16, halo_px=32)
    assert (tiles.width, tiles.height, tiles.columns, tiles.rows, tiles.halo_px) == (500, 250, 2, 1, 32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tile_px": 100}, "multiple of the stride of 16 px, got 100"),
        ({"tile_px": 0}, "multiple of the stride"),
        ({"stride_px": 0}, "multiple of the stride"),
        ({"halo_px": 10}, "halo of 0 or a multiple of the stride of 16 px, got 10"),
        ({"halo_px": -16}, "halo of 0"),
        ({"width": 0}, "at least 1 × 1 px"),
    ],
)
def test_sizes_that_do_not_fit_the_stride_are_refused(wrong, message):
    sizes = {"width": 500, "height": 300, "tile_px": 128, "stride_px": 16, "halo_px": 32}
    with pytest.raises(InvalidRequestError, match=message):
        TileGrid(**(sizes | wrong))
