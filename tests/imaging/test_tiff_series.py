"""Several images in one TIFF file."""

import numpy as np
import pytest
import tifffile

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.reader import open_image


def write(path, *images, levels=0):
    """Write an OME-TIFF of named images, each with ``levels`` smaller ones in SubIFDs."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for name, pixels, *um in images:
            side = {"PhysicalSizeX": um[0], "PhysicalSizeY": um[0]} if um else {}
            metadata = {"axes": "YXS", "Name": name} | side
            file.write(pixels, photometric="rgb", tile=(64, 64), subifds=levels, metadata=metadata)
            for level in range(1, levels + 1):
                # Another colour than the full resolution's, so that a test sees which was read.
                smaller = np.full_like(pixels[:: 2**level, :: 2**level], 10 * level)
                file.write(smaller, photometric="rgb", tile=(64, 64), subfiletype=1)
    return path


def shown(path, **options):
    with open_image(path, **options) as reader:
        return reader.read(x=0, y=0, width=reader.width, height=reader.height, scale_x=1, scale_y=1)


@pytest.mark.parametrize("extra", ["label", "Macro", "overview image", "Thumbnail"])
def test_a_label_or_macro_before_the_slide_is_not_taken(tmp_path, noise, caplog, extra):
    slide = noise(128, 192, seed=1)
    # Larger than the slide, as scans of a whole glass can be: its name says what it is.
    path = write(tmp_path / "first.ome.tif", (extra, noise(256, 256), 16.0), ("slide", slide, 0.499))
    with open_image(path) as reader:
        assert (reader.width, reader.height) == (192, 128)
        assert reader.pixel_size_um == pytest.approx(0.499)
    np.testing.assert_array_equal(shown(path), slide)
    assert f"holds 2 images: 0 {extra} (256 × 256 px), 1 slide (192 × 128 px)" in caplog.text
    assert "Image 1 is taken, as QuPath proposes; --series takes another." in caplog.text


@pytest.mark.parametrize(("first", "taken"), [(64, 1), (100, 0), (256, 0)])
def test_the_first_image_is_taken_unless_another_is_far_larger(tmp_path, noise, first, taken):
    images = [("A", noise(first, first, seed=1)), ("B", noise(192, 192, seed=2)), ("C", noise(64, 64, seed=3))]
    path = write(tmp_path / "several.ome.tif", *images)
    np.testing.assert_array_equal(shown(path), images[taken][1])


def test_any_image_can_be_asked_for_by_its_number_with_its_own_pixel_size(tmp_path, noise, caplog):
    images = [("A", noise(64, 96, seed=1), 0.25), ("B", noise(96, 64, seed=2), 0.5), ("", noise(64, 64, seed=3), 2.0)]
    path = write(tmp_path / "several.ome.tif", *images)
    for number, (_, pixels, size) in enumerate(images):
        np.testing.assert_array_equal(shown(path, series=number), pixels)
        with open_image(path, series=number) as reader:
            assert reader.pixel_size_um == pytest.approx(size)
    assert not caplog.messages


@pytest.mark.parametrize("series", [2, 7])
def test_an_image_that_is_not_there_is_refused_with_a_list(tmp_path, noise, series):
    path = write(tmp_path / "two.ome.tif", ("A", noise(64, 64)), ("B", noise(64, 80)))
    with pytest.raises(ImageError, match=rf"has no image {series}\. It holds 0 A \(64 × 64 px\), 1 B .*--series"):
        open_image(path, series=series)


def test_a_picture_holds_one_image(tmp_path, noise):
    from PIL import Image

    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(shown(tmp_path / "a.png", series=0), noise(8, 8))
    with pytest.raises(ImageError, match="no image 1"):
        open_image(tmp_path / "a.png", series=1)


def test_every_image_has_the_levels_of_its_own(tmp_path, noise):
    images = [("A", noise(256, 256, seed=1)), ("B", noise(192, 320, seed=2))]
    path = write(tmp_path / "pyramids.ome.tif", *images, levels=2)
    for number, (_, pixels) in enumerate(images):
        with open_image(path, series=number) as reader:
            height, width = pixels.shape[:2]
            for level in (1, 2):
                scale = 2**level
                small = reader.read(
                    x=0, y=0, width=width // scale, height=height // scale, scale_x=scale, scale_y=scale
                )
                assert (small == 10 * level).all()
        np.testing.assert_array_equal(shown(path, series=number), pixels)


def test_a_slide_with_levels_may_be_called_macro(tmp_path, noise):
    path = write(tmp_path / "pyramid.ome.tif", ("macro", noise(128, 128, seed=1)), ("B", noise(128, 128)), levels=1)
    np.testing.assert_array_equal(shown(path), noise(128, 128, seed=1))


def test_a_preview_before_the_slide_of_a_plain_tiff_is_not_taken(tmp_path, noise, caplog):
    path = tmp_path / "plain.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(noise(50, 70), photometric="rgb", metadata=None)
        file.write(noise(300, 400, seed=1), photometric="rgb", tile=(64, 64), metadata=None)
    np.testing.assert_array_equal(shown(path), noise(300, 400, seed=1))
    assert "Image 1 is taken, by far the largest; --series takes another." in caplog.text
    np.testing.assert_array_equal(shown(path, series=0), noise(50, 70))


def test_numbers_stay_those_of_the_file_where_an_image_cannot_be_read(tmp_path, noise):
    images = [("A", noise(64, 64, seed=1)), ("B", noise(64, 80, seed=2)), ("C", noise(64, 96, seed=3))]
    path = write(tmp_path / "hole.ome.tif", *images)
    # The second image names a page behind the last.
    path.write_bytes(path.read_bytes().replace(b'<TiffData IFD="1"', b'<TiffData IFD="9"'))
    np.testing.assert_array_equal(shown(path, series=2), images[2][1])
    with pytest.raises(ImageError, match=r"no image 1\. It holds 0 A .*, 2 C"):
        open_image(path, series=1)


def test_files_of_other_folders_are_not_opened(tmp_path, noise):
    (tmp_path / "in").mkdir()
    secret = write(tmp_path / "secret.ome.tif", ("secret", noise(64, 64, seed=9)))
    path = write(tmp_path / "in" / "first.ome.tif", ("slide", noise(64, 64)))
    with tifffile.TiffFile(path) as file, tifffile.TiffFile(secret) as other:
        description, uuid = file.ome_metadata, other.ome_metadata.split('UUID="')[1].split('"')[0]
    away = f'PlaneCount="1"><UUID FileName="../secret.ome.tif">{uuid}</UUID></TiffData>'
    tifffile.tiffcomment(path, description.replace('PlaneCount="1"/>', away).encode())
    with pytest.raises(ImageError, match=r"first\.ome\.tif keeps planes in \.\./secret\.ome\.tif"):
        open_image(path)


def test_the_file_of_a_report_gives_the_slide(shared_data, caplog):
    path = shared_data.parent / "cases" / "series" / "macro_first.ome.tif"
    with open_image(path) as reader:
        assert (reader.width, reader.height) == (1024, 1024)
        assert reader.pixel_size_um == pytest.approx(0.499)
    assert "0 macro (1280 × 431 px), 1 slide (1024 × 1024 px)" in caplog.text
