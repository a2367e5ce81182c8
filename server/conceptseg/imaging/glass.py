"""How bare glass looks in a scan, found once per slide in a small picture of all of it.

The tissue rule (`conceptseg.imaging.tissue`) is local, with fixed thresholds for glass that is nearly white. What
another scan looks like are parameters of the slide: the colour of its glass, how its light falls off, areas that were
not scanned, strokes of a pen. They come from the whole slide and never from the region at hand, so a pixel is labelled
the same in every region.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from conceptseg.imaging.levels import Rgb

Colour = tuple[int, int, int]
_Mask = NDArray[np.bool_]
_Floats = NDArray[np.float32]

WHITE = 243.0
"""Grey level of the glass for which the thresholds of the tissue rule were chosen."""

OVERVIEW_PX = 512
"""Longest side of the picture in which glass is looked for: a thousandth of a slide is an area 16 px wide."""

_LEAST_PX = 1024
"""Longest side of an image below which it is a crop."""

_SMOOTH = 8
"""Largest difference of neighbouring px in glass; most of any tissue has more."""

_FLAT = 5
"""The same for dark areas that no light reached, after a lossy compression."""

_CONSTANT = 1
"""The same for areas that no camera saw: glass has the noise of a camera."""

_DARKEST = 60
"""Least grey level of glass. What is smooth, large and darker was not scanned."""

_GLASS_SHARE, _FILL_SHARE, _PEN_SHARE = 0.02, 0.005, 0.001
"""Shares of a slide that glass, an area that was not scanned, and a stroke of a pen have at least."""

_BORDER_SHARE = 0.1
"""Share of the picture's border along which a dark area lies that surrounds it."""

_ON_GLASS = 0.2
"""Share of a stroke's surroundings that are glass, where it lies on glass in part."""

_AROUND = np.ones((3, 3), np.uint8)

_STRAIGHT_PX = 12
"""Straight pieces of an outline that are longer were made by a scanner."""

_FALLOFF = 0.03
"""Light that varies by less, as the standard deviation of its logarithm, is even."""

_FITTED_PX = 5000

_BOX = 7
"""Colours of one thing differ by less in each channel."""

_NEARLY_WHITE = 222
_BRIGHT = 200
"""What is brighter than this and grey is background by the rule."""

_GREY = 20
"""Largest difference of channels of a black ink."""

