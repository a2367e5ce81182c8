"""Concept dictionaries: the non-negative directions that feature maps are factorized against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.classes import ConceptClass, default_classes
from conceptseg.domain.errors import DictionaryError


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptDictionary:
    """A set of concepts for one encoder at one pixel size.

    Attributes:
        identifier: Short name, e.g. ``default-k16``.
        concepts: (n_concepts, channels) float32, finite and non-negative; read-only.
        encoder: Identifier of the encoder whose features it describes.
        pixel_size_um: µm per pixel of the images it was fitted on.
        classes: Name and colour per concept.
        provenance: How it came about (data, method, seed, command, licence), for people.
    """

    identifier: str
    concepts: NDArray[np.float32]
    encoder: str
    pixel_size_um: float
    classes: tuple[ConceptClass, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        concepts = np.array(self.concepts, dtype=np.float32, order="C")
        if concepts.ndim != 2 or 0 in concepts.shape:
            raise DictionaryError(
                f"Dictionary {self.identifier}: expected concepts (n_concepts, channels), got {concepts.shape}."
            )
        if not np.isfinite(concepts).all():
            raise DictionaryError(f"Dictionary {self.identifier}: the concepts contain NaN or infinite values.")
        # The published dictionaries are k-means centres of ReLU features; the method clips them at 0.
        np.maximum(concepts, 0, out=concepts)
        concepts.flags.writeable = False
        object.__setattr__(self, "concepts", concepts)
        classes = self.classes or default_classes(len(concepts))
        if [item.concept for item in classes] != list(range(len(concepts))):
            raise DictionaryError(
                f"Dictionary {self.identifier}: expected one class per concept 0 … {len(concepts) - 1}, "
                f"got {len(classes)}."
            )
        object.__setattr__(self, "classes", tuple(classes))

    @property
    def n_concepts(self) -> int:
        """Number of concepts."""
        return int(self.concepts.shape[0])

    @property
    def channels(self) -> int:
        """Channels of the encoder's feature map."""
        return int(self.concepts.shape[1])

    def require_encoder(self, encoder: str, *, channels: int | None = None) -> None:
        """Raise DictionaryError unless the dictionary describes features of ``encoder``, with ``channels`` if known."""
        if self.encoder == encoder and channels not in (None, self.channels):
            raise DictionaryError(
                f"Dictionary {self.identifier} has {self.channels} channels, and {encoder} has {channels} now: it was "
                "made with another version or layer of that encoder. Fit a new one with `conceptseg concepts fit`."
            )
        if self.encoder != encoder:
            found = f" ({channels} channels)" if channels else ""
            raise DictionaryError(
                f"Dictionary {self.identifier} belongs to encoder {self.encoder} ({self.channels} channels), "
                f"but the encoder is {encoder}{found}. Choose --encoder {self.encoder}, or a "
                f"dictionary fitted with {encoder} (see `conceptseg concepts list`, `conceptseg concepts fit`)."
            )
