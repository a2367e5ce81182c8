"""Label maps: one integer per output pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.region import PixelGrid

Labels = NDArray[np.unsignedinteger[Any]]
"""(height, width) uint8 or uint16; 0 = unlabelled, concept k -> k + 1."""


class Runs(NamedTuple):
    """The pixels of a label map row by row, from one change of label to the next; compiled loops take it as it is.

    Attributes:
        row_start: (h + 1,) int64, the first run of every row, and the number of all.
        first: (runs,) int32, the first column of every run.
        stop: (runs,) int32, the column after its last.
        component: (runs,) int32, the connected area it belongs to.
    """

    row_start: NDArray[np.int64]
    first: NDArray[np.int32]
    stop: NDArray[np.int32]
    component: NDArray[np.int32]


def label_dtype(n_concepts: int) -> type[np.uint8] | type[np.uint16]:
    """The smallest unsigned type that holds the labels 0 … ``n_concepts``."""
    if not 1 <= n_concepts <= np.iinfo(np.uint16).max:
        raise InvalidRequestError(f"Expected 1 to 65535 concepts, got {n_concepts}.")
    return np.uint8 if n_concepts <= np.iinfo(np.uint8).max else np.uint16


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMap:
    """The concept of every output pixel of a region.

    Attributes:
        labels: (grid.height, grid.width) unsigned integers; 0 = unlabelled, concept k -> k + 1.
        grid: Where the pixels lie in the image.
        n_concepts: Number of concepts of the dictionary, so labels are <= n_concepts.
    """

    labels: Labels
    grid: PixelGrid
    n_concepts: int

    def __post_init__(self) -> None:
        expected = (self.grid.height, self.grid.width)
        if self.labels.shape != expected or self.labels.dtype != label_dtype(self.n_concepts):
            raise InvalidRequestError(
                f"Expected labels {expected} of {label_dtype(self.n_concepts).__name__}, "
                f"got {self.labels.shape} of {self.labels.dtype}."
            )

    @property
    def tissue_area_um2(self) -> float:
        """Labelled area in µm²."""
        return float(np.count_nonzero(self.labels)) * self.grid.pixel_area_um2
