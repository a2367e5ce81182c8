"""The folder of a DICOM slide."""

import numpy as np
import pytest
from PIL import Image
from tests.imaging.dicom import uid, write_dicom

from conceptseg.cli.image_inputs import find_images
from conceptseg.domain.errors import ImageError
from conceptseg.imaging.reader import open_image


@pytest.fixture
def slide(noise):
    """Writes a slide of two levels into a folder."""

    def make(folder, *, prefix="", suffix=".dcm", seed=0):
        folder.mkdir(exist_ok=True)
        series, array = uid(), noise(150, 200, seed=seed)
        # OpenSlide starts with any file of a slide: the first by name is the small level.
        write_dicom(folder / f"{prefix}a{suffix}", array[::2, ::2], series=series, pixel_size_um=1.0)
        write_dicom(folder / f"{prefix}b{suffix}", array, series=series, pixel_size_um=0.5)
        return array

    return make


def whole(reader):
    return reader.read(x=0, y=0, width=reader.width, height=reader.height, scale_x=1, scale_y=1)


@pytest.mark.parametrize("suffix", [".dcm", "", ".1"])
def test_the_folder_of_a_slide_is_the_slide(tmp_path, slide, suffix):
    array = slide(tmp_path / "slide", suffix=suffix)
    (tmp_path / "slide" / "notes.txt").write_text("DICM")
    with open_image(tmp_path / "slide") as reader:
        assert reader.pixel_size_um == pytest.approx(0.5)
        np.testing.assert_array_equal(whole(reader), array)


def test_of_a_folder_with_several_slides_a_file_must_be_named(tmp_path, slide):
    folder = tmp_path / "slides"
    slide(folder, prefix="1")
    second = slide(folder, prefix="2", seed=5)
    with pytest.raises(ImageError, match=r"slides holds 2 DICOM slides.*1a\.dcm, 2a\.dcm"):
        open_image(folder)
    with open_image(folder / "2a.dcm") as reader:
        np.testing.assert_array_equal(whole(reader), second)


def test_other_files_of_dicom_are_no_slide(tmp_path, slide):
    folder = tmp_path / "slide"
    array = slide(folder)
    (folder / "0report.dcm").write_bytes(bytes(128) + b"DICM" + bytes(64))
    with open_image(folder) as reader:
        np.testing.assert_array_equal(whole(reader), array)
    for name in ("a.dcm", "b.dcm"):
        (folder / name).unlink()
    with pytest.raises(ImageError, match="expected an image file, or the folder of a DICOM slide"):
        open_image(folder)


def test_any_other_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="is a folder: expected an image file"):
        open_image(tmp_path)


def test_a_folder_of_slides_holds_files_and_folders(tmp_path, slide, noise):
    array = slide(tmp_path / "dicom")
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    images = {image.path.name: image for image in find_images([tmp_path])}
    assert sorted(images) == ["a.png", "dicom"]
    with images["dicom"].open() as reader:
        np.testing.assert_array_equal(whole(reader), array)
