"""Which output pixels show tissue; the rest is background and gets label 0.

The rule is fixed and local. A threshold found per region (Otsu) would label the same pixel differently in
two regions, and fails on a region that is all tissue or all glass. What differs between slides is in their
`Glass`: colours are first made those of a slide with white glass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.region import PixelGrid
from conceptseg.imaging.glass import WHITE, Colour, Glass, like_pens
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.source import PixelSource

MARGIN_BLOCKS = 2
"""Blocks beyond a tile that its mask depends on: the radius of the 5 × 5 median."""

_FILL_NOISE = 6
"""What a lossy compression leaves of a constant colour differs by less."""

_SLOPE = 1.5
"""Means over 3 × 3 blocks are less steep than the picture."""

_FILL_SHARE = 0.1
"""A block is in part one that was not scanned from this share of its px on; a few dark px may be a nucleus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TissueRule:
    """Thresholds in grey levels, 0 … 255, of the mean colour over 3 × 3 blocks.

    A block is tissue when it is stained (`magenta` or `chroma`, and darker than `glass`), or `dark`, or
    textured (`texture`), and not black.

    The defaults were chosen by looking at masks of two slides, 108 colorectal tiles of eight classes, 38
    crops from three data sets and one immunohistochemistry picture (pixels of 0.25 to 0.5 µm, blocks of
    8 px). With them 97.6 to 100 % of tumour, stroma, lymphocytes, debris and mucosa is tissue; what is
    missing are cracks and lumina. Of the empty tiles 3.8 % is tissue, most of it in one tile of strongly
    amplified noise; of the adipose tiles 29 %, the cell walls without the palest. The glass of both slides
    stays background under a tint of 4 % in green, the channel that matters, and of 8 % in red or blue.

    Attributes:
        magenta: Least (red + blue) / 2 - green. Haematoxylin and eosin both absorb green most. Glass reaches
            6, pale mucin and the walls of fat cells have 10 to 20.
        chroma: Least difference of the strongest and the weakest channel, for other colours: brown
            chromogen, blood, bile, ink. Warm or cold light tints glass by up to 25.
        glass: A block whose weakest channel is at least this bright is glass, whatever its tint.
        dark: A mean of all channels below this is tissue without colour: pigment, folds.
        texture: Least standard deviation of green between pairs of px, within blocks, as the median of 5 × 5
            blocks: grains of dust drop out, pale fibres and counterstained nuclei remain.
        black: A mean of all channels below this is no image at all: the area outside a slide in QuPath.
    """

    magenta: float = 10.0
    chroma: float = 36.0
    glass: float = 222.0
    dark: float = 150.0
    texture: float = 6.0
    black: float = 12.0

    def times(self, strictness: float) -> TissueRule:
        """The rule that asks for ``strictness`` times as much stain and texture."""
        return replace(
            self,
            magenta=self.magenta * strictness,
            chroma=self.chroma * strictness,
            glass=WHITE - (WHITE - self.glass) * strictness,
            texture=self.texture * strictness,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SlidePart:
    """Where a picture lies in a slide.

    Attributes:
        glass: The slide's.
        grid: Output px of a region of the slide.
        x: Left edge of the picture in output px of the grid.
        y: Its top edge.
    """

    glass: Glass
    grid: PixelGrid
    x: int
    y: int


def block_px_for(stride_px: int) -> int:
    """The even divisor of an encoder's stride that is nearest to 8 output px, the larger of two.

    Tiles start at multiples of the stride, so they start at multiples of the block.
    """
    divisors = [block for block in range(4, stride_px + 1, 2) if stride_px % block == 0]
    if not divisors:
        raise InvalidRequestError(f"Expected an even stride of at least 4 px, got {stride_px}.")
    return min(divisors, key=lambda block: (abs(block - 8), -block))


def tissue_of(
    rgb: Rgb, *, rule: TissueRule | None = None, part: SlidePart | None = None, block_px: int = 8, margin_px: int = 0
) -> NDArray[np.bool_]:
    """Tell tissue from background.

    Args:
        rgb: uint8 (h, w, 3); h and w are multiples of ``block_px``.
        rule: The thresholds; the defaults when None.
        part: Where ``rgb`` lies in its slide; None for any place in a slide with white glass.
        block_px: Side of a block in px, even and at least 4.
        margin_px: Context around the wanted part of ``rgb`` in px. 0 takes ``rgb`` for a whole image and
            repeats its edge. A tile of an image gives the image's own mask when it comes with at least
            ``MARGIN_BLOCKS * block_px`` and starts at a multiple of ``block_px``.

    Returns:
        bool ((h - 2 * margin_px) / block_px, (w - 2 * margin_px) / block_px), True where there is tissue.

    Raises:
        InvalidRequestError: sizes that are not multiples of the block, or a margin that is too small.
    """
    rule = rule or TissueRule()
    if part is not None and part.glass.strictness != 1:
        rule = rule.times(part.glass.strictness)
    height, width = rgb.shape[:2]
    margin = margin_px // block_px if block_px >= 4 else 0
    sizes_fit = block_px >= 4 and not (block_px % 2 or height % block_px or width % block_px or margin_px % block_px)
    inside = min(height, width) > 2 * margin_px >= 0
    if not (sizes_fit and inside and (margin == 0 or margin >= MARGIN_BLOCKS)):
        raise InvalidRequestError(
            "Expected an even block of at least 4 px, a picture and a margin that are multiples of it, and a "
            f"margin of 0 or at least {MARGIN_BLOCKS} blocks; got a block of {block_px} px, a picture of "
            f"{width} × {height} px and a margin of {margin_px} px."
        )
    blocks = (width // block_px, height // block_px)
    # Halving first makes the rest four times cheaper, and removes the noise of single px from the texture.
    half = np.asarray(cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)
    # Sums of whole numbers below 2^24 are exact in float32: no tile can differ by rounding.
    mean = cv2.resize(half, blocks, interpolation=cv2.INTER_AREA).astype(np.float32)
    deviation = _deviation(half, blocks)
    fills = _Fills(half, blocks, part.glass.fills) if part is not None and part.glass.fills else None
    mean = _blurred(mean) if fills is None else fills.blurred_beside(mean)
    if fills is not None:
        deviation[fills.touched] = 0
    gains = None if part is None else _gains(part, blocks, block_px)
    if gains is not None:
        mean, deviation = mean * gains, deviation * gains[..., 1]
    red, green, blue = cv2.split(mean)
    brightness = (red + green + blue) / 3
    weakest = np.minimum(np.minimum(red, green), blue)
    strongest = np.maximum(np.maximum(red, green), blue)
    coloured = ((red + blue) / 2 - green >= rule.magenta) | (strongest - weakest >= rule.chroma)
    stained = coloured & (weakest < rule.glass)
    textured = np.asarray(cv2.medianBlur(deviation, 5)) >= rule.texture
    tissue: NDArray[np.bool_] = stained | textured | (brightness < rule.dark)
    tissue &= brightness >= rule.black
    if fills is not None:
        tissue &= ~fills.whole
    if part is not None and part.glass.pens:
        tissue &= (_grain(mean, deviation) >= rule.texture) | ~like_pens(mean, part.glass.pens)
    return tissue[margin : blocks[1] - margin, margin : blocks[0] - margin]


class BlockMask:
    """Tissue of a grid of blocks, filled part by part; pixels get it with smoothed outlines.

    Args:
        rows: Rows of blocks.
        columns: Columns of blocks.
        block_px: Side of a block in output px.
    """

    def __init__(self, *, rows: int, columns: int, block_px: int):
        self._blocks = np.zeros((rows, columns), np.uint8)
        self.block_px = block_px

    def fill(self, tissue: NDArray[np.bool_], *, x: int, y: int) -> None:
        """Set the blocks (rows, columns) whose corner lies at output px ``x``, ``y``."""
        if tissue.any():  # memory that is never written is never used
            top, left = y // self.block_px, x // self.block_px
            self._blocks[top : top + tissue.shape[0], left : left + tissue.shape[1]] = np.where(tissue, 255, 0)

    def pixels(self, *, x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
        """Tissue of a part of the output pixels, (height, width)."""
        block = self.block_px
        top, left = max(0, y // block - 1), max(0, x // block - 1)
        part = self._blocks[top : -(-(y + height) // block) + 1, left : -(-(x + width) // block) + 1]
        size = part.shape[1] * block, part.shape[0] * block
        smooth = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
        mask: NDArray[np.bool_] = smooth[y - top * block :, x - left * block :][:height, :width] > 127
        return mask


def tissue_mask(
    source: PixelSource,
    *,
    x: int,
    y: int,
    width: int,
    height: int,
    rule: TissueRule | None = None,
    glass: Glass | None = None,
    block_px: int = 8,
) -> NDArray[np.bool_]:
    """Tissue in a part of a region, the same whatever the part it is asked for in.

    Args:
        source: The region.
        x: Left edge in output px, a multiple of ``block_px``.
        y: Top edge in output px, a multiple of ``block_px``.
        width: Output px per row, a multiple of ``block_px``.
        height: Output px per column, a multiple of ``block_px``.
        rule: The thresholds; the defaults when None.
        glass: The slide's; white when None.
        block_px: Side of a block in output px, even and at least 4.

    Returns:
        bool (height / block_px, width / block_px), True where there is tissue.

    Raises:
        InvalidRequestError: a part that is not made of whole blocks.
    """
    if block_px < 4 or x % block_px or y % block_px:
        raise InvalidRequestError(
            f"Expected a part that starts at multiples of the block of {block_px} px (at least 4), got {x}, {y}."
        )
    margin = MARGIN_BLOCKS * block_px
    rgb = source.read(x=x - margin, y=y - margin, width=width + 2 * margin, height=height + 2 * margin)
    part = SlidePart(glass=glass or Glass(), grid=source.grid, x=x - margin, y=y - margin)
    return tissue_of(rgb, rule=rule, part=part, block_px=block_px, margin_px=margin)


def _blurred(mean: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(mean, (3, 3), borderType=cv2.BORDER_REPLICATE), np.float32)


def _deviation(half: Rgb, blocks: tuple[int, int]) -> NDArray[np.float32]:
    """Standard deviation of green within each block, (rows, columns)."""
    green = cv2.extractChannel(half, 1)
    squares = cv2.multiply(green, green, dtype=cv2.CV_32F)
    mean = cv2.resize(green.astype(np.float32), blocks, interpolation=cv2.INTER_AREA)
    mean_square = cv2.resize(squares, blocks, interpolation=cv2.INTER_AREA)
    return np.asarray(np.sqrt(np.maximum(mean_square - mean * mean, 0)), np.float32)


def _grain(mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Texture without that of a slope, as the soft edge of a stroke is one: what tissue shows through ink."""
    across, down = (cv2.Sobel(mean[..., 1], cv2.CV_32F, dx, 1 - dx, ksize=1) / 2 for dx in (1, 0))
    slope = (across * across + down * down) / 12
    return np.asarray(cv2.medianBlur(np.sqrt(np.maximum(deviation * deviation - _SLOPE * slope, 0)), 3), np.float32)


def _gains(part: SlidePart, blocks: tuple[int, int], block_px: int) -> NDArray[np.float32] | None:
    """What brings the blocks of a picture onto white glass, (rows, columns, 3)."""
    grid = part.grid
    # Whole output px first: the same block has the same place in every tile, to the last bit.
    columns = grid.region.x + (part.x + block_px * np.arange(blocks[0]) + block_px // 2) * grid.scale_x
    rows = grid.region.y + (part.y + block_px * np.arange(blocks[1]) + block_px // 2) * grid.scale_y
    return part.glass.gains(columns=columns, rows=rows)


class _Fills:
    """Blocks of areas that were not scanned. They are not tissue, and do not darken the blocks beside them.

    Attributes:
        whole: Blocks that are nothing else.
        touched: These, and those that are so in part.
    """

    def __init__(self, half: Rgb, blocks: tuple[int, int], colours: Sequence[Colour]):
        filled = np.zeros(half.shape[:2], np.uint8)
        for colour in colours:
            low, high = (tuple(min(255, max(0, value + by)) for value in colour) for by in (-_FILL_NOISE, _FILL_NOISE))
            filled |= np.asarray(cv2.inRange(half, low, high), np.uint8)
        share = cv2.resize(filled.astype(np.float32), blocks, interpolation=cv2.INTER_AREA)
        self.whole = share >= 255
        self.touched = share >= 255 * _FILL_SHARE

    def blurred_beside(self, mean: NDArray[np.float32]) -> NDArray[np.float32]:
        """Means over those of the 3 × 3 blocks that were scanned; of blocks far from these, their own."""
        scanned = (~self.touched).astype(np.float32)
        weight = _blurred(scanned)[..., None]
        sums = _blurred(mean * scanned[..., None])
        return np.asarray(np.where(weight > 0, sums / np.maximum(weight, 1e-6), mean), np.float32)
