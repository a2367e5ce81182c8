"""What a concept is called and how it is coloured, the same in QuPath, overlays and reports."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conceptseg.domain.errors import InvalidRequestError

Colour = tuple[int, int, int]
"""Red, green, blue, 0 … 255."""

MAX_CONCEPTS = 65_535
"""Label maps have at most 16 bits, of which 0 means unlabelled."""

# Control characters, lone surrogates (no file can hold them) and the two Unicode line breaks.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})

# The first 16: farthest-point search in CIELAB over normal, deuteranope and protanope vision at once, from
# five colours close to Okabe and Ito's; at least 30 units from typical eosin, haematoxylin and slide
# background, and without the pink to violet hues between them.
_FIRST_COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),  # blue
    (240, 228, 66),  # yellow
    (213, 72, 0),  # vermilion
    (0, 158, 115),  # green
    (86, 205, 250),  # sky
    (0, 70, 220),  # cobalt
    (0, 240, 140),  # spring green
    (130, 30, 30),  # maroon
    (0, 250, 230),  # cyan
    (100, 130, 250),  # cornflower
    (225, 15, 65),  # crimson
    (250, 160, 80),  # apricot
    (10, 180, 180),  # teal
    (140, 220, 170),  # mint
    (90, 170, 250),  # azure
    (230, 160, 0),  # amber
)
_SPREAD_COLOURS = 256  # up to here colours are spread as far apart as they go; beyond, they are only distinct
_LATTICE_LEVELS = 41  # 41³ = 68,921 colours, the smallest cube above 65,535
_LATTICE_STRIDE = 42_589  # near 41³ / golden ratio and not divisible by 41: a permutation without visible runs


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptClass:
    """Name and colour of one concept.

    Attributes:
        concept: Index of the concept in its dictionary, from 0.
        name: QuPath class name, ``Concept 07`` until a person names it.
        colour: Display colour.

    Raises:
        InvalidRequestError: QuPath would refuse or change the name, or the colour is not 8-bit RGB.
    """

    concept: int
    name: str
    colour: Colour

    def __post_init__(self) -> None:
        require_class_name(self.name)
        if self.concept < 0:
            raise InvalidRequestError(f"Expected a concept index >= 0, got {self.concept}.")
        if len(self.colour) != 3 or not all(0 <= channel <= 255 for channel in self.colour):
            raise InvalidRequestError(f"Expected a colour (red, green, blue) of 0 to 255, got {self.colour}.")


def require_class_name(name: str) -> None:
    """Raise InvalidRequestError unless QuPath takes ``name`` as one class, unchanged.

    QuPath splits names at ``:`` into a class and its sub-classes, refuses line breaks, and strips surrounding
    space, which could silently make one class of two.
    """
    if not name.strip():
        raise InvalidRequestError("Expected a class name, got an empty one. Give at least one visible character.")
    if ":" in name:
        raise InvalidRequestError(
            f"The class name {name!r} contains ':', which QuPath reads as a sub-class. Leave it out."
        )
    if name != name.strip():
        raise InvalidRequestError(f"The class name {name!r} starts or ends with space. Remove it.")
    for character in name:
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            raise InvalidRequestError(
                f"The class name {name!r} contains {character!r}: no line breaks or control characters."
            )


def default_classes(n_concepts: int) -> tuple[ConceptClass, ...]:
    """Names and colours of concepts that nobody has named yet.

    The number in a name is the concept's index in the dictionary, from 0, as in files and metadata. It has at
    least two digits, and as many as the last concept needs, so that names sort in the dictionary's order.

    Args:
        n_concepts: Number of concepts of the dictionary, 1 … 65535.

    Returns:
        One class per concept, in order. The colour of a concept does not depend on ``n_concepts``.

    Raises:
        InvalidRequestError: ``n_concepts`` is out of range.

    >>> [c.name for c in default_classes(3)]
    ['Concept 00', 'Concept 01', 'Concept 02']
    """
    if not 1 <= n_concepts <= MAX_CONCEPTS:
        raise InvalidRequestError(f"Expected 1 to {MAX_CONCEPTS} concepts, got {n_concepts}.")
    digits = max(2, len(str(n_concepts - 1)))
    colours = _spread_colours() if n_concepts <= _SPREAD_COLOURS else _spread_colours() + _more_colours()
    return tuple(ConceptClass(concept=k, name=f"Concept {k:0{digits}d}", colour=colours[k]) for k in range(n_concepts))


def cielab(rgb: ArrayLike) -> NDArray[np.float64]:
    """CIELAB coordinates (D65) of sRGB colours, so that equal distances look about equally different.

    Args:
        rgb: (..., 3) red, green, blue, 0 … 255.

    Returns:
        (..., 3) lightness 0 … 100, green to red, blue to yellow.
    """
    encoded = np.asarray(rgb, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    relative = linear @ to_xyz.T / to_xyz.sum(axis=1)
    response = np.where(relative > 216 / 24389, np.cbrt(relative), (24389 / 27 * relative + 16) / 116)
    x, y, z = np.moveaxis(response, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@cache
def _spread_colours() -> tuple[Colour, ...]:
    """256 colours: the first 16, then each time the candidate farthest from all before it."""
    levels = np.append(np.arange(0, 256, 16), 255)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness = cielab(candidates)[:, 0]
    candidates = candidates[(lightness > 30) & (lightness < 92)]
    # Whole thousandths make the distances exact, so that every machine picks the same colours.
    positions = np.rint(cielab(candidates) * 1000).astype(np.int64)
    colours = list(_FIRST_COLOURS)
    nearest = np.full(len(candidates), np.iinfo(np.int64).max)
    for colour in np.rint(cielab(colours) * 1000).astype(np.int64):
        nearest = np.minimum(nearest, ((positions - colour) ** 2).sum(axis=1))
    while len(colours) < _SPREAD_COLOURS:
        farthest = int(nearest.argmax())
        red, green, blue = candidates[farthest].tolist()
        colours.append((red, green, blue))
        nearest = np.minimum(nearest, ((positions - positions[farthest]) ** 2).sum(axis=1))
    return tuple(colours)


@cache
def _more_colours() -> tuple[Colour, ...]:
    """The colours from 256 on: a fine RGB lattice in shuffled order, without those used before."""
    size = _LATTICE_LEVELS**3
    order = np.arange(size) * _LATTICE_STRIDE % size
    levels = np.rint(np.linspace(0, 255, _LATTICE_LEVELS)).astype(np.int64)
    lattice = levels[np.stack(np.unravel_index(order, (_LATTICE_LEVELS,) * 3), axis=-1)]
    used = set(_spread_colours())
    return tuple((r, g, b) for r, g, b in lattice.tolist() if (r, g, b) not in used)
