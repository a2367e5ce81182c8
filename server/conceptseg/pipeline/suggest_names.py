"""Which class each concept is, by areas whose class is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, never_cancelled
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings

_STEP_PX = 4  # a quarter of a token: finer than the concepts are
_RESAMPLINGS = 500
_LEAST_UM2 = 2000.0  # about thirty tokens: less of a concept is no evidence, for neighbouring tokens are alike


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedArea:
    """An area whose class is known, and what the concepts make of it.

    Attributes:
        class_name: What a person says it is.
        areas_um2: (n_concepts,) µm² of each concept in it.
    """

    class_name: str
    areas_um2: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassEvidence:
    """What speaks for a class of a concept.

    Attributes:
        class_name: The class.
        share: Share of this class in the concept if all classes were equally frequent.
        area_um2: µm² of the concept in areas of this class.
        areas: Areas of this class that have the concept.
        of_areas: Areas of this class.
    """

    class_name: str
    share: float
    area_um2: float
    areas: int
    of_areas: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NameSuggestion:
    """The class a concept seems to be.

    Attributes:
        concept: Index of the concept.
        class_name: The suggestion; None for a concept that is in no area.
        confidence: From 1 / number of classes (nothing is known) to 1; 0 without a suggestion.
        evidence: All classes the concept was seen in, the strongest first.
    """

    concept: int
    class_name: str | None
    confidence: float
    evidence: tuple[ClassEvidence, ...]


def concepts_inside(
    source: PixelSource,
    outline: Polygon | MultiPolygon | None,
    *,
    encoder: Encoder,
    dictionary: ConceptDictionary,
    cancelled: IsCancelled = never_cancelled,
) -> NDArray[np.float64]:
    """µm² of each concept inside an outline, as a segmentation of it with its background shows them.

    Args:
        source: The region that holds it.
        outline: In full-resolution px; None for the whole region.
        encoder: The dictionary's encoder.
        dictionary: The concepts.
        cancelled: Asked before every batch of tiles.

    Returns:
        (n_concepts,)
    """
    settings = SegmentSettings(whole_region=True)
    labels = segment(source, encoder=encoder, dictionary=dictionary, settings=settings, cancelled=cancelled)
    grid, found = source.grid, labels.label_map.labels
    rows, columns = np.arange(0, grid.height, _STEP_PX), np.arange(0, grid.width, _STEP_PX)
    picked = found[rows[:, None], columns]
    if outline is not None:
        shapely.prepare(outline)
        x = grid.region.x + (columns + 0.5) * grid.scale_x
        y = grid.region.y + (rows + 0.5) * grid.scale_y
        picked = picked[shapely.contains_xy(outline, *np.meshgrid(x, y))]
    counts = np.bincount(picked.ravel(), minlength=dictionary.n_concepts + 1)[1:]
    areas_um2: NDArray[np.float64] = counts.astype(np.float64) * grid.pixel_area_um2 * _STEP_PX**2
    return areas_um2


def suggest_names(areas: Sequence[NamedArea], *, seed: int = 0) -> tuple[NameSuggestion, ...]:
    """Suggest a class for every concept.

    Every class counts the same, however much of it was drawn. The confidence is the share of the class in the concept,
    averaged over resamplings of the areas, with one more area of the concept in which all classes are mixed: so one
    example makes nothing certain, and confidence comes with the number of areas that agree.

    Args:
        areas: What was looked at.
        seed: Of the resamplings.

    Returns:
        One suggestion per concept.

    Raises:
        InvalidRequestError: fewer than two classes.
    """
    classes = sorted({area.class_name for area in areas})
    if len(classes) < 2:
        raise InvalidRequestError(
            f"Expected areas of at least two classes, got {', '.join(classes) or 'none'}: what a concept is shows only "
            "against what it is not. Draw some of another class."
        )
    by_class = [np.array([area.areas_um2 for area in areas if area.class_name == name]) for name in classes]
    # The share of all that was drawn of the class, so that classes weigh the same.
    totals = np.array([max(float(drawn.sum()), 1e-12) for drawn in by_class])
    parts = [drawn / total for drawn, total in zip(by_class, totals, strict=True)]
    shares = _shares(np.array([part.sum(axis=0) for part in parts]))
    mixed = _mixed(parts, totals)
    rng = np.random.default_rng(seed)
    confidence = np.mean([_shares(_resampled(parts, rng) + mixed) for _ in range(_RESAMPLINGS)], axis=0)
    suggestions = []
    for concept in range(shares.shape[1]):
        evidence = [
            ClassEvidence(
                class_name=name,
                share=float(shares[n, concept]),
                area_um2=float(drawn[:, concept].sum()),
                areas=int(np.count_nonzero(drawn[:, concept])),
                of_areas=len(drawn),
            )
            for n, (name, drawn) in enumerate(zip(classes, by_class, strict=True))
            if drawn[:, concept].any()
        ]
        best = int(confidence[:, concept].argmax())
        suggestions.append(
            NameSuggestion(
                concept=concept,
                class_name=classes[best] if evidence else None,
                confidence=float(confidence[best, concept]) if evidence else 0.0,
                evidence=tuple(sorted(evidence, key=lambda one: -one.share)),
            )
        )
    return tuple(suggestions)


def _mixed(parts: Sequence[NDArray[np.float64]], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_concepts,) one more area of every concept for each class: as large as those in which most of it lies."""
    everything = np.concatenate(parts)
    usual = (everything**2).sum(axis=0) / np.maximum(everything.sum(axis=0), 1e-300)
    mixed: NDArray[np.float64] = np.maximum(usual, np.mean(_LEAST_UM2 / totals)) / len(parts)
    return mixed


def _resampled(parts: Sequence[NDArray[np.float64]], rng: np.random.Generator) -> NDArray[np.float64]:
    """(n_classes, n_concepts) sums over areas that are drawn with replacement."""
    return np.array([part[rng.integers(0, len(part), len(part))].sum(axis=0) for part in parts])


def _shares(masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each class in each concept, (n_classes, n_concepts); even where there is nothing of a concept."""
    total = masses.sum(axis=0)
    shares: NDArray[np.float64] = np.where(total > 0, masses / np.maximum(total, 1e-300), 1 / len(masses))
    return shares
