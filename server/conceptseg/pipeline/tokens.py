"""Pixels to tokens: blocks of tiles are read by threads, tiles are encoded in batches."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, stop_if
from conceptseg.domain.region import PixelGrid
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.spec import EncoderSpec
from conceptseg.imaging.glass import Glass
from conceptseg.imaging.source import PixelSource
from conceptseg.imaging.tiles import Tile, TileGrid
from conceptseg.imaging.tissue import MARGIN_BLOCKS, SlidePart, block_px_for, tissue_of

_BLOCK_PX = {"cpu": 2048, "cuda": 4096}
"""Tiles are read in blocks of about this side: neighbours share their surroundings, and the file its segments. Beside
a GPU memory is cheaper than decoding the edges of blocks again."""

_AHEAD = 1
"""Blocks that wait to be encoded, beyond those that are being read."""

_EMPTY_PX = 1 << 26
"""Pixels without tissue after which progress is told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileTokens:
    """Tokens of some tiles that are tissue or touch tissue, halo discarded.

    Attributes:
        rows: (n,) token rows in the region's grid.
        columns: (n,) token columns in the region's grid.
        tokens: (n, channels) float32 on a device of the encoder; None where the tiles hold no tissue.
        tiles: Cores of the tiles, in output px.
        tissue: Per tile, blocks that are tissue: bool (tile height / block, tile width / block).
        rows_done: All tokens of the grid's first so many rows have come, with this or before.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    tokens: Tensor | None
    tiles: tuple[Tile, ...]
    tissue: tuple[NDArray[np.bool_], ...]
    rows_done: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _TilePixels:
    """One tile of a block.

    Attributes:
        tile: Its core, in output px.
        tissue: Blocks that are tissue.
        rows: (n,) rows of the wanted tokens in the region's grid.
        columns: (n,) their columns.
        places: (n,) their places among the tokens of the window.
        windows: Windows of the block with this one's size, uint8 (n, height, width, 3), pinned for a GPU.
        window: Which of them the encoder gets for this tile.
    """

    tile: Tile
    tissue: NDArray[np.bool_]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    places: NDArray[np.intp]
    windows: Tensor
    window: int


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
    glass: Glass | None,
    cancelled: IsCancelled,
    read_again: bool = False,
) -> Iterator[TileTokens]:
    """Encode the tissue of a region, block by block in row order, and in each block tile by tile.

    Reading runs ahead in threads of its own: one beside an encoder on the CPU, several beside a GPU. Only tokens
    within one token of tissue are kept, so what is kept does not depend on the tile size.

    Args:
        source: The region's pixels.
        encoder: The encoder.
        tiles: From `tile_grid`.
        glass: What tissue is compared with; None to take background for tissue, too.
        cancelled: Asked before every block and batch.
        read_again: The region is read once more afterwards, so the source must not forget its pixels.
    """
    empty = max(1, _EMPTY_PX // tiles.tile_px**2)
    batch = _Batch()
    for block, top in _read_ahead(source, tiles, encoder, glass=glass):
        stop_if(cancelled)
        if not read_again:
            # Blocks come in order: all that are read now or later begin at this row of blocks or below.
            source.forget(before_row=top - _context_px(encoder.spec))
        for pixels in block:
            if not batch.takes(pixels, most=encoder.batch_tiles, empty=empty):
                stop_if(cancelled)
                yield batch.encoded(encoder, rows_done=top // tiles.stride_px)
                batch = _Batch()
            batch.add(pixels)
    stop_if(cancelled)
    yield batch.encoded(encoder, rows_done=tiles.tokens_high)


class _Batch:
    """Tiles in order: up to one forward pass of equal windows, and those with nothing to encode among them."""

    def __init__(self) -> None:
        self._tiles: list[_TilePixels] = []
        self._encoded: list[_TilePixels] = []

    def add(self, pixels: _TilePixels) -> None:
        self._tiles.append(pixels)
        if len(pixels.rows):
            self._encoded.append(pixels)

    def takes(self, pixels: _TilePixels, *, most: int, empty: int) -> bool:
        if not len(pixels.rows) or not self._encoded:
            return len(self._tiles) - len(self._encoded) < empty
        # Tiles at the right and lower edge are smaller; a forward pass takes tiles of one size.
        return len(self._encoded) < most and pixels.windows.shape[1:] == self._encoded[0].windows.shape[1:]

    def encoded(self, encoder: Encoder, *, rows_done: int) -> TileTokens:
        nothing = np.empty(0, np.intp)
        return TileTokens(
            rows=np.concatenate([nothing, *(one.rows for one in self._encoded)]),
            columns=np.concatenate([nothing, *(one.columns for one in self._encoded)]),
            tokens=self._tokens(encoder) if self._encoded else None,
            tiles=tuple(one.tile for one in self._tiles),
            tissue=tuple(one.tissue for one in self._tiles),
            rows_done=rows_done,
        )

    def _tokens(self, encoder: Encoder) -> Tensor:
        encoder = encoder.in_turn()
        features = encoder.encode(self._windows(encoder.device))
        per_window = features.shape[1] * features.shape[2]
        flat = features.reshape(-1, features.shape[3])
        wanted = [index * per_window + one.places for index, one in enumerate(self._encoded)]
        where = torch.from_numpy(np.concatenate(wanted))
        if len(where) == len(flat):
            return flat
        if encoder.device.type == "cuda":  # from pinned memory, so that Python goes on while the device computes
            where = where.pin_memory().to(encoder.device, non_blocking=True)
        return flat[where]

    def _windows(self, device: torch.device) -> Tensor:
        """Windows of all tiles, (n, height, width, 3), without a copy where they lie side by side."""
        runs = []
        for _, group in groupby(self._encoded, key=lambda one: id(one.windows)):
            run = list(group)
            part = run[0].windows[run[0].window : run[-1].window + 1]
            runs.append(part.to(device, non_blocking=True))
        return runs[0] if len(runs) == 1 else torch.cat(runs)


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


def rows_held(tiles: TileGrid, encoder: Encoder) -> int:
    """How many output rows of the region `encode_tiles` works on at the same time, surroundings included."""
    side = _block_side_px(tiles, encoder)
    in_work = _readers(encoder) + _AHEAD + 1
    rows_of_blocks = 1 + math.ceil(in_work / math.ceil(tiles.width / side))
    return rows_of_blocks * side + 2 * _context_px(encoder.spec)


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


def _block_side_px(tiles: TileGrid, encoder: Encoder) -> int:
    """Side of a block: whole tiles."""
    block_px = _BLOCK_PX.get(encoder.device.type, _BLOCK_PX["cuda"])
    return max(1, block_px // tiles.tile_px) * tiles.tile_px


def _readers(encoder: Encoder) -> int:
    """Threads that read: one beside an encoder on the CPU, several beside a GPU."""
    return 1 if encoder.device.type == "cpu" else max(2, min(8, (os.cpu_count() or 1) // 2))


def _blocks(tiles: TileGrid, *, side: int) -> list[list[Tile]]:
    """Tiles in blocks of ``side`` px, row by row; the first, for which the encoder waits, in slices."""
    across = side // tiles.tile_px
    blocks: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        blocks.setdefault((tile.y // side, tile.x // side), []).append(tile)
    first, *others = blocks.values()
    edges = sorted({0, across // 8, across // 4, across // 2, across})
    slices = [[tile for tile in first if low <= tile.x // tiles.tile_px < high] for low, high in pairwise(edges)]
    return [*filter(None, slices), *others]


def _read_block(
    source: PixelSource, block: Sequence[Tile], encoder: Encoder, *, glass: Glass | None
) -> list[_TilePixels]:
    """Read the tiles of a block, with the context that the encoder and the tissue rule need."""
    spec = encoder.spec
    stride = spec.stride_px
    context = _context_px(spec)
    outer = [_outer(tile, spec) for tile in block]
    left, top = outer[0].x, outer[0].y
    width = max(one.x + one.width for one in outer) - left
    height = max(one.y + one.height for one in outer) - top
    rgb = source.read(x=left, y=top, width=width, height=height)
    tissue_block = block_px_for(stride)
    per_token = stride // tissue_block
    if glass is not None:
        # One token more on every side decides, too, which tokens touch tissue.
        part = SlidePart(glass=glass, grid=source.grid, x=left, y=top)
        tissue = tissue_of(rgb, part=part, block_px=tissue_block, margin_px=context - stride)
        by_token = tissue.reshape(tissue.shape[0] // per_token, per_token, tissue.shape[1] // per_token, per_token)
        touched = cv2.dilate(np.asarray(by_token.any(axis=(1, 3)), np.uint8), np.ones((3, 3), np.uint8)) > 0
    cut = context - spec.halo_px
    skip = spec.halo_px // stride
    windows: dict[tuple[int, int], list[NDArray[np.uint8]]] = {}
    found = []
    for tile, whole in zip(block, outer, strict=True):
        high, wide = tile.height // stride, tile.width // stride
        row, column = (whole.y - top) // stride, (whole.x - left) // stride
        if glass is None:
            wanted = np.ones((high, wide), np.bool_)
            own_tissue = np.ones((high * per_token, wide * per_token), np.bool_)
        else:
            wanted = touched[1 + row : 1 + row + high, 1 + column : 1 + column + wide]
            first_row, first_column = (1 + row) * per_token, (1 + column) * per_token
            own_tissue = tissue[first_row:, first_column:][: high * per_token, : wide * per_token]
        i, j = np.nonzero(wanted)
        size = whole.height - 2 * cut, whole.width - 2 * cut
        same = windows.setdefault(size, [])
        found.append((tile, own_tissue, i, j, size, len(same)))
        if len(i):
            y, x = row * stride + cut, column * stride + cut
            same.append(rgb[y : y + size[0], x : x + size[1]])
    stacked = {size: _stacked(same, size, encoder.device) for size, same in windows.items()}
    return [
        _TilePixels(
            tile=tile,
            tissue=own_tissue,
            rows=i + tile.y // stride,
            columns=j + tile.x // stride,
            places=(i + skip) * (size[1] // stride) + j + skip,
            windows=stacked[size],
            window=index,
        )
        for tile, own_tissue, i, j, size, index in found
    ]


def _stacked(windows: list[NDArray[np.uint8]], size: tuple[int, int], device: torch.device) -> Tensor:
    """Copies of the windows in one tensor (n, height, width, 3), in memory from which a GPU copies by itself."""
    stack = torch.empty((len(windows), *size, 3), dtype=torch.uint8, pin_memory=device.type == "cuda")
    for place, window in zip(stack.numpy(), windows, strict=True):
        place[...] = window
    return stack


def _read_ahead(
    source: PixelSource, tiles: TileGrid, encoder: Encoder, *, glass: Glass | None
) -> Iterator[tuple[list[_TilePixels], int]]:
    """Blocks in order, each with the first px row of the blocks beside it; a few are read ahead of their use."""
    readers = _readers(encoder)
    ahead: deque[tuple[Future[list[_TilePixels]], int]] = deque()
    with ThreadPoolExecutor(readers, thread_name_prefix="read") as pool:
        try:
            for block in _blocks(tiles, side=_block_side_px(tiles, encoder)):
                read = pool.submit(_read_block, source, block, encoder, glass=glass)
                ahead.append((read, block[0].y))
                if len(ahead) > readers + _AHEAD:
                    future, top = ahead.popleft()
                    yield future.result(), top
            while ahead:
                future, top = ahead.popleft()
                yield future.result(), top
        finally:
            for future, _ in ahead:
                future.cancel()
