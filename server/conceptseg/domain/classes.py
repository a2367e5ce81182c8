"""What a concept is called and how it is coloured, the same in QuPath, overlays and reports."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]
"""Red, green, blue, 0 … 255."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptClass:
    """Name and colour of one concept.

    Attributes:
        concept: Index of the concept in its dictionary, from 0.
        name: QuPath class name, ``Concept 07`` until a person names it.
        colour: Display colour.
    """

    concept: int
    name: str
    colour: Colour
