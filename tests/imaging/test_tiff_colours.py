"""RGB that is stored in other ways than as RGB, and what is none."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.reader import open_image


def whole(path):
    with open_image(path) as reader:
        return reader.read(x=0, y=0, width=reader.width, height=reader.height, scale_x=1, scale_y=1)


def photometric(path):
    with tifffile.TiffFile(path) as file:
        return file.pages[0].photometric


def planes(path, array, names, **options):
    metadata = {"axes": "CYX"} | ({"Channel": {"Name": list(names)}} if names else {})
    tifffile.imwrite(path, np.moveaxis(array, -1, 0), photometric="minisblack", metadata=metadata, **options)
    return path


@pytest.mark.parametrize("names", ["Red Green Blue", "red green blue", "R G B", "Blue Green Red", "G R B"])
def test_three_grey_planes_with_the_names_of_colours_are_rgb(tmp_path, noise, names):
    array = noise(70, 90)
    order = ["rgb".index(name[0].lower()) for name in names.split()]
    path = planes(tmp_path / "planes.ome.tif", array[..., order], names.split(), tile=(32, 32))
    np.testing.assert_array_equal(whole(path), array)


def test_the_levels_of_three_planes_are_used(tmp_path, noise):
    path = tmp_path / "pyramid.ome.tif"
    channels = {"axes": "CYX", "Channel": {"Name": ["Red", "Green", "Blue"]}}
    with tifffile.TiffWriter(path, ome=True) as file:
        full = np.moveaxis(noise(128, 128), -1, 0)
        file.write(full, photometric="minisblack", tile=(32, 32), subifds=1, metadata=channels)
        file.write(np.moveaxis(noise(64, 64, seed=5), -1, 0), photometric="minisblack", tile=(32, 32), subfiletype=1)
    with open_image(path) as reader:
        small = reader.read(x=0, y=0, width=64, height=64, scale_x=2, scale_y=2)
    np.testing.assert_array_equal(small, noise(64, 64, seed=5))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_ome_says_that_three_grey_samples_are_rgb(tmp_path, noise, planar):
    array = noise(40, 60)
    data = np.moveaxis(array, -1, 0) if planar == "separate" else array
    axes = "SYX" if planar == "separate" else "YXS"
    path = tmp_path / "samples.ome.tif"
    tifffile.imwrite(path, data, photometric="rgb", planarconfig=planar, metadata={"axes": axes})
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(tifffile.PHOTOMETRIC.MINISBLACK)
    assert photometric(path) == tifffile.PHOTOMETRIC.MINISBLACK
    np.testing.assert_array_equal(whole(path), array)


def test_imagejs_rgb_stack_is_rgb(tmp_path, noise):
    array = noise(40, 60)
    path = tmp_path / "stack.tif"
    metadata = {"axes": "ZYX", "Labels": ["Red", "Green", "Blue"]}
    tifffile.imwrite(path, np.moveaxis(array, -1, 0), imagej=True, metadata=metadata)
    np.testing.assert_array_equal(whole(path), array)


@pytest.mark.parametrize(("colours", "mode"), [(256, "P"), (16, "P")])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_palette_tiff_is_read_as_a_palette_png_is(tmp_path, smooth, colours, mode, compression):
    picture = Image.fromarray(smooth).quantize(colours)
    assert picture.mode == mode
    picture.save(tmp_path / "palette.png")
    picture.save(tmp_path / "palette.tif", compression=compression)
    assert photometric(tmp_path / "palette.tif") == tifffile.PHOTOMETRIC.PALETTE
    np.testing.assert_array_equal(whole(tmp_path / "palette.tif"), whole(tmp_path / "palette.png"))


def test_a_palette_of_four_bits(tmp_path):
    colours = np.zeros((3, 16), np.uint16)
    colours[0], colours[2] = np.arange(16) * 4096, 65535
    numbers = np.arange(64 * 33, dtype=np.uint8).reshape(64, 33) % 16
    path = tmp_path / "four.tif"
    tifffile.imwrite(path, numbers, photometric="palette", colormap=np.resize(colours, (3, 256)))
    # tifffile writes 8 bits only: the 4-bit file is put together by hand.
    packed = np.zeros((64, 17), np.uint8)
    padded = np.pad(numbers, ((0, 0), (0, 1)))
    packed[:] = padded[:, ::2] << 4 | padded[:, 1::2]
    write_four_bit(path, packed, width=33, colours=colours)
    expected = np.zeros((64, 33, 3), np.uint8)
    expected[..., 0], expected[..., 2] = numbers * 16, 255
    np.testing.assert_array_equal(whole(path), expected)


def write_four_bit(path, packed, *, width, colours):
    import struct

    tags = [
        (256, 3, 1, width),
        (257, 3, 1, len(packed)),
        (258, 3, 1, 4),
        (259, 3, 1, 1),
        (262, 3, 1, 3),
        (273, 4, 1, 8 + 2 + 12 * 10 + 4 + 96),
        (277, 3, 1, 1),
        (278, 3, 1, len(packed)),
        (279, 4, 1, packed.size),
        (320, 3, 48, 8 + 2 + 12 * 10 + 4),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    path.write_bytes(head + colours.astype("<u2").tobytes() + packed.tobytes())


def test_a_tile_that_was_left_out_of_a_palette_is_its_lightest_colour(tmp_path):
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 7] = 65535
    path = tmp_path / "sparse.tif"

    def tiles():
        yield np.zeros((64, 64), np.uint8)
        yield None

    tifffile.imwrite(
        path, tiles(), shape=(64, 128), dtype=np.uint8, photometric="palette", colormap=colours, tile=(64, 64)
    )
    assert (whole(path)[:, 64:] == 255).all()


FLUORESCENCE = {
    "five of 8 bits": (np.zeros((5, 64, 64), np.uint8), (), "5 separate channels, as of fluorescence"),
    "four of 16 bits": (
        np.zeros((4, 64, 64), np.uint16),
        ("DAPI", "CD3", "CD8", "PD1"),
        r"4 separate channels \(DAPI, CD3, CD8, PD1\), as of fluorescence",
    ),
    "three with names of dyes": (np.zeros((3, 64, 64), np.uint8), ("DAPI", "FITC", "TRITC"), r"3 .*DAPI, FITC, TRITC"),
    "two": (np.zeros((2, 64, 64), np.uint8), (), "2 separate channels"),
}


@pytest.mark.parametrize("kind", FLUORESCENCE)
def test_fluorescence_gets_advice_that_fits(tmp_path, kind):
    array, names, message = FLUORESCENCE[kind]
    path = planes(tmp_path / "dyes.ome.tif", np.moveaxis(array, 0, -1), names)
    with pytest.raises(ImageError, match=message) as error:
        open_image(path)
    assert "use a brightfield scan" in str(error.value)
    assert "8 bit" not in str(error.value)
    assert "--" not in str(error.value)


def test_three_planes_without_names_are_not_guessed_at(tmp_path, noise):
    path = planes(tmp_path / "unknown.ome.tif", noise(64, 64), ())
    with pytest.raises(ImageError, match=r"call the channels Red, Green and Blue.*Stack to RGB"):
        open_image(path)


def test_three_planes_of_16_bits_are_told_of_the_bits(tmp_path, noise):
    path = planes(tmp_path / "deep.ome.tif", noise(64, 64).astype(np.uint16), ("Red", "Green", "Blue"))
    with pytest.raises(ImageError, match=r"uint16 pixels.*Convert it to 8 bit"):
        open_image(path)


def test_the_planes_of_a_report_are_rgb(shared_data):
    path = shared_data.parent / "cases" / "planes" / "he_cyx.ome.tif"
    np.testing.assert_array_equal(whole(path), np.moveaxis(tifffile.imread(path), 0, -1))
