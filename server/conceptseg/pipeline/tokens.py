"""Pixels to tokens, tile by tile."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, stop_if
from conceptseg.domain.region import PixelGrid
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.spec import EncoderSpec
from conceptseg.imaging.source import PixelSource
from conceptseg.imaging.tiles import Tile, TileGrid
from conceptseg.imaging.tissue import MARGIN_BLOCKS, block_px_for, tissue_of


@dataclass(frozen=True, kw_only=True, eq=False)
class TileTokens:
    """The tokens of one tile that are tissue or touch tissue, halo discarded.

    Attributes:
        rows: (n,) token rows in the region's grid.
        columns: (n,) token columns in the region's grid.
        tokens: (n, channels) float32 on the encoder's device; None where the tile holds no tissue.
        tissue: Blocks of the tile that are tissue, bool (tile height / block, tile width / block).
        tile: The tile's core, in output px.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    tokens: Tensor | None
    tissue: NDArray[np.bool_]
    tile: Tile


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pixels:
    tile: Tile
    window: NDArray[np.uint8] | None  # None where there is nothing to encode
    wanted: NDArray[np.bool_]
    tissue: NDArray[np.bool_]


def tile_grid(grid: PixelGrid, encoder: Encoder, *, tile_px: int | None) -> TileGrid:
    """The tiles of a region for an encoder; ``tile_px`` None for the size it is fastest on.

    An encoder with a fixed window has tiles of its own, whatever is asked: its result depends on them.
    """
    spec = encoder.spec
    if spec.tile_px is not None or tile_px is None:
        tile_px = encoder.default_tile_px
    if tile_px < spec.stride_px:
        raise InvalidRequestError(f"Expected a tile of at least {spec.stride_px} px, got {tile_px}.")
    tile_px -= tile_px % spec.stride_px
    return TileGrid.over(grid, tile_px=tile_px, stride_px=spec.stride_px, halo_px=spec.halo_px)


def encode_tiles(
    source: PixelSource,
    encoder: Encoder,
    tiles: TileGrid,
    *,
    whole_region: bool,
    cancelled: IsCancelled,
) -> Iterator[TileTokens]:
    """Encode the tissue of a region, tile by tile in row order.

    Reading runs one batch ahead in a thread of its own. Only tokens within one token of tissue are kept, so
    what is kept does not depend on the tile size.

    Args:
        source: The region's pixels.
        encoder: The encoder.
        tiles: From `tile_grid`.
        whole_region: Take background for tissue, too.
        cancelled: Asked before every batch.
    """
    for batch in _in_batches(_read_ahead(source, tiles, encoder, whole_region=whole_region), encoder.batch_tiles):
        stop_if(cancelled)
        # Tiles at the right and lower edge are smaller; a forward pass takes tiles of one size.
        for shape, group in groupby(batch, key=lambda pixels: None if pixels.window is None else pixels.window.shape):
            members = list(group)
            if shape is None:
                yield from (_without_tokens(pixels) for pixels in members)
                continue
            features = encoder.encode(np.stack([pixels.window for pixels in members if pixels.window is not None]))
            yield from (_kept_tokens(pixels, features[i], encoder) for i, pixels in enumerate(members))


def _kept_tokens(pixels: _Pixels, features: Tensor, encoder: Encoder) -> TileTokens:
    stride, skip = encoder.spec.stride_px, encoder.spec.halo_px // encoder.spec.stride_px
    rows, columns = np.nonzero(pixels.wanted)
    flat = (rows + skip) * features.shape[1] + columns + skip
    everything = pixels.wanted.all() and skip == 0 and pixels.wanted.shape == tuple(features.shape[:2])
    tokens = features.reshape(-1, features.shape[2])
    return TileTokens(
        rows=rows + pixels.tile.y // stride,
        columns=columns + pixels.tile.x // stride,
        tokens=tokens if everything else tokens[flat],
        tissue=pixels.tissue,
        tile=pixels.tile,
    )


