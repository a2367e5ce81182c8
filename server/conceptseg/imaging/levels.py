"""Pixels of a pyramid at any downsample, the same whatever the blocks they are read in.

Each output pixel is the area-weighted mean of the level pixels its box covers. The weights follow from the
absolute position of the box alone, never from where a block happens to start, so two blocks that overlap
agree on every pixel. Resizers that take an array and a target size cannot promise that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError

Rgb = NDArray[np.uint8]
"""(height, width, 3) red, green, blue."""

ReadBox = Callable[[int, int, int, int, int], Rgb]
"""(level, x0, y0, x1, y1) -> (y1 - y0, x1 - x0, 3); the box lies inside the level, in level px."""

_QUANTUM = 4096
"""Box edges are rounded to 1/4096 level px: invisible, and it removes the last bits in which `x + j * scale`
may differ between two ways of cutting a region into blocks."""

_LEVEL_TOLERANCE = 1.01
"""A level up to 1 % coarser than asked still serves: rounding a region to whole output px shifts the scale by
up to half a pixel per row, and reading 16 times the data for that would be a poor trade."""

_MAX_SOURCE_PX = 1 << 24
"""Level px resampled at once (48 MiB of RGB): a thumbnail of a slide without a pyramid fits memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One resolution of an image; level px = offset + full-resolution px / downsample.

    Attributes:
        downsample_x: Full-resolution px per level px along x.
        downsample_y: Full-resolution px per level px along y.
        left: First valid level px along x; may be fractional where the image is a crop of the level.
        top: First valid level px along y.
        right: End of the valid level px along x.
        bottom: End of the valid level px along y.
        offset_x: Level px of the image's left edge.
        offset_y: Level px of the image's top edge.
    """

    downsample_x: float
    downsample_y: float
    right: float
    bottom: float
    left: float = 0.0
    top: float = 0.0
    offset_x: float = 0.0
    offset_y: float = 0.0


def level_downsample(*, full: int, level: int) -> float:
    """Full-resolution px per level px along one axis.

    Scanners cut off the last incomplete pixel of a level, so ``full / level`` is not quite the downsample
    they used. As in QuPath, a whole number is taken where it explains the level's size.

    Args:
        full: Size of the full resolution in px.
        level: Size of the level in px.
    """
    whole = max(1, round(full / level))
    return float(whole) if abs(full / whole - level) < 1 else full / level


def choose_level(levels: Sequence[Level], *, scale_x: float, scale_y: float) -> int:
    """Index of the coarsest level that is not coarser than asked; 0 where all are."""
    fitting = [
        (level.downsample_x * level.downsample_y, index)
        for index, level in enumerate(levels)
        if level.downsample_x <= scale_x * _LEVEL_TOLERANCE and level.downsample_y <= scale_y * _LEVEL_TOLERANCE
    ]
    return max(fitting)[1] if fitting else 0


def read_levels(
    levels: Sequence[Level],
    read_box: ReadBox,
    *,
    x: float,
    y: float,
    width: int,
    height: int,
    scale_x: float,
    scale_y: float,
) -> Rgb:
    """Read a block of output pixels from the best level.

    Args:
        levels: Full resolution first.
        read_box: Reads a box of one level.
        x: Left edge in full-resolution px, may lie outside the image.
        y: Top edge in full-resolution px.
        width: Output px per row.
        height: Output px per column.
        scale_x: Full-resolution px per output px along x.
        scale_y: Full-resolution px per output px along y.

    Returns:
        uint8 (height, width, 3) RGB, writable and contiguous. Outside the image the nearest edge pixel.

    Raises:
        InvalidRequestError: an empty block or a scale that is not positive.
    """
    finite = np.isfinite([x, y, scale_x, scale_y]).all()
    if width < 1 or height < 1 or not finite or scale_x <= 0 or scale_y <= 0:
        raise InvalidRequestError(
            f"Expected a block of at least 1 × 1 px at a downsample > 0, got {width} × {height} px "
            f"at ({x}, {y}) and downsample {scale_x} × {scale_y}."
        )
    index = choose_level(levels, scale_x=scale_x, scale_y=scale_y)
    level = levels[index]
    columns = _Axis.of(level.offset_x, level.downsample_x, level.left, level.right, x, scale_x, width)
    rows = _Axis.of(level.offset_y, level.downsample_y, level.top, level.bottom, y, scale_y, height)

    def read(x0: int, y0: int, x1: int, y1: int) -> Rgb:
        return read_box(index, x0, y0, x1, y1)

    if columns.is_copy and rows.is_copy:
        return _copy(read, columns, rows)
    out = np.empty((height, width, 3), np.uint8)
    _resample(read, columns, rows, out)
    return out


@dataclass(frozen=True, slots=True)
class _Axis:
    """Edges of output pixels along one axis of a level.

    Attributes:
        edges: (count + 1,) positions in 1/4096 level px.
        low: First valid position in 1/4096 level px.
        high: End of the valid positions in 1/4096 level px.
    """

    edges: NDArray[np.int64]
    low: int
    high: int

    @classmethod
    def of(
        cls, offset: float, downsample: float, low: float, high: float, start: float, scale: float, count: int
    ) -> _Axis:
        positions = offset + (start + np.arange(count + 1) * scale) / downsample
        edges = np.rint(positions * _QUANTUM).astype(np.int64)
        return cls(edges, round(low * _QUANTUM), round(high * _QUANTUM))

    @property
    def is_copy(self) -> bool:
        """Whether every output pixel is exactly one level pixel."""
        return bool(self.edges[0] % _QUANTUM == 0 and (np.diff(self.edges) == _QUANTUM).all())

    def part(self, start: int, stop: int) -> _Axis:
        return _Axis(self.edges[start : stop + 1], self.low, self.high)

    @property
    def span(self) -> tuple[int, int]:
        """First and end level px that are needed: inside the image and never empty."""
        first, last = self.low // _QUANTUM, -(-self.high // _QUANTUM)
        start = min(max(int(self.edges[0]) // _QUANTUM, first), last - 1)
        stop = min(max(-(-int(self.edges[-1]) // _QUANTUM), first + 1), last)
        return start, max(stop, start + 1)

    def taps(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """First level px relative to `span`, number of level px, and (count, most) weights."""
        edges = np.clip(self.edges, self.low, self.high)
        left, right = edges[:-1], edges[1:]
        outside = right <= left
        left = np.where(outside, np.minimum(left, self.high - 1), left)
        right = np.where(outside, left + 1, right)
        first = left // _QUANTUM
        count = -(-right // _QUANTUM) - first
        pixel = (first[:, None] + np.arange(count.max())) * _QUANTUM
        covered = np.minimum(right[:, None], pixel + _QUANTUM) - np.maximum(left[:, None], pixel)
        weights = np.maximum(covered, 0) / (right - left)[:, None]
        return first - self.span[0], count, weights.astype(np.float32)


def _copy(read: Callable[[int, int, int, int], Rgb], columns: _Axis, rows: _Axis) -> Rgb:
    """Level pixels as they are, the edge pixels repeated outside."""
    (x0, x1), (y0, y1) = columns.span, rows.span
    box = read(x0, y0, x1, y1)
    before_x, after_x = _outside(columns, x0, x1)
    before_y, after_y = _outside(rows, y0, y1)
    if before_x or after_x or before_y or after_y:
        padded = cv2.copyMakeBorder(box, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)
        # A block that lies wholly outside repeats one pixel more often than it is long.
        return np.ascontiguousarray(padded[: len(rows.edges) - 1, : len(columns.edges) - 1], np.uint8)
    return box if box.flags.owndata and box.flags.c_contiguous else box.copy()


def _outside(axis: _Axis, start: int, stop: int) -> tuple[int, int]:
    first, last = int(axis.edges[0]) // _QUANTUM, int(axis.edges[-1]) // _QUANTUM
    return max(0, start - first), max(0, last - stop)


def _resample(read: Callable[[int, int, int, int], Rgb], columns: _Axis, rows: _Axis, out: Rgb) -> None:
    (x0, x1), (y0, y1) = columns.span, rows.span
    height, width = out.shape[:2]
    if (x1 - x0) * (y1 - y0) > _MAX_SOURCE_PX and (height > 1 or width > 1):
        # Rows first: strips and tile rows of a file run along x.
        if (y1 - y0 > 1024 and height > 1) or width == 1:
            middle = height // 2
            _resample(read, columns, rows.part(0, middle), out[:middle])
            _resample(read, columns, rows.part(middle, height), out[middle:])
        else:
            middle = width // 2
            _resample(read, columns.part(0, middle), rows, out[:, :middle])
            _resample(read, columns.part(middle, width), rows, out[:, middle:])
        return
    source = np.ascontiguousarray(read(x0, y0, x1, y1))
    flat = source.reshape(source.shape[0], -1)
    block = np.empty((height, width, 3), np.uint8)
    _weighted_means(flat, *columns.taps(), *rows.taps(), block)
    out[...] = block


@njit(cache=True, nogil=True)
def _weighted_means(
    source: NDArray[np.uint8],
    x_first: NDArray[np.int64],
    x_count: NDArray[np.int64],
    x_weights: NDArray[np.float32],
    y_first: NDArray[np.int64],
    y_count: NDArray[np.int64],
    y_weights: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    """Separable area means: source (rows, columns * 3) to out (height, width, 3), rounded half up."""
    total = np.empty(source.shape[1], np.float32)
    for i in range(out.shape[0]):
        weight = y_weights[i, 0]
        row = source[y_first[i]]
        for c in range(total.size):
            total[c] = weight * row[c]
        for k in range(1, y_count[i]):
            weight = y_weights[i, k]
            row = source[y_first[i] + k]
            for c in range(total.size):
                total[c] += weight * row[c]
        for j in range(out.shape[1]):
            red = green = blue = np.float32(0.5)
            at = 3 * x_first[j]
            for k in range(x_count[j]):
                weight = x_weights[j, k]
                red += weight * total[at]
                green += weight * total[at + 1]
                blue += weight * total[at + 2]
                at += 3
            out[i, j, 0] = np.uint8(red)
            out[i, j, 1] = np.uint8(green)
            out[i, j, 2] = np.uint8(blue)
