"""Concepts against masks: which class each concept stands for is learned on some images and scored on the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import Labels
from conceptseg.domain.region import PixelGrid
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.kmeans import fit_kmeans
from conceptseg.factorization.learn import learn_nmf
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.sampling import sample_tokens
from conceptseg.pipeline.scores import Mask, Scores, TileScores, count_pixels, majority_classes, score, score_tiles
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import Method, SegmentSettings

LearningMethod = Literal["learned", "kmeans"]
EvaluatedMethod = Literal["default", "projection", "nearest", "matched", "reference", "learned", "kmeans"]
EVALUATED_METHODS: tuple[EvaluatedMethod, ...] = get_args(EvaluatedMethod)
"""``default`` is `SegmentSettings` as users get it, tissue rule and cleaning included; the others are the bare label
maps of all pixels. ``learned`` and ``kmeans`` have as many concepts as the dictionary, but learned from the images
themselves, masks unseen: by non-negative factorization and projection, or by k-means and the nearest centre."""

_STAGES = ("encode", "factorize", "label")
_LEARNING_TOKENS = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """One image as a method labels it.

    Attributes:
        labels: (height, width) 0 = unlabelled, concept k = k + 1.
        relative_residual: ||F - D^T A|| / ||F||; NaN where the method has none.
        seconds: Time from pixels to the label map.
    """

    labels: Labels
    relative_residual: float
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The scores of one seed.

    Attributes:
        scores: Over the scored images.
        scored: Indices of the images that were scored; the mapping was learned on the others.
    """

    scores: Scores
    scored: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inexactness:
    """How far the reference's solutions are from the optimum.

    Attributes:
        other_labels: Share of pixels with another label than the optimum's.
        least_excess: The reference's objective over the optimum, minus 1, on the image where that is least; never
            below 0 but for rounding.
        largest_excess: The same where it is largest.
    """

    other_labels: float
    least_excess: float
    largest_excess: float


