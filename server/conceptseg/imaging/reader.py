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
        z: The z-slice that is read, from 0; the one that QuPath shows first unless `at` chose another.
        t: The time point that is read, from 0; likewise.
        z_slices: Number of z-slices.
        time_points: Number of time points.
    """

    name: str
    width: int
    height: int
    pixel_size_um: float | None
    z: int
    t: int
    z_slices: int
    time_points: int

    @property
    def coarsest(self) -> float:
        """Full-resolution px per px of the smallest level."""

    def at(self, *, z: int, t: int) -> ImageReader:
        """The same image at another plane. It shares the file with this reader, whose `close` closes both.

        Args:
            z: The z-slice, from 0.
            t: The time point, from 0.

        Raises:
            RegionError: the image has no such plane.
            ImageError: the file is damaged there.
        """

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


def open_image(path: Path | str, *, series: int | None = None) -> ImageReader:
    """Open an image file: whole slides by OpenSlide, TIFF and OME-TIFF, PNG, JPEG, WebP, BMP.

    Tiled TIFF that is no scanner's own format is read here and not by OpenSlide, which sees neither the
    levels nor the pixel size of an OME-TIFF.

    Args:
        path: The file; of a slide with several files (MIRAX) the one that QuPath opens. The folder of a DICOM slide.
        series: Number of the image inside the file, from 0, as QuPath counts them; None for the one that it proposes.

    Raises:
        ImageError: no such file, not an image, truncated, not 8-bit RGB, or without such an image inside. The message
            names the way out.
    """
    from conceptseg.imaging import openslide_reader, pillow_reader, tiff_reader

    path = Path(path)
    if path.is_dir():
        path = openslide_reader.dicom_slide(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {path}. Check the path.") from error
    except OSError as error:
        raise ImageError(f"Cannot read {path}: {error.strerror or error}. Check its permissions.") from error
    if not start:
        raise ImageError(f"{path} is empty: expected an image. Copy the file again.")
    is_slide = openslide_reader.is_slide(path)
    if start in _TIFF_STARTS and not is_slide:
        return tiff_reader.open_tiff(path, series=series)
    if series:
        raise ImageError(f"{path.name} holds one image, number 0, that can be read here: there is no image {series}.")
    if is_slide:
        return openslide_reader.open_slide(path)
    return pillow_reader.open_picture(path)
