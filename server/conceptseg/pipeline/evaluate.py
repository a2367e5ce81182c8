"""Concepts against masks: which class each concept stands for is learned on some images and scored on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import Labels
from conceptseg.domain.region import PixelGrid
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.scores import Mask, Scores, count_pixels, majority_classes, score
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings

EvaluatedMethod = Literal["default", "projection", "nearest", "matched", "reference"]
EVALUATED_METHODS: tuple[EvaluatedMethod, ...] = get_args(EvaluatedMethod)
"""``default`` is `SegmentSettings` as users get it, tissue rule and cleaning included; the others are the bare label
maps of all pixels. Concepts of ``learned`` differ from image to image, so no mapping can be carried over."""

_STAGES = ("encode", "factorize", "label")


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """One image as a method labels it.

    Attributes:
        labels: (height, width) 0 = unlabelled, concept k = k + 1.
        seconds: Time from pixels to the label map.
    """

    labels: Labels
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The scores of one seed.

    Attributes:
        scores: Over the scored images.
        scored: Indices of the images that were scored; the mapping was learned on the others.
        classes: (n_concepts + 1,) class of each label.
    """

    scores: Scores
    scored: NDArray[np.intp]
    classes: NDArray[np.intp]


def label_image(
    source: PixelSource, *, encoder: Encoder, dictionary: ConceptDictionary, method: EvaluatedMethod
) -> Labelled:
    """Label an image with a method; raises what `segment` raises."""
    settings = SegmentSettings()
    if method != "default":
        settings = SegmentSettings(
            method=method,
            n_concepts=dictionary.n_concepts,
            whole_region=True,
            min_area_um2=0,
            min_hole_area_um2=0,
        )
    result = segment(source, encoder=encoder, dictionary=dictionary, settings=settings)
    return Labelled(labels=result.label_map.labels, seconds=sum(result.seconds[stage] for stage in _STAGES))


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
    n_fit = round(fit_share * len(labelled))
    if not 0 < n_fit < len(labelled):
        raise InvalidRequestError(
            f"Expected images on both sides of the split, got {n_fit} of {len(labelled)} to learn the mapping on. "
            "Give more images, or another --fit-split."
        )
    counts = [
        count_pixels(one.labels, mask, n_labels=n_concepts + 1, n_classes=n_classes, ignore=ignore)
        for one, mask in zip(labelled, masks, strict=True)
    ]
    splits = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(labelled))
        fitted, scored = order[:n_fit], np.sort(order[n_fit:])
        classes = majority_classes(np.sum([counts[i] for i in fitted], axis=0))
        scores = score(
            [labelled[i].labels for i in scored],
            [masks[i] for i in scored],
            classes=classes,
            tolerance_px=tolerance_px,
            n_classes=n_classes,
            ignore=ignore,
        )
        splits.append(Split(scores=scores, scored=scored, classes=classes))
    return tuple(splits)


def summarise(splits: Sequence[Split], *, seconds: float) -> Mapping[str, object]:
    """Mean and standard deviation over the seeds, as `conceptseg evaluate --json` writes them."""
    names = ("miou", "pixel_accuracy", "boundary_f1", "hungarian_miou", "nmi", "ari")
    values = {name: [getattr(split.scores, name) for split in splits] for name in names}
    spread = {name: {"mean": float(np.mean(found)), "sd": float(np.std(found))} for name, found in values.items()}
    class_iou = np.array([split.scores.class_iou for split in splits])
    seen = [column[~np.isnan(column)] for column in class_iou.T]
    return {
        **spread,
        "class_iou": [float(column.mean()) if column.size else None for column in seen],
        "seconds": seconds,
    }
