"""Slides of any size, made of real tissue."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from conceptseg.imaging.levels import Rgb

TILE_PX = 512
_TEXTURE_TILES = 4
_QUALITY = 90
_ISLAND_TILES = 5.0
"""Width (sd) of what the random field is smoothed with."""

_LEVELS = (1, 4, 16)


def synthetic_slide(path: Path, texture: Rgb, *, side_px: int, tissue_share: float, seed: int = 0) -> float:
    """Write a pyramidal tiled JPEG TIFF at 0.5 µm/px: islands of tissue on glass.

    Tissue is ``texture`` and its mirror images, so that it goes on smoothly from tile to tile. Which tiles are
    tissue is a smooth random field cut at ``tissue_share``: pieces of some millimetres, of the same share and as long
    an edge per area at any size of the slide.

    Args:
        path: The file.
        texture: (h, w, 3) real tissue, mirrored where it is smaller than 2048 px.
        side_px: Side of the slide in px, rounded down to whole tiles of 512 px.
        tissue_share: Share of the area that is tissue, 0 … 1.
        seed: Seed of where the tissue is.

    Returns:
        Tissue in mm².
    """
    count = side_px // TILE_PX
    is_tissue = _islands(count, share=tissue_share, seed=seed)
    tiles = _texture_tiles(texture)
    glass = np.full((TILE_PX, TILE_PX, 3), 243, np.uint8)
    encoded = [_jpeg(tile) for tile in tiles]
    empty = _jpeg(glass)
    period = 2 * _TEXTURE_TILES

    def kind(row: int, column: int) -> int:
        return (row % period) * period + column % period

    def full() -> Iterator[bytes]:
        for row in range(count):
            for column in range(count):
                yield encoded[kind(row, column)] if is_tissue[row, column] else empty

    def reduced(shrink: int) -> Iterator[bytes]:
        small = TILE_PX // shrink
        pieces = [cv2.resize(tile, (small, small), interpolation=cv2.INTER_AREA) for tile in tiles]
        blank = glass[:small, :small]

        def tile(place: tuple[int, int]) -> bytes:
            out = np.full((TILE_PX, TILE_PX, 3), 243, np.uint8)
            for i in range(shrink):
                for j in range(shrink):
                    row, column = place[0] * shrink + i, place[1] * shrink + j
                    if row < count and column < count:
                        piece = pieces[kind(row, column)] if is_tissue[row, column] else blank
                        out[i * small : (i + 1) * small, j * small : (j + 1) * small] = piece
            return _jpeg(out)

        across = -(-count // shrink)
        with ThreadPoolExecutor() as pool:
            yield from pool.map(tile, ((row, column) for row in range(across) for column in range(across)))

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for shrink in _LEVELS:
            side = count * TILE_PX // shrink
            file.write(
                full() if shrink == 1 else reduced(shrink),
                shape=(side, side, 3),
                dtype=np.uint8,
                photometric="ycbcr",
                tile=(TILE_PX, TILE_PX),
                compression="jpeg",
                subsampling=(1, 1),
                resolution=(20000 / shrink, 20000 / shrink),
                resolutionunit="CENTIMETER",
                subfiletype=0 if shrink == 1 else 1,
            )
    return float(is_tissue.sum()) * (TILE_PX * 0.5e-3) ** 2


def _islands(count: int, *, share: float, seed: int) -> NDArray[np.bool_]:
    """(count, count) True for a smooth random ``share`` of the tiles."""
    noise = np.random.default_rng(seed).normal(size=(count, count))
    smooth = cv2.GaussianBlur(noise, (0, 0), _ISLAND_TILES)
    return np.asarray(smooth >= np.quantile(smooth, 1 - share), np.bool_)


def _texture_tiles(texture: Rgb) -> list[Rgb]:
    """The tiles of the texture mirrored to and fro, row by row."""
    side = _TEXTURE_TILES * TILE_PX
    pad = [(0, max(0, side - length)) for length in texture.shape[:2]]
    square = np.pad(texture, [*pad, (0, 0)], mode="symmetric")[:side, :side]
    whole = np.concatenate([square, square[::-1]])
    whole = np.concatenate([whole, whole[:, ::-1]], axis=1)
    period = 2 * _TEXTURE_TILES
    return [
        np.ascontiguousarray(whole[i * TILE_PX : (i + 1) * TILE_PX, j * TILE_PX : (j + 1) * TILE_PX])
        for i in range(period)
        for j in range(period)
    ]


def _jpeg(tile: Rgb) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(tile, level=_QUALITY, colorspace="RGB", outcolorspace="YCbCr", subsampling="444")
    )
