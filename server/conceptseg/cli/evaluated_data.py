"""Data sets to evaluate on: folders of images with masks, and folders of tiles by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from conceptseg.domain.errors import ImageError, InvalidRequestError
from conceptseg.pipeline.scores import Mask


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images with masks.

    Attributes:
        name: The folder's; ``SET`` of ``SET/images``.
        files: Image and mask of each.
        pixel_size_um: µm per full-resolution px, where the files do not say.
    """

    name: str
    files: tuple[tuple[Path, Path], ...]
    pixel_size_um: float | None


@dataclass(frozen=True, kw_only=True)
class TileSet:
    """Tiles that are of one class each.

    Attributes:
        name: The folder's.
        files: Tile and index of its class, in the order of the classes' folders.
        pixel_size_um: µm per full-resolution px, where the files do not say.
    """

    name: str
    files: tuple[tuple[Path, int], ...]
    pixel_size_um: float | None


def find_data(
    images: Sequence[Path], masks: Sequence[Path], tiles: Sequence[Path], *, pixel_sizes_um: Sequence[float]
) -> tuple[ImageSet | TileSet, ...]:
    """Find all files before the work begins.

    Args:
        images: Folders with images.
        masks: For each, the folder with a PNG of class indices of the same stem for every image.
        tiles: Folders with one folder of tiles per class.
        pixel_sizes_um: None, one for all, or one for each of ``images`` and then of ``tiles``.

    Raises:
        InvalidRequestError: what is missing, or does not pair up.
    """
    if len(images) != len(masks):
        raise InvalidRequestError(f"Expected as many --masks as --images, got {len(masks)} and {len(images)}.")
    total = len(images) + len(tiles)
    if total == 0:
        raise InvalidRequestError("Expected --images with --masks, or --tiles.")
    if len(pixel_sizes_um) not in (0, 1, total):
        raise InvalidRequestError(
            f"Expected one --pixel-size-um for all, or one for each of {total} data sets (those of --images first, "
            f"then those of --tiles), got {len(pixel_sizes_um)}."
        )
    sizes: list[float | None] = [*pixel_sizes_um] or [None]
    if len(sizes) == 1:
        sizes *= total
    found: list[ImageSet | TileSet] = [
        ImageSet(name=_name(folder), files=_pairs(folder, mask), pixel_size_um=size)
        for folder, mask, size in zip(images, masks, sizes[: len(images)], strict=True)
    ]
    for folder, size in zip(tiles, sizes[len(images) :], strict=True):
        found.append(TileSet(name=_name(folder), files=_tiles(folder), pixel_size_um=size))
    names = [data.name for data in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequestError(f"Two data sets are called {name}. Rename a folder: results go by these names.")
    return tuple(found)


def read_mask(path: Path) -> Mask:
    """The class indices of a mask, (height, width).

    Raises:
        ImageError: no such picture, or one with colours.
    """
    try:
        with Image.open(path) as image:
            mask = np.asarray(image)
    except OSError as error:
        raise ImageError(f"{path} cannot be read as a mask: {error}. Expected a PNG of class indices.") from error
    if mask.ndim != 2:
        raise ImageError(f"{path} has colours (shape {mask.shape}). Expected one class index per pixel.")
    return mask.astype(np.uint16)


def _name(folder: Path) -> str:
    folder = folder.resolve()
    return folder.parent.name if folder.name == "images" else folder.name


def _pairs(images: Path, masks: Path) -> tuple[tuple[Path, Path], ...]:
    for folder in (images, masks):
        if not folder.is_dir():
            raise InvalidRequestError(f"{folder}: no such folder. Expected a folder of images and one of masks.")
    found = tuple((file, masks / f"{file.stem}.png") for file in _files(images))
    missing = [mask.name for _, mask in found if not mask.is_file()]
    if missing or not found:
        raise InvalidRequestError(
            f"{masks} lacks {len(missing)} of {len(found)} masks ({', '.join(missing[:3])}). Expected a PNG of class "
            f"indices with the same stem for every image in {images}."
        )
    return found


def _tiles(folder: Path) -> tuple[tuple[Path, int], ...]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = tuple((file, number) for number, path in enumerate(classes) for file in _files(path))
    if len({number for _, number in found}) < 2:
        raise InvalidRequestError(f"{folder}: expected a folder of tiles for each of at least two classes.")
    return found


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
