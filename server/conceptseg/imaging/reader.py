"""What an image is to the rest of the program, and how a file becomes one."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.levels import Rgb


class ImageReader(Protocol):
    """An RGB image that is read in pieces.

    Attributes:
        name: What messages call the image, usually the file name.
        width: Full-resolution px per row, as QuPath shows the image.
        height: Full-resolution px per column.
        pixel_size_um: µm per full-resolution px, mean of x and y; None when uncalibrated.
    """

    name: str
    width: int
    height: int
    pixel_size_um: float | None

    def read(self, *, x: float, y: float, width: int, height: int, scale_x: float, scale_y: float) -> Rgb:
        """Read a block of output pixels; safe to call from several threads.

        Output pixel (i, j) is the area mean of the full-resolution box
        [x + j * scale_x, x + (j + 1) * scale_x) × [y + i * scale_y, y + (i + 1) * scale_y), taken from the
        coarsest level that is not coarser than asked. It does not depend on the block it is read in. Where an
        output pixel is exactly one pixel of a level, it is that pixel.

        Args:
            x: Left edge in full-resolution px; may lie outside the image.
            y: Top edge in full-resolution px.
            width: Output px per row.
            height: Output px per column.
            scale_x: Full-resolution px per output px along x, may be fractional.
            scale_y: Full-resolution px per output px along y.

        Returns:
            uint8 (height, width, 3) RGB, writable. Outside the image its nearest edge pixel.

        Raises:
            ImageError: the file is damaged.
            InvalidRequestError: an empty block or a scale that is not positive.
        """

    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_image(path: Path | str) -> ImageReader:
    """Open an image file: whole slides by OpenSlide, TIFF and OME-TIFF, PNG, JPEG, WebP, BMP.

    Tiled TIFF that is no scanner's own format is read here and not by OpenSlide, which sees neither the
    levels nor the pixel size of an OME-TIFF.

    Args:
        path: The file; of a slide with several files (MIRAX) the one that QuPath opens.

    Raises:
        ImageError: no such file, not an image, truncated, or not 8-bit RGB. The message names the way out.
    """
    from conceptseg.imaging import openslide_reader, pillow_reader, tiff_reader

    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder: expected an image file. Name one image inside it.")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {path}. Check the path.") from error
    except OSError as error:
        raise ImageError(f"Cannot read {path}: {error.strerror or error}. Check its permissions.") from error
    if not start:
        raise ImageError(f"{path} is empty: expected an image. Copy the file again.")
    if openslide_reader.is_slide(path):
        return openslide_reader.open_slide(path)
    if start in _TIFF_STARTS:
        return tiff_reader.open_tiff(path)
    return pillow_reader.open_picture(path)