_INK = 0.1
_SAME_INK = 0.985
"""Least absorption, and least cosine between two absorptions, that count as one of an ink."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """A whole image as a small picture.

    Attributes:
        pixels: Red, green and blue of its px, row by row.
        columns: Px per row of the picture.
        rows: Px per column of the picture.
        width: Full-resolution px per row of the image.
        height: Full-resolution px per column.
    """

    pixels: bytes
    columns: int
    rows: int
    width: int
    height: int

    @classmethod
    def of(cls, rgb: Rgb, *, width: int, height: int) -> Overview:
        """The overview whose picture is uint8 (rows, columns, 3)."""
        return cls(pixels=rgb.tobytes(), columns=rgb.shape[1], rows=rgb.shape[0], width=width, height=height)

    @property
    def is_crop(self) -> bool:
        """Whether the image is a piece of a slide: it may hold no glass, and pale tissue would be taken for it."""
        return max(self.width, self.height) < _LEAST_PX

    @property
    def rgb(self) -> Rgb:
        """The picture, uint8 (rows, columns, 3)."""
        return np.frombuffer(self.pixels, np.uint8).reshape(self.rows, self.columns, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Glass:
    """What the tissue rule needs to know about a slide; the default is a slide whose glass is nearly white.

    Attributes:
        colour: Of bare glass where the light is strongest; None for white glass.
        falloff: Logarithm of the light, as the factors of 1, u, v, u², uv and v², where u and v go from -1 to 1 across
            the slide; empty for even light.
        fills: Colours of areas that were not scanned.
        pens: Colours of strokes of a pen on glass, as they would be on white glass.
        strictness: How much stain tissue must have, as a factor of the rule's; less than 1 for a pale staining.
        width: Full-resolution px per row of the slide.
        height: Full-resolution px per column.
    """

    colour: Colour | None = None
    falloff: tuple[float, ...] = ()
    fills: tuple[Colour, ...] = ()
    pens: tuple[Colour, ...] = ()
    strictness: float = 1.0
    width: int = 1
    height: int = 1

    def without_needless_correction(self) -> Glass:
        """The same without a colour where it is nearly white: the tissue rule was made for such glass."""
        if self.colour is None or self.falloff:
            return self
        red, green, blue = self.colour
        needless = (red + blue) / 2 - green <= 5 and max(self.colour) - min(self.colour) <= 12
        return replace(self, colour=None) if needless and min(self.colour) >= _NEARLY_WHITE else self

    def gains(self, *, columns: NDArray[np.floating], rows: NDArray[np.floating]) -> _Floats | None:
        """What colours are multiplied with to be on white glass, (rows, columns, 3); None for nothing.

        Args:
            columns: Full-resolution px from the left of the slide.
            rows: Full-resolution px from its top.
        """
        if self.colour is None:
            return None
        gain = np.broadcast_to(WHITE / np.array(self.colour, np.float32), (len(rows), len(columns), 3))
        if self.falloff:
            u, v = 2 * columns / self.width - 1, 2 * rows / self.height - 1
            log_light = _terms(u[None, :], v[:, None]) @ np.array(self.falloff)
            gain = gain * np.exp(-log_light).astype(np.float32)[..., None]
        return gain


def glass_of(overview: Overview) -> Glass:
    """Find the glass of a slide.

    Glass is the brightest large smooth area that tissue lies in. Colours that pale tissue has, and constant areas with
    straight edges beside another candidate, are none. Images below 1024 px are crops and get the default.
    """
    rgb = overview.rgb
    if overview.is_crop or min(overview.columns, overview.rows) < _STRAIGHT_PX:
        return Glass()
    spread = _spread(rgb)
    fills = _dark_fills(rgb, spread)
    left_out = _like_any(rgb, fills)
    colour, more_fills = _brightest_glass(rgb, spread, left_out)
    fills += more_fills
    left_out |= _like_any(rgb, more_fills)
    falloff: tuple[float, ...] = ()
    if colour is not None:
        colour, falloff = _falloff(rgb, colour, (spread <= _SMOOTH) & ~left_out)
    glass = Glass(
        colour=colour,
        falloff=falloff,
        fills=tuple(fill for fill in fills if max(fill) < _BRIGHT),  # brighter ones are background by themselves
        width=overview.width,
        height=overview.height,
    )
    return replace(glass, pens=_pens(on_white(overview, glass), spread, left_out))


def on_white(overview: Overview, glass: Glass) -> _Floats:
    """The colours of an overview as they would be on white glass, (h, w, 3)."""
    gains = glass.gains(
        columns=(np.arange(overview.columns) + 0.5) * overview.width / overview.columns,
        rows=(np.arange(overview.rows) + 0.5) * overview.height / overview.rows,
    )
    rgb = overview.rgb.astype(np.float32)
    return rgb if gains is None else rgb * gains


def like_pens(colours: _Floats, pens: tuple[Colour, ...]) -> _Mask:
    """Where colours (h, w, 3) on white glass are those of a pen, or of a pale edge of its strokes."""
    absorbed = 1 - colours / np.float32(WHITE)
    amount = np.sqrt((absorbed * absorbed).sum(axis=2))
    grey = _strongest(colours) - _weakest(colours) <= _GREY
    found = np.zeros(amount.shape, np.bool_)
    for pen in pens:
        direction = 1 - np.array(pen, np.float32) / np.float32(WHITE)
        direction /= np.sqrt((direction * direction).sum())
        # A mixture of ink and glass absorbs in the same proportions as the ink.
        same = absorbed @ direction >= _SAME_INK * amount
        found |= same & grey if max(pen) - min(pen) <= _GREY else same
    return np.asarray(found & (amount >= _INK))


def _spread(rgb: Rgb) -> NDArray[np.uint8]:
    """Largest difference of a channel within 3 × 3 px, (h, w)."""
    return _strongest(cv2.dilate(rgb, _AROUND) - cv2.erode(rgb, _AROUND))


def _strongest(colours: NDArray[Any]) -> NDArray[Any]:
    """The largest channel, (h, w)."""
    red, green, blue = cv2.split(colours)  # much faster than numpy's maximum of three
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def _weakest(colours: NDArray[Any]) -> NDArray[Any]:
    """The smallest channel, (h, w)."""
    red, green, blue = cv2.split(colours)
    return np.asarray(cv2.min(cv2.min(red, green), blue))


def _like(rgb: Rgb, colour: Colour, *, by: int) -> _Mask:
    low, high = (tuple(int(np.clip(c + sign * by, 0, 255)) for c in colour) for sign in (-1, 1))
    return np.asarray(cv2.inRange(rgb, low, high)) > 0


def _like_any(rgb: Rgb, colours: list[Colour]) -> _Mask:
    """Px of these colours, and those beside them, which are a mixture."""
    found = np.zeros(rgb.shape[:2], np.uint8)
    for colour in colours:
        found |= _like(rgb, colour, by=_FLAT).astype(np.uint8)
    return np.asarray(cv2.dilate(found, _AROUND)) > 0


def _wider(area: _Mask) -> _Mask:
    """An area and 3 px around it."""
    return np.asarray(cv2.dilate(area.astype(np.uint8), np.ones((7, 7), np.uint8))) > 0


def _modes(pixels: NDArray[np.uint8], *, least: float) -> list[tuple[Colour, int]]:
    """Frequent colours among px (n, 3), and how many px are near them."""
    modes: list[tuple[Colour, int]] = []
    left = pixels
    while len(left) >= least:
        bins = (left.astype(np.int32) >> 2) @ np.array([1 << 12, 1 << 6, 1], np.int32)
        most = int(np.bincount(bins).argmax())
        centre = np.array([most >> 12, most >> 6 & 63, most & 63]) * 4 + 2
        for _ in range(3):
            near = left[_like(left[None], _colour(centre), by=_BOX)[0]]
            centre = np.median(near, axis=0)
        count = int(_like(left[None], _colour(centre), by=_BOX).sum())
        if count < least:
            break
        modes.append((_colour(centre), count))
        left = left[~_like(left[None], _colour(centre), by=_BOX + _BOX // 2)[0]]
    return modes


def _colour(values: NDArray[np.floating] | NDArray[np.integer]) -> Colour:
    red, green, blue = (round(float(value)) for value in values)
    return red, green, blue


def _dark_fills(rgb: Rgb, spread: NDArray[np.uint8]) -> list[Colour]:
    """Colours of dark areas that were not scanned: with straight edges, or around the picture; others are strokes."""
    dark = (spread <= _FLAT) & (_strongest(rgb) < _DARKEST)
    fills = []
    for colour, _ in _modes(rgb[dark], least=_FILL_SHARE * spread.size):
        area = _like(rgb, colour, by=_FLAT)
        border = np.concatenate([area[0], area[-1], area[:, 0], area[:, -1]])
        if max(colour) - min(colour) <= _GREY and (_is_straight(area) or border.mean() >= _BORDER_SHARE):
            fills.append(colour)
    return fills


def _brightest_glass(rgb: Rgb, spread: NDArray[np.uint8], left_out: _Mask) -> tuple[Colour | None, list[Colour]]:
    """The colour of glass, and of bright fills."""
    smooth = (spread <= _SMOOTH) & ~left_out
    tissue = (spread > 3 * _SMOOTH) & ~left_out
    candidates = []
    for colour, count in _modes(rgb[smooth], least=_GLASS_SHARE * spread.size):
        if min(colour) < _DARKEST or not _can_be_glass(colour):
            continue
        area = _like(rgb, colour, by=_BOX) & ~left_out
        constant = (_like(rgb, colour, by=1) & (spread <= _CONSTANT)).sum() >= 0.9 * count
        contact = int(tissue[_wider(area)].sum())
        candidates.append((colour, count, contact, bool(constant) and _is_straight(area)))
    if any(not made for *_, made in candidates):
        fills = [c for c, _, _, made in candidates if made]
        candidates = [one for one in candidates if not one[3]]
    else:
        fills = []
    if not candidates:
        return None, []
    most, touching = max(one[1] for one in candidates), max(one[2] for one in candidates)
    good = [c for c, count, contact, _ in candidates if count >= 0.2 * most and contact >= 0.3 * touching]
    if not good:
        good = [max(candidates, key=lambda one: one[1])[0]]
    return max(good, key=sum), fills


def _can_be_glass(colour: Colour) -> bool:
    """Whether light through glass has such a colour: any weak tint, no strong eosin."""
    red, green, blue = (c / max(colour) for c in colour)
    return (red + blue) / 2 - green <= 0.12 and red - green <= 0.16 and max(colour) - min(colour) <= 0.45 * max(colour)


def _is_straight(area: _Mask) -> bool:
    """Whether most of an area's outline runs along rows and columns for long."""
    mask = area.astype(np.uint8)
    upright, flat = mask[:, 1:] ^ mask[:, :-1], mask[1:] ^ mask[:-1]
    straight = cv2.morphologyEx(upright, cv2.MORPH_OPEN, np.ones((_STRAIGHT_PX, 1), np.uint8)).sum()
    straight += cv2.morphologyEx(flat, cv2.MORPH_OPEN, np.ones((1, _STRAIGHT_PX), np.uint8)).sum()
    return bool(straight >= 0.7 * (upright.sum() + flat.sum()))


