"""TIFF in the ways that microscopy software writes it."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.tiff_reader import TiffReader

LAYOUTS = {
    "tiled": {"tile": (64, 80)},
    "tiled and deflated": {"tile": (64, 64), "compression": "deflate"},
    "tiled with a predictor": {"tile": (64, 64), "compression": "lzw", "predictor": True},
    "one piece": {},
    "strips": {"rowsperstrip": 7},
    "compressed strips": {"rowsperstrip": 1, "compression": "lzw"},
    "one compressed strip": {"rowsperstrip": 1000, "compression": "deflate"},
    "BigTIFF": {"tile": (64, 64), "bigtiff": True},
    "big-endian": {"tile": (64, 64), "byteorder": ">"},
    "separate planes": {"tile": (64, 64), "planarconfig": "separate"},
    "separate strips": {"rowsperstrip": 7, "planarconfig": "separate"},
}


_OF_LIBRARIES = re.compile("index out of range|unpack|NoneType|invalid literal|subscriptable")


def write(path, array, *, bigtiff=False, byteorder=None, **options):
    planes = np.moveaxis(array, -1, 0) if options.get("planarconfig") == "separate" else array
    tifffile.imwrite(path, planes, photometric="rgb", bigtiff=bigtiff, byteorder=byteorder, **options)
    return path


def whole(reader, scale=1):
    return reader.read(
        x=0, y=0, width=reader.width // scale, height=reader.height // scale, scale_x=scale, scale_y=scale
    )


def halved(array):
    h, w = array.shape[0] // 2 * 2, array.shape[1] // 2 * 2
    a = array[:h, :w].astype(int)
    return ((a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2] + 2) // 4).astype(np.uint8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pixels(tmp_path, noise, layout):
    array = noise(203, 317)
    with open_image(write(tmp_path / "image.tif", array, **LAYOUTS[layout])) as reader:
        assert isinstance(reader, TiffReader)
        assert (reader.name, reader.width, reader.height) == ("image.tif", 317, 203)
        np.testing.assert_array_equal(whole(reader), array)
        part = reader.read(x=59, y=61, width=130, height=71, scale_x=1, scale_y=1)
        np.testing.assert_array_equal(part, array[61:132, 59:189])
        assert part.flags.writeable


@pytest.mark.parametrize("options", [{"tile": (128, 128)}, {"rowsperstrip": 16}])
def test_jpeg_inside_tiff_is_decoded_to_rgb(tmp_path, smooth, options):
    path = write(tmp_path / "jpeg.tif", smooth, compression="jpeg", compressionargs={"level": 95}, **options)
    with open_image(path) as reader:
        assert np.abs(whole(reader).astype(int) - smooth).mean() < 2
        np.testing.assert_array_equal(whole(reader), tifffile.imread(path))


def test_blocks_agree_with_the_whole_at_a_fractional_downsample(tmp_path, noise, in_blocks):
    with open_image(write(tmp_path / "image.tif", noise(300, 400), tile=(64, 64))) as reader:
        scale = 400 / 237

        def read(*, x, y, width, height):
            return reader.read(x=x * scale, y=y * scale, width=width, height=height, scale_x=scale, scale_y=scale)

        expected = read(x=-9, y=-9, width=260, height=200)
        np.testing.assert_array_equal(in_blocks(read, x=-9, y=-9, width=260, height=200, block=37), expected)


def test_only_the_tiles_that_a_box_touches_are_decoded(tmp_path, noise, monkeypatch):
    with open_image(write(tmp_path / "image.tif", noise(640, 640), tile=(64, 64))) as reader:
        page = reader._plane.pixels[0]
        decoded = []
        original = page._decoded
        monkeypatch.setattr(page, "_decoded", lambda index: decoded.append(index) or original(index))
        reader.read(x=130, y=70, width=60, height=50, scale_x=1, scale_y=1)
        assert decoded == [12]


def test_the_levels_of_an_ome_tiff_in_subifds_are_used(tmp_path, noise):
    array, marked = noise(400, 600), noise(200, 300, seed=9)
    path = tmp_path / "pyramid.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.27}
    with tifffile.TiffWriter(path) as file:
        file.write(array, photometric="rgb", tile=(128, 128), subifds=1, metadata=metadata)
        file.write(marked, photometric="rgb", tile=(128, 128), subfiletype=1)
    with open_image(path) as reader:
        np.testing.assert_array_equal(whole(reader), array)
        np.testing.assert_array_equal(whole(reader, 2), marked)
        assert reader.pixel_size_um == pytest.approx((0.25 + 0.27) / 2)


def test_the_levels_of_a_multi_page_pyramid_are_used_and_other_pages_are_not(tmp_path, noise):
    array, marked, label = noise(401, 601), noise(200, 300, seed=9), noise(150, 150, seed=3)
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(array, photometric="rgb", tile=(128, 128), metadata=None)
        file.write(label, photometric="rgb", metadata=None, subfiletype=1)
        file.write(marked, photometric="rgb", tile=(128, 128), metadata=None, subfiletype=1)
    with open_image(path) as reader:
        np.testing.assert_array_equal(whole(reader), array)
        np.testing.assert_array_equal(whole(reader, 2), marked)
        assert len(reader._plane.levels) == 2


def test_another_picture_of_the_same_proportions_is_no_level(tmp_path, noise):
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(noise(400, 600), photometric="rgb", metadata=None)
        file.write(noise(200, 300), photometric="rgb", metadata=None)
    with open_image(path) as reader:
        assert len(reader._plane.levels) == 1


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (101600, 101600), "resolutionunit": "INCH"}, 0.25),
        ({"resolution": (20000, 40000), "resolutionunit": "CENTIMETER"}, 0.375),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1, 1), "resolutionunit": "NONE"}, None),
        ({}, None),
    ],
)
def test_resolution_tags_count_only_where_they_can_be_a_microscopes(tmp_path, noise, tags, expected):
    with open_image(write(tmp_path / "image.tif", noise(64, 64), metadata=None, **tags)) as reader:
        assert reader.pixel_size_um == pytest.approx(expected)


def test_imagejs_unit_counts(tmp_path, noise):
    path = tmp_path / "imagej.tif"
    tifffile.imwrite(path, noise(64, 64), imagej=True, resolution=(4, 4), metadata={"unit": "um", "axes": "YXS"})
    with open_image(path) as reader:
        assert reader.pixel_size_um == pytest.approx(0.25)


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_an_ome_size_without_a_length_is_no_calibration(tmp_path, noise, unit):
    metadata = {"axes": "YXS", "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}
    metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    path = tmp_path / "image.ome.tif"
    tifffile.imwrite(path, noise(64, 64), photometric="rgb", metadata=metadata)
    with open_image(path) as reader:
        assert reader.pixel_size_um is None


def test_transparent_parts_show_white_glass(tmp_path):
    array = np.zeros((16, 16, 4), np.uint8)
    array[..., 0], array[8:, :, 3] = 200, 255
    path = tmp_path / "alpha.tif"
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"])
    with open_image(path) as reader:
        pixels = whole(reader)
    assert (pixels[:8] == 255).all()
    assert (pixels[8:] == (200, 0, 0)).all()


def test_a_fourth_channel_that_is_no_opacity_is_ignored(tmp_path):
    array = np.full((16, 16, 4), (200, 10, 20, 0), np.uint8)
    path = tmp_path / "extra.tif"
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unspecified"])
    with open_image(path) as reader:
        assert (whole(reader) == (200, 10, 20)).all()


def test_a_tile_that_was_left_out_is_glass(tmp_path, noise):
    array = noise(128, 128)
    path = tmp_path / "sparse.tif"

    def tiles():
        yield array[:64, :64]
        yield None
        yield array[64:, :64]
        yield array[64:, 64:]

    tifffile.imwrite(path, tiles(), shape=array.shape, dtype=np.uint8, photometric="rgb", tile=(64, 64))
    expected = array.copy()
    expected[:64, 64:] = 255
    with open_image(path) as reader:
        np.testing.assert_array_equal(whole(reader), expected)


def test_several_threads_may_read_at_once(tmp_path, noise):
    array = noise(512, 512)
    with open_image(write(tmp_path / "image.tif", array, tile=(64, 64), compression="deflate")) as reader:

        def agrees(i):
            y = 13 * i % 300
            got = reader.read(x=y, y=y, width=200, height=200, scale_x=1, scale_y=1)
            return np.array_equal(got, array[y : y + 200, y : y + 200])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(agrees, range(64)))


REFUSED = {
    "16 bit": (
        {"data": np.full((64, 64, 3), 4095, np.uint16), "photometric": "rgb"},
        r"uint16 pixels \(values 4095 to 4095.*8-bit RGB.*Convert it to 8 bit",
    ),
    "grayscale": ({"data": np.zeros((64, 64), np.uint8)}, "one grayscale channel: expected the RGB colours"),
    "fluorescence": (
        {"data": np.zeros((5, 64, 64), np.uint8), "photometric": "minisblack", "metadata": {"axes": "CYX"}},
        "5 separate channels.*fluorescence.*brightfield",
    ),
    "YCbCr that no codec decodes": (
        {"data": np.zeros((64, 64, 3), np.uint8), "photometric": "ycbcr", "subsampling": (1, 1), "compression": "lzw"},
        "YCBCR colours.*RGB",
    ),
    "CMYK": ({"data": np.zeros((64, 64, 4), np.uint8), "photometric": "separated"}, "SEPARATED colours.*RGB"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_8_bit_rgb_is_refused_with_the_way_out(tmp_path, kind):
    options, message = REFUSED[kind]
    path = tmp_path / "wrong.ome.tif"
    tifffile.imwrite(path, **options)
    with pytest.raises(ImageError, match=message) as error:
        open_image(path)
    assert "wrong.ome.tif" in str(error.value)


@pytest.mark.parametrize("options", [{}, {"tile": (64, 64)}, {"tile": (64, 64), "compression": "deflate"}])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path, noise, options, kept):
    path = write(tmp_path / "cut.tif", noise(400, 400), **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageError, match=r"cut\.tif.*Copy the file again"):
        open_image(path)


def test_a_damaged_tile_is_an_image_error(tmp_path, noise):
    path = write(tmp_path / "damaged.tif", noise(256, 256), tile=(64, 64), compression="deflate")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[5]
    content = bytearray(path.read_bytes())
    content[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(content)
    with open_image(path) as reader, pytest.raises(ImageError, match=r"damaged\.tif is damaged"):
        whole(reader)


def test_a_header_and_nothing_else_is_an_image_error(tmp_path):
    path = tmp_path / "head.tif"
    path.write_bytes(b"II*\0\x08\0\0\0")
    with pytest.raises(ImageError, match=r"head\.tif holds no image"):
        open_image(path)


def test_a_damaged_file_is_told_in_words_and_tifffile_adds_no_line_of_its_own(tmp_path, noise, caplog):
    path = write(tmp_path / "damaged.tif", noise(64, 64), tile=(64, 64))
    content = path.read_bytes()
    told = []
    for at in range(4, 600):
        path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        try:
            open_image(path).close()
        except ImageError as error:
            told.append(str(error))
    assert len(told) > 20
    assert not [text for text in told if "damaged.tif" not in text or _OF_LIBRARIES.search(text)]
    assert not caplog.messages


@pytest.mark.parametrize(("y_um", "said"), [(0.5, []), (0.504, []), (1.0, ["0.5 × 1 µm", "12 % too large"])])
def test_pixels_that_are_no_squares_are_said(tmp_path, noise, caplog, y_um, said):
    resolution = (10_000 / 0.5, 10_000 / y_um)
    write(tmp_path / "oblong.tif", noise(64, 64), resolution=resolution, resolutionunit="CENTIMETER")
    with open_image(tmp_path / "oblong.tif") as reader:
        assert reader.pixel_size_um == pytest.approx((0.5 + y_um) / 2)
    assert len(caplog.messages) == bool(said)
    assert all(part in caplog.text for part in said)