def learn_dictionary(
    sources: Iterable[PixelSource], *, encoder: Encoder, method: LearningMethod, n_concepts: int, total: int
) -> ConceptDictionary:
    """The concepts that a learning method finds in a data set.

    Args:
        sources: Its images, read one after another.
        encoder: The frozen encoder.
        method: How to learn.
        n_concepts: How many concepts.
        total: Number of images; each gives the same share of the tokens to learn from.

    Raises:
        InvalidRequestError: fewer tissue tokens than concepts.
    """
    at_most = max(1, _LEARNING_TOKENS // total)
    sampled = [
        sample_tokens(source, encoder=encoder, seed=number, at_most=at_most) for number, source in enumerate(sources)
    ]
    tokens = np.concatenate(sampled)
    if method == "learned":
        concepts = learn_nmf(torch.from_numpy(tokens), n_concepts=n_concepts)
    else:
        concepts = fit_kmeans(tokens, n_concepts=n_concepts, seed=0).concepts
    return ConceptDictionary(
        identifier=f"{method}-k{n_concepts}",
        concepts=concepts,
        encoder=encoder.spec.identifier,
        pixel_size_um=encoder.spec.pixel_size_um,
    )


def label_image(
    source: PixelSource, *, encoder: Encoder, dictionary: ConceptDictionary, method: EvaluatedMethod
) -> Labelled:
    """Label an image with a method; raises what `segment` raises.

    Args:
        source: The image.
        encoder: The frozen encoder.
        dictionary: The concepts; for ``learned`` and ``kmeans`` from `learn_dictionary`.
        method: How.
    """
    settings = SegmentSettings()
    if method != "default":
        solved_by: Mapping[str, Method] = {"learned": "projection", "kmeans": "nearest"}
        settings = SegmentSettings(
            method=solved_by.get(method, cast("Method", method)),
            n_concepts=dictionary.n_concepts,
            whole_region=True,
            min_area_um2=0,
            min_hole_area_um2=0,
        )
    result = segment(source, encoder=encoder, dictionary=dictionary, settings=settings)
    return Labelled(
        labels=result.label_map.labels,
        relative_residual=result.relative_residual,
        seconds=sum(result.seconds[stage] for stage in _STAGES),
    )


def mask_on_grid(mask: Mask, grid: PixelGrid) -> Mask:
    """The class at the centre of every output pixel, (grid.height, grid.width).

    Args:
        mask: (height, width) of the whole image in full-resolution px.
        grid: Output pixels.
    """
    rows = ((np.arange(grid.height) + 0.5) * grid.scale_y + grid.region.y).astype(np.int64)
    columns = ((np.arange(grid.width) + 0.5) * grid.scale_x + grid.region.x).astype(np.int64)
    if rows[-1] >= mask.shape[0] or columns[-1] >= mask.shape[1]:
        height, width = grid.region.y + grid.region.height, grid.region.x + grid.region.width
        raise InvalidRequestError(f"Expected a mask of {height} × {width} px like its image, got {mask.shape}.")
    return mask[rows[:, None], columns]


def score_splits(
    labelled: Sequence[Labelled],
    masks: Sequence[Mask],
    *,
    n_concepts: int,
    n_classes: int,
    seeds: Sequence[int],
    fit_share: float,
    tolerance_px: float,
    ignore: int | None = None,
) -> tuple[Split, ...]:
    """Learn the mapping of concepts to classes on a random share of the images, score on the others; per seed.

    Args:
        labelled: One per image.
        masks: Of the same shapes.
        n_concepts: Concepts of the dictionary.
        n_classes: Number of classes.
        seeds: One split for each.
        fit_share: Share of the images that the mapping is learned on, 0 to 1.
        tolerance_px: How near a boundary must be to count as found.
        ignore: Class whose pixels do not count.

    Raises:
        InvalidRequestError: fewer than two images, or a share that leaves none on one side.
    """
    counts = _counts(labelled, masks, n_concepts=n_concepts, n_classes=n_classes, ignore=ignore)

    def scored_split(fitted: NDArray[np.intp], scored: NDArray[np.intp]) -> Split:
        scores = score(
            [labelled[i].labels for i in scored],
            [masks[i] for i in scored],
            classes=majority_classes(np.sum([counts[i] for i in fitted], axis=0)),
            tolerance_px=tolerance_px,
            n_classes=n_classes,
            ignore=ignore,
        )
        return Split(scores=scores, scored=scored)

    return tuple(
        scored_split(*split) for split in _splits(len(labelled), seeds=seeds, fit_share=fit_share, what="images")
    )


def classes_by_the_others(
    labelled: Sequence[Labelled], masks: Sequence[Mask], *, n_concepts: int, n_classes: int, ignore: int | None
) -> tuple[Mask, ...]:
    """The class map (height, width) of every image, with the mapping learned on all the other images."""
    counts = _counts(labelled, masks, n_concepts=n_concepts, n_classes=n_classes, ignore=ignore)
    total = np.sum(counts, axis=0)
    return tuple(majority_classes(total - own)[one.labels] for one, own in zip(labelled, counts, strict=True))


def inexactness(reference: Sequence[Labelled], optimum: Sequence[Labelled]) -> Inexactness:
    """Compare the reference's results with those of the exact projection on the same images and dictionary."""
    other = sum(int((a.labels != b.labels).sum()) for a, b in zip(reference, optimum, strict=True))
    excess = [(a.relative_residual / b.relative_residual) ** 2 - 1 for a, b in zip(reference, optimum, strict=True)]
    return Inexactness(
        other_labels=other / sum(one.labels.size for one in optimum),
        least_excess=min(excess),
        largest_excess=max(excess),
    )


def tile_label(labelled: Labelled) -> int:
    """The label that most labelled pixels of a tile have; 0 where none has one."""
    pixels = np.bincount(labelled.labels.ravel(), minlength=2)[1:]
    return int(pixels.argmax()) + 1 if pixels.any() else 0


def score_tile_splits(
    labels: Sequence[int],
    tile_classes: Sequence[int],
    *,
    n_concepts: int,
    seeds: Sequence[int],
    fit_share: float,
) -> tuple[TileScores, ...]:
    """Learn the mapping of concepts to classes on a random share of the tiles, score on the others; per seed.

    Args:
        labels: Of every tile, from `tile_label`.
        tile_classes: Class index of every tile.
        n_concepts: Concepts of the dictionary.
        seeds: One split for each.
        fit_share: Share of the tiles that the mapping is learned on, 0 to 1.

    Raises:
        InvalidRequestError: a share that leaves no tile on one side.
    """
    found, true = np.array(labels, np.intp), np.array(tile_classes, np.intp)
    scores = []
    for fitted, scored in _splits(len(found), seeds=seeds, fit_share=fit_share, what="tiles"):
        counts = np.zeros((n_concepts + 1, int(true.max()) + 1), np.int64)
        np.add.at(counts, (found[fitted], true[fitted]), 1)
        scores.append(score_tiles(found[scored], true[scored], classes=majority_classes(counts)))
    return tuple(scores)


def summarise(scores: Sequence[Scores] | Sequence[TileScores]) -> dict[str, object]:
    """Mean and standard deviation over the seeds, as `conceptseg evaluate --json` writes them."""
    names = [field.name for field in fields(scores[0]) if field.name != "class_iou"]
    summary: dict[str, object] = {}
    if isinstance(scores[0], Scores):
        names.insert(0, "miou")
        class_iou = np.array([cast("Scores", one).class_iou for one in scores])
        seen = [column[~np.isnan(column)] for column in class_iou.T]
        summary["class_iou"] = [float(column.mean()) if column.size else None for column in seen]
    for name in names:
        values = [getattr(one, name) for one in scores]
        summary[name] = {"mean": float(np.mean(values)), "sd": float(np.std(values))}
    return summary


def _counts(
    labelled: Sequence[Labelled], masks: Sequence[Mask], *, n_concepts: int, n_classes: int, ignore: int | None
) -> list[NDArray[np.int64]]:
    return [
        count_pixels(one.labels, mask, n_labels=n_concepts + 1, n_classes=n_classes, ignore=ignore)
        for one, mask in zip(labelled, masks, strict=True)
    ]


def _splits(
    total: int, *, seeds: Sequence[int], fit_share: float, what: str
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Indices to learn the mapping on, and to score, per seed."""
    n_fit = round(fit_share * total)
    if not 0 < n_fit < total:
        raise InvalidRequestError(
            f"Expected {what} on both sides of the split, got {n_fit} of {total} to learn the mapping on. "
            f"Give more {what}, or another --fit-split."
        )
    orders = [np.random.default_rng(seed).permutation(total) for seed in seeds]
    return [(order[:n_fit], np.sort(order[n_fit:])) for order in orders]