def _terms(u: NDArray[np.floating], v: NDArray[np.floating]) -> NDArray[np.float64]:
    u, v = np.broadcast_arrays(u, v)
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def _falloff(rgb: Rgb, colour: Colour, smooth: _Mask) -> tuple[Colour, tuple[float, ...]]:
    """The colour where light is strongest, and how it falls off."""
    height, width = smooth.shape
    ratio = rgb.astype(np.float32) / np.array(colour, np.float32)
    light = (_strongest(ratio) + _weakest(ratio)) / 2
    glass = smooth & (_strongest(ratio) - _weakest(ratio) <= 0.05 * light) & (light > 0.25) & (light < 1.3)
    rows, columns = np.nonzero(glass)
    if len(rows) < _GLASS_SHARE * glass.size:
        return colour, ()
    step = 1 + len(rows) // _FITTED_PX
    rows, columns = rows[::step], columns[::step]
    terms = _terms(2 * (columns + 0.5) / width - 1, 2 * (rows + 0.5) / height - 1)
    log_light = np.log(light[rows, columns]).astype(np.float64)
    kept = np.ones(len(rows), np.bool_)
    for _ in range(4):
        factors = np.linalg.lstsq(terms[kept], log_light[kept], rcond=None)[0]
        rest = log_light - terms @ factors
        kept = np.abs(rest) <= max(0.02, 2 * float(rest[kept].std()))
    across = np.bincount(8 * (8 * rows // height) + 8 * columns // width, minlength=64) > 0
    even, uneven = float(log_light[kept].std()), float(rest[kept].std())
    u, v = np.linspace(-1, 1, 17), np.linspace(-1, 1, 17)
    field = _terms(u[None, :], v[:, None]) @ factors
    if even < _FALLOFF or uneven > 0.5 * even or across.mean() < 0.4 or field.min() < np.log(0.2) or field.max() > 0.4:
        return colour, ()
    peak = float(field.max())
    factors[0] -= peak
    red, green, blue = (min(255, round(c * float(np.exp(peak)))) for c in colour)
    return (red, green, blue), tuple(float(f) for f in factors)


def _pens(colours: _Floats, spread: NDArray[np.uint8], left_out: _Mask) -> tuple[Colour, ...]:
    """Inks of strokes that lie on glass: no stain of tissue has such colours in large smooth areas."""
    red, green, blue = (1 - channel / WHITE for channel in cv2.split(colours))
    inks = (
        (red >= 0.6) & (red - green >= 0.05),  # green and blue; haematoxylin absorbs more green than red
        (red <= 0.35) & (green >= 0.7) & (green - blue <= 0.09),  # red; blood has less blue absorbed
        (np.minimum(np.minimum(red, green), blue) >= 0.7) & (_strongest(colours) - _weakest(colours) <= _GREY),
    )
    glass = _weakest(colours) >= _BRIGHT
    pens: list[Colour] = []
    for ink in inks:
        core = cv2.morphologyEx((ink & (spread <= 2 * _SMOOTH) & ~left_out).astype(np.uint8), cv2.MORPH_OPEN, _AROUND)
        count, parts, stats, _ = cv2.connectedComponentsWithStats(core)
        for part in range(1, count):
            if stats[part, cv2.CC_STAT_AREA] < _PEN_SHARE * core.size:
                continue
            pen = _colour(np.median(colours[parts == part], axis=0))
            if like_pens(np.array([[pen]], np.float32), tuple(pens)).all():
                continue
            _, wholes = cv2.connectedComponents(like_pens(colours, (pen,)).astype(np.uint8))
            stroke = np.isin(wholes, np.unique(wholes[(parts == part) & (wholes > 0)]))
            beside = _wider(stroke) & ~stroke
            if (glass & beside).sum() >= _ON_GLASS * beside.sum():
                pens.append(pen)
    return tuple(pens)
