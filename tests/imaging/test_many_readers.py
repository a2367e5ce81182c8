"""Beside a GPU up to eight threads read one image at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.openslide_reader import OpenSlideReader
from conceptseg.imaging.reader import ImageReader, open_image
from conceptseg.imaging.source import open_region

SIZE = 1500
READERS = 8


def tiled(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", compression="jpeg")


def in_strips(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, rowsperstrip=64, photometric="rgb", compression="lzw")


def pyramid(path: Path, pixels: np.ndarray) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, tile=(128, 128), photometric="rgb", compression="jpeg", subifds=1)
        file.write(pixels[::2, ::2], tile=(128, 128), photometric="rgb", compression="jpeg", subfiletype=1)


def picture(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def opened(write: Callable[[Path, np.ndarray], None], name: str) -> Callable[[Path, np.ndarray], ImageReader]:
    def open_written(folder: Path, pixels: np.ndarray) -> ImageReader:
        write(folder / name, pixels)
        return open_image(folder / name)

    return open_written


def by_openslide(folder: Path, pixels: np.ndarray) -> ImageReader:
    tiled(folder / "slide.tif", pixels)
    return OpenSlideReader(openslide.OpenSlide(folder / "slide.tif"), name="slide.tif")


@pytest.mark.parametrize(
    "make",
    [
        by_openslide,
        opened(tiled, "tiled.tif"),
        opened(in_strips, "strips.tif"),
        opened(pyramid, "pyramid.tif"),
        opened(picture, "picture.png"),
        opened(picture, "picture.jpg"),
        lambda _, pixels: ArrayReader(pixels, name="array", pixel_size_um=0.5),
    ],
    ids=["openslide", "tiled TIFF", "TIFF in strips", "TIFF pyramid", "PNG", "JPEG", "array"],
)
@pytest.mark.parametrize("pixel_size_um", [0.5, 0.31])
def test_they_all_get_the_pixels_that_one_gets(
    make: Callable[[Path, np.ndarray], ImageReader],
    pixel_size_um: float,
    tmp_path: Path,
    noise: Callable[..., np.ndarray],
) -> None:
    with make(tmp_path, noise(SIZE, SIZE)) as reader:
        source = open_region(reader, region=None, pixel_size_um=0.5, image_pixel_size_um=pixel_size_um)
        starts = range(-60, source.grid.width, 170)
        boxes = [{"x": x, "y": y, "width": 230, "height": 250} for y in starts for x in starts]
        with ThreadPoolExecutor(READERS) as pool:
            together = list(pool.map(lambda box: source.read(**box), boxes * 2))
        for box, block in zip(boxes * 2, together, strict=True):
            np.testing.assert_array_equal(block, source.read(**box))
