"""PNG, JPEG, WebP and BMP: small pictures held whole in memory.

EXIF orientation is ignored, as in QuPath, so that regions and polygons mean the same pixels in both. Of a
file with several frames the first is read. Colour profiles are not applied, as in QuPath.
"""

from __future__ import annotations

import threading
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.levels import Rgb

MAX_PX = 500_000_000
"""Largest picture, in px, that is worth holding in memory (1.5 GB of RGB)."""

_pillow_limit = threading.Lock()


def open_picture(path: Path) -> ArrayReader:
    """Read a picture whole.

    The reader has no pixel size: the print resolution that cameras and editors write into a PNG or a JPEG
    says nothing about the microscope.

    Args:
        path: A PNG, JPEG, WebP or BMP file.

    Raises:
        ImageError: not an image, truncated, larger than 500 million px, or not 8-bit RGB.
    """
    return ArrayReader(_rgb(path), name=path.name, pixel_size_um=None)


def _rgb(path: Path) -> Rgb:
    try:
        with _pillow_limit:
            # Pillow's own limit (a warning above 89 million px) takes scans of whole slides for attacks.
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except Exception as error:
        raise ImageError(
            f"{path} is not an image this program reads ({error}). Expected a slide that OpenSlide knows, "
            "TIFF, OME-TIFF, PNG, JPEG, WebP or BMP. Convert it, for example with QuPath: "
            "File > Export images > OME TIFF."
        ) from error
    with image:
        width, height = image.size
        if width * height > MAX_PX:
            raise ImageError(
                f"{path} is {width} × {height} px; a {image.format} file is held in memory and may have at "
                f"most {MAX_PX:,} px. Convert it to a pyramidal OME-TIFF."
            )
        _require_8_bit_colour(image, path)
        try:
            return _over_white(image)
        except Exception as error:
            raise ImageError(f"{path} is damaged or truncated ({error}). Copy or export the file again.") from error


def _require_8_bit_colour(image: Image.Image, path: Path) -> None:
    if image.mode.startswith(("I", "F")) or _is_16_bit_png(image, path):
        raise ImageError(
            f"{path} has more than 8 bits per channel{_range(image, path)}: expected 8-bit RGB. Convert it to 8 bit."
        )
    if image.mode in ("1", "L", "LA", "La"):
        raise ImageError(
            f"{path} is grayscale (mode {image.mode}): expected the colours of an H&E stain. Use the RGB original."
        )
    if image.mode not in ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA"):
        # Pillow turns CMYK into RGB without the ink profile, which shifts the stain colours visibly.
        raise ImageError(f"{path} is {image.mode}: expected RGB. Convert it to RGB with its colour profile applied.")


def _over_white(image: Image.Image) -> Rgb:
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        glass = Image.new("RGBA", image.size, "white")
        glass.alpha_composite(image.convert("RGBA"))
        image = glass
    return np.array(image.convert("RGB") if image.mode != "RGB" else image)


def _is_16_bit_png(image: Image.Image, path: Path) -> bool:
    """Pillow reads 16-bit RGB silently as 8 bit, so the file's own header (the 25th byte) is asked."""
    if image.format != "PNG":
        return False
    with path.open("rb") as file:
        header = file.read(25)
    return len(header) == 25 and header[24] == 16


def _range(image: Image.Image, path: Path) -> str:
    try:
        pixels = imagecodecs.png_decode(path.read_bytes()) if image.format == "PNG" else np.asarray(image)
    except Exception:  # noqa: BLE001 - the range only decorates a message that is raised anyway
        return ""
    return f" (values {pixels.min()} to {pixels.max()})"
