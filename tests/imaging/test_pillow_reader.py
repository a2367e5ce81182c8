"""Pictures from a camera or an export."""

import numpy as np
import pytest
from PIL import Image

from conceptseg.domain.errors import ImageError
from conceptseg.imaging import pillow_reader
from conceptseg.imaging.reader import open_image


def pixels(path):
    with open_image(path) as reader:
        assert reader.pixel_size_um is None
        return reader.read(x=0, y=0, width=reader.width, height=reader.height, scale_x=1, scale_y=1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_lossless_pictures_come_back_as_they_are(tmp_path, noise, suffix):
    array = noise(60, 90)
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(array).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(pixels(path), array)


def test_a_jpeg_is_read_to_rgb(tmp_path, smooth):
    path = tmp_path / "picture.jpg"
    Image.fromarray(smooth).save(path, quality=95)
    assert np.abs(pixels(path).astype(int) - smooth).mean() < 2


def test_a_palette_is_resolved(tmp_path):
    image = Image.new("P", (20, 10), 1)
    image.putpalette([0, 0, 0, 200, 30, 90])
    image.save(tmp_path / "palette.png")
    assert (pixels(tmp_path / "palette.png") == (200, 30, 90)).all()


def test_transparent_parts_show_white_glass(tmp_path):
    array = np.zeros((8, 8, 4), np.uint8)
    array[:, :, 0], array[4:, :, 3] = 200, 255
    Image.fromarray(array).save(tmp_path / "alpha.png")
    got = pixels(tmp_path / "alpha.png")
    assert (got[:4] == 255).all()
    assert (got[4:] == (200, 0, 0)).all()


def test_the_print_resolution_is_no_calibration_and_the_camera_is_not_turned(tmp_path, smooth):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    path = tmp_path / "photo.jpg"
    Image.fromarray(smooth).save(path, exif=exif, dpi=(72, 72))
    assert pixels(path).shape == smooth.shape


def save_16_bit_rgb(path):
    """Pillow cannot write 16-bit RGB."""
    import imagecodecs

    array = np.full((8, 8, 3), 4000, np.uint16)
    array[0, 0] = 17
    path.write_bytes(imagecodecs.png_encode(array))


REFUSED = {
    "16-bit RGB": (save_16_bit_rgb, r"more than 8 bits.*17 to 4000.*Convert it to 8 bit"),
    "16-bit gray": (
        lambda p: Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(p),
        r"more than 8 bits.*4000 to 4000",
    ),
    "grayscale": (lambda p: Image.new("L", (8, 8)).save(p), "grayscale.*RGB original"),
    "black and white": (lambda p: Image.new("1", (8, 8)).save(p), "grayscale.*RGB original"),
    "CMYK": (lambda p: Image.new("CMYK", (8, 8)).save(p, format="JPEG"), "is CMYK: expected RGB.*profile"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_8_bit_rgb_is_refused_with_the_way_out(tmp_path, kind):
    save, message = REFUSED[kind]
    path = tmp_path / "wrong.png"
    save(path)
    with pytest.raises(ImageError, match=message) as error:
        open_image(path)
    assert "wrong.png" in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_an_image_error(tmp_path, noise, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ImageError, match="damaged or truncated"):
        open_image(path)


def test_a_picture_that_is_too_large_for_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("RGB", (100, 60)).save(tmp_path / "large.png")
    monkeypatch.setattr(pillow_reader, "MAX_PX", 5000)
    with pytest.raises(ImageError, match=r"100 × 60 px.*pyramidal OME-TIFF"):
        open_image(tmp_path / "large.png")


def test_pillows_own_limit_does_not_stop_a_large_scan(tmp_path, monkeypatch):
    Image.new("RGB", (100, 60)).save(tmp_path / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert pixels(tmp_path / "scan.png").shape == (60, 100, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_what_is_no_image_names_what_can_be_read(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no image at all")
    with pytest.raises(ImageError, match=r"notes\.txt is not an image.*OME-TIFF.*QuPath"):
        open_image(path)


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path):
    with pytest.raises(ImageError, match="There is no file"):
        open_image(tmp_path / "missing.svs")
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="is empty"):
        open_image(tmp_path / "empty.png")
