"""A slide as a whole: what the tissue rule has to know about it, and what a user should know."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.imaging.glass import WHITE, Colour, Glass, Overview, glass_of, like_pens, on_white
from conceptseg.imaging.tissue import SlidePart, TissueRule, tissue_of

_BLOCK_PX = 4
"""Side of a block of an overview."""

_NEARLY_ALL = 0.95
"""Share of tissue that a slide with glass around its tissue does not reach."""

_PALE = 0.15
"""Optical density of green that nine tenths of the tissue of a very pale slide stay below. Ordinary slides have 0.35 to
0.65 there, and with three tenths of their stain 0.22."""

_PALE_STRICTNESS = 0.5
"""Half of the thresholds find 95 % of the tissue in a tenth of the stain."""

_GIVE_COLOUR = "--glass-colour R,G,B, or glassColour in a script of QuPath"
_DARKEST_GLASS = 20
_LEAST_STRICT = 0.1
_LEAST_TISSUE = 0.01
_LEAST_INK = 0.15
_LEAST_PEN = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class SlideLook:
    """A slide as a whole.

    Attributes:
        glass: What the tissue rule has to know.
        remarks: Sentences for the user.
    """

    glass: Glass = field(default_factory=Glass)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TissueSettings:
    """What a user says about a slide's tissue; it wins over what is found.

    Attributes:
        glass_colour: Of bare glass, 20 … 255 each; None to find it in the slide.
        strictness: How much stain tissue must have, as a factor of the usual: more leaves pale areas out.
    """

    glass_colour: Colour | None = None
    strictness: float = 1.0

    def __post_init__(self) -> None:
        colour = self.glass_colour
        if colour is not None and (len(colour) != 3 or not all(_DARKEST_GLASS <= value <= 255 for value in colour)):
            raise InvalidRequestError(
                f"Expected a colour of glass as red, green and blue from {_DARKEST_GLASS} to 255, got {colour}."
            )
        if not (math.isfinite(self.strictness) and _LEAST_STRICT <= self.strictness <= 1 / _LEAST_STRICT):
            raise InvalidRequestError(
                f"Expected a strictness of tissue from {_LEAST_STRICT:g} to {1 / _LEAST_STRICT:g}, "
                f"got {self.strictness:g}."
            )


@lru_cache(maxsize=16)  # of a slide with many annotations there are many regions
def look_at(overview: Overview | None, *, name: str, settings: TissueSettings) -> SlideLook:
    """Find the glass of a slide.

    Args:
        overview: The slide; None where nothing but a region is known, for white glass. Of a crop nothing is said.
        name: What messages call the slide.
        settings: What a user says.
    """
    colour, strictness = settings.glass_colour, settings.strictness
    if overview is None or overview.is_crop:
        return SlideLook(glass=Glass(colour=colour, strictness=strictness))
    found = glass_of(overview)
    glass = replace(found, colour=colour, falloff=()) if colour else found.without_needless_correction()
    glass = replace(glass, strictness=strictness)
    # Half of the thresholds need glass without any tint.
    lenient = replace(glass, strictness=_PALE_STRICTNESS, colour=colour or found.colour)
    is_pale = strictness == 1 and _is_pale(on_white(overview, lenient), _tissue(overview, lenient))
    if is_pale:
        glass = lenient
    white, tissue = on_white(overview, glass), _tissue(overview, glass)
    remarks = []
    if tissue.size and tissue.mean() >= _NEARLY_ALL:
        remarks.append(
            f"{100 * tissue.mean():.0f} % of {name} is taken for tissue. If it has glass that is tinted or dark, give "
            f"the colour of its glass ({_GIVE_COLOUR})."
        )
    if glass.falloff:
        remarks.append(f"The light of {name} falls off towards its edges: it is evened out before tissue is found.")
    shown = glass.without_needless_correction().colour
    if colour is None and shown is not None and not glass.falloff:
        values = ",".join(map(str, shown))
        remarks.append(
            f"The glass of {name} is not white: tissue is found by comparing with the colour {values}. Another one "
            f"can be given ({_GIVE_COLOUR})."
        )
    if is_pale:
        remarks.append(
            f"The staining of {name} is very pale: half of the usual stain counts as tissue, and concepts may not fit. "
            "The amount can be given (--tissue-strictness, or tissueStrictness in a script of QuPath)."
        )
    ink = _ink_share(white, glass)
    if ink >= _LEAST_PEN:
        remarks.append(
            f"{100 * ink:.2g} % of {name} has the colours of a pen. Strokes on glass are left out; tissue under ink is "
            "kept, and its concepts may be wrong."
        )
    return SlideLook(glass=glass, remarks=tuple(remarks))


def _tissue(overview: Overview, glass: Glass) -> NDArray[np.bool_]:
    """Tissue of the blocks of an overview that were scanned."""
    height, width = (side // _BLOCK_PX * _BLOCK_PX for side in (overview.rows, overview.columns))
    if not height or not width:
        return np.zeros((0, 0), np.bool_)
    whole = Region(x=0, y=0, width=overview.width, height=overview.height)
    grid = PixelGrid(region=whole, width=overview.columns, height=overview.rows, pixel_size_um=1)
    part = SlidePart(glass=glass, grid=grid, x=0, y=0)
    return tissue_of(overview.rgb[:height, :width], rule=TissueRule(), part=part, block_px=_BLOCK_PX)


def _is_pale(white: NDArray[np.float32], tissue: NDArray[np.bool_]) -> bool:
    if tissue.sum() < max(1, _LEAST_TISSUE * tissue.size):
        return False
    rows, columns = tissue.shape
    green = white[: rows * _BLOCK_PX, : columns * _BLOCK_PX, 1]
    means = cv2.resize(green, (columns, rows), interpolation=cv2.INTER_AREA)[tissue]
    return bool(np.percentile(-np.log10(np.clip(means / WHITE, 1e-3, 1)), 90) < _PALE)


def _ink_share(white: NDArray[np.float32], glass: Glass) -> float:
    if not glass.pens:
        return 0.0
    absorbed = 1 - white.min(axis=2) / WHITE
    return float((like_pens(white, glass.pens) & (absorbed >= _LEAST_INK)).mean())