def _without_tokens(pixels: _Pixels) -> TileTokens:
    nothing = np.empty(0, np.intp)
    return TileTokens(rows=nothing, columns=nothing, tokens=None, tissue=pixels.tissue, tile=pixels.tile)


def needed_px(tiles: TileGrid, spec: EncoderSpec) -> Tile:
    """The output px that `encode_tiles` reads, surroundings included."""
    corners = [_outer(tile, spec) for tile in tiles]
    left, top = corners[0].x, corners[0].y
    return Tile(
        x=left,
        y=top,
        width=max(tile.x + tile.width for tile in corners) - left,
        height=max(tile.y + tile.height for tile in corners) - top,
    )


def _context_px(spec: EncoderSpec) -> int:
    """What is read around a tile: the halo, and what the tissue rule needs."""
    # The tokens one beyond the tile decide, too, which of its tokens touch tissue.
    margin = MARGIN_BLOCKS * block_px_for(spec.stride_px)
    return max(spec.halo_px, spec.stride_px + -(-margin // spec.stride_px) * spec.stride_px)


def _outer(tile: Tile, spec: EncoderSpec) -> Tile:
    """What is read for a tile."""
    if spec.tile_px is not None:  # a window is always whole
        tile = Tile(x=tile.x, y=tile.y, width=spec.tile_px, height=spec.tile_px)
    return tile.grown(_context_px(spec))


def _read_tile(source: PixelSource, tile: Tile, encoder: Encoder, *, whole_region: bool) -> _Pixels:
    """Read a tile with the context that the encoder and the tissue rule need."""
    spec = encoder.spec
    stride = spec.stride_px
    block = block_px_for(stride)
    context = _context_px(spec)
    outer = _outer(tile, spec)
    rgb = source.read(x=outer.x, y=outer.y, width=outer.width, height=outer.height)
    tokens_high, tokens_wide = tile.height // stride, tile.width // stride
    per_token = stride // block
    if whole_region:
        tissue = np.ones((tokens_high * per_token, tokens_wide * per_token), np.bool_)
        wanted = np.ones((tokens_high, tokens_wide), np.bool_)
    else:
        around = tissue_of(rgb, block_px=block, margin_px=context - stride)
        by_token = around.reshape(around.shape[0] // per_token, per_token, around.shape[1] // per_token, per_token)
        tissue_tokens = np.asarray(by_token.any(axis=(1, 3)), np.uint8)
        touched = np.asarray(cv2.dilate(tissue_tokens, np.ones((3, 3), np.uint8)), np.bool_)
        wanted = touched[1 : 1 + tokens_high, 1 : 1 + tokens_wide]
        tissue = around[
            per_token : per_token * (1 + tokens_high),
            per_token : per_token * (1 + tokens_wide),
        ]
    window = None
    if wanted.any():
        cut = context - spec.halo_px
        window = rgb[cut : rgb.shape[0] - cut, cut : rgb.shape[1] - cut]
    return _Pixels(tile=tile, window=window, wanted=wanted, tissue=tissue)


def _read_ahead(source: PixelSource, tiles: TileGrid, encoder: Encoder, *, whole_region: bool) -> Iterator[_Pixels]:
    """Read tiles in order, up to one batch and one tile ahead of their use."""
    ahead: deque[Future[_Pixels]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        try:
            for tile in tiles:
                ahead.append(pool.submit(_read_tile, source, tile, encoder, whole_region=whole_region))
                if len(ahead) > encoder.batch_tiles + 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _in_batches(pixels: Iterator[_Pixels], size: int) -> Iterator[list[_Pixels]]:
    batch: list[_Pixels] = []
    for item in pixels:
        batch.append(item)
        if sum(one.window is not None for one in batch) == size or len(batch) == 4 * size:
            yield batch
            batch = []
    if batch:
        yield batch
