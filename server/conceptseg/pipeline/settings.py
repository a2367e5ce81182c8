"""Everything a user can choose about a segmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.imaging.glass import Colour
from conceptseg.imaging.slide import TissueSettings

Method = Literal["projection", "learned", "matched", "nearest", "reference"]
METHODS: tuple[Method, ...] = get_args(Method)
_MOST_TOLERANCE_PX = 1024

TISSUE_CLASS = "Tissue"
"""Class of annotations that hold nothing but tissue, whatever its colour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentSettings:
    """How a region is segmented.

    Attributes:
        method: ``projection`` (exact non-negative least squares on the dictionary), ``learned`` (k concepts from
            this region alone), ``matched`` (learned, then the most similar dictionary concept), ``nearest`` (cosine
            similarity, no factorization), ``reference`` (the published algorithm, slow, for comparison).
        n_concepts: Concepts to learn, for ``learned`` and ``matched``.
        seed: Seed of whatever is random in ``learned`` and ``matched``.
        tile_px: Side of a tile in output px; None for the size the encoder is fastest on. Results do not depend
            on it where the encoder's receptive field fits its halo.
        whole_region: Segment background as well, instead of tissue only.
        min_area_um2: Smaller areas are given to their neighbours. The default is half a token of 8 µm: slivers between
            tokens go, what is a token's own stays. Larger ones make fewer polygons of less truth (ARCHITECTURE.md,
            Quality).
        min_hole_area_um2: Smaller holes in the tissue are filled.
        glass_colour: Red, green and blue of bare glass, where what is found in the slide is wrong; None to find it.
        tissue_strictness: How much stain tissue must have, as a factor of the usual.
        tolerance_px: How far outlines may move when simplified, in output px; 0 for the exact pixel outlines.
    """

    method: Method = "projection"
    n_concepts: int = 8
    seed: int = 0
    tile_px: int | None = None
    whole_region: bool = False
    min_area_um2: float = 32.0
    min_hole_area_um2: float = 400.0
    tolerance_px: float = 1.0
    glass_colour: Colour | None = None
    tissue_strictness: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidRequestError(f"Unknown method {self.method!r}. Expected one of {', '.join(METHODS)}.")
        if not 1 <= self.n_concepts <= 1024:
            raise InvalidRequestError(f"Expected k from 1 to 1024, got {self.n_concepts}.")
        if not 0 <= self.seed < 2**32:
            raise InvalidRequestError(f"Expected a seed from 0 to {2**32 - 1}, got {self.seed}.")
        for name in ("min_area_um2", "min_hole_area_um2", "tolerance_px"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidRequestError(f"Expected {name} >= 0, got {value}.")
        if self.tolerance_px > _MOST_TOLERANCE_PX:
            raise InvalidRequestError(f"Expected tolerance_px <= {_MOST_TOLERANCE_PX}, got {self.tolerance_px:g}.")

        _ = self.tissue  # checks what it is made of

    @property
    def tissue(self) -> TissueSettings:
        """How tissue is told from glass."""
        return TissueSettings(glass_colour=self.glass_colour, strictness=self.tissue_strictness)

    def inside(self, class_name: str | None) -> SegmentSettings:
        """The settings for annotations of a class: in one of class Tissue, a person said that everything is tissue."""
        return replace(self, whole_region=True) if class_name == TISSUE_CLASS else self

    @property
    def reads_twice(self) -> bool:
        """Whether the region may be read twice: to learn its concepts, and to find them in it."""
        return self.method in ("learned", "matched")


def learned_identifier(*, n_concepts: int, seed: int) -> str:
    """What results of method ``learned`` have in place of a dictionary's identifier."""
    return f"learned-k{n_concepts}-seed{seed}"
