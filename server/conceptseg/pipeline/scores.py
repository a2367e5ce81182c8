"""How well label maps agree with masks, and concepts of tiles with their classes.

Boundary F1 is that of Csurka, Larlus and Perronnin ("What is a good evaluation measure for semantic segmentation?",
BMVC 2013) with two differences: the boundary pixels of all images are counted together, so that an image without a
boundary needs no rule of its own; and a boundary lies between any two classes. It is taken after concepts are mapped to
classes: borders between concepts of one class do not count, and borders of unlabelled background count as those of the
class it is mapped to. The image's edge is no boundary; neither is the edge of ignored pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.special
import scipy.stats
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from conceptseg.domain.errors import InvalidRequestError

Mask = NDArray[np.integer[Any]]
"""(height, width) class indices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Agreement of concepts with classes, each from 0 to 1.

    Attributes:
        class_iou: Intersection over union per class, concepts mapped to classes; NaN for a class that is neither
            there nor predicted.
        pixel_accuracy: Share of pixels whose concept's class is theirs.
        boundary_f1: Harmonic mean of the shares of predicted and of true boundary px with the other nearby. With a
            tolerance of several tokens noise scores well: speckle everywhere finds all true boundaries. Read it beside
            `score_chance`.
        hungarian_miou: Mean IoU when every class gets the one concept that suits it best, without a mapping.
        nmi: Normalised mutual information of concepts and classes.
        ari: Adjusted Rand index of concepts and classes.
    """

    class_iou: tuple[float, ...]
    pixel_accuracy: float
    boundary_f1: float
    hungarian_miou: float
    nmi: float
    ari: float

    @property
    def miou(self) -> float:
        """Mean of ``class_iou`` over the classes that occur."""
        return float(np.nanmean(self.class_iou))


def count_pixels(labels: Mask, mask: Mask, *, n_labels: int, n_classes: int, ignore: int | None) -> NDArray[np.int64]:
    """Pixels per label and class, (n_labels, n_classes).

    Args:
        labels: (height, width) 0 … n_labels - 1.
        mask: (height, width) 0 … n_classes - 1, or ``ignore``.
        n_labels: Number of labels, the unlabelled 0 included.
        n_classes: Number of classes.
        ignore: Class whose pixels do not count.

    Raises:
        InvalidRequestError: the shapes differ, or the mask holds another class.
    """
    if labels.shape != mask.shape:
        raise InvalidRequestError(f"Expected a mask of {labels.shape} px like its image, got {mask.shape}.")
    counted = np.ones(mask.shape, np.bool_) if ignore is None else mask != ignore
    classes = mask[counted].astype(np.int64)
    if classes.size and not 0 <= classes.min() <= classes.max() < n_classes:
        raise InvalidRequestError(f"Expected classes 0 to {n_classes - 1} in a mask, got {classes.max()}.")
    joint = labels[counted].astype(np.int64) * n_classes + classes
    return np.bincount(joint, minlength=n_labels * n_classes).reshape(n_labels, n_classes).astype(np.int64)


def majority_classes(pixels: NDArray[np.int64]) -> NDArray[np.intp]:
    """The class that most pixels of each label have, (n_labels,); the most frequent class for an unseen label.

    Args:
        pixels: (n_labels, n_classes) from `count_pixels`, summed over the images to learn from.
    """
    classes: NDArray[np.intp] = pixels.argmax(axis=1)
    classes[pixels.sum(axis=1) == 0] = pixels.sum(axis=0).argmax()
    return classes


def score(
    labels: Sequence[Mask],
    masks: Sequence[Mask],
    *,
    classes: NDArray[np.intp],
    tolerance_px: float,
    n_classes: int,
    ignore: int | None = None,
) -> Scores:
    """Score label maps against masks, all pixels together.

    Args:
        labels: Label maps (height, width).
        masks: Masks of the same shapes.
        classes: (n_labels,) class of each label, learned on other images.
        tolerance_px: How near a boundary must be to count as found.
        n_classes: Number of classes.
        ignore: Class whose pixels do not count.

    Raises:
        InvalidRequestError: shapes differ, or a mask holds a class beyond ``n_classes``.
    """
    pixels = np.zeros((len(classes), n_classes), np.int64)
    found = np.zeros(4)
    for one, mask in zip(labels, masks, strict=True):
        pixels += count_pixels(one, mask, n_labels=len(classes), n_classes=n_classes, ignore=ignore)
        found += _boundary_counts(classes[one], mask, tolerance_px=tolerance_px, ignore=ignore)
    by_class = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(by_class, classes, pixels)
    return Scores(
        class_iou=tuple(_iou(by_class).diagonal().tolist()),
        pixel_accuracy=float(by_class.trace() / max(by_class.sum(), 1)),
        boundary_f1=_f1(found),
        hungarian_miou=_hungarian(pixels),
        nmi=_nmi(pixels),
        ari=_ari(pixels),
    )


def score_chance(
    masks: Sequence[Mask],
    *,
    token_px: int,
    tolerance_px: float,
    n_classes: int,
    seed: int,
    ignore: int | None = None,
) -> Scores:
    """The scores of a guess: every token of ``token_px`` px gets a class at random; see `score`."""
    rng = np.random.default_rng(seed)
    guesses = []
    for mask in masks:
        height, width = mask.shape
        tokens = rng.integers(0, n_classes, (-(-height // token_px), -(-width // token_px)))
        guesses.append(np.repeat(np.repeat(tokens, token_px, axis=0), token_px, axis=1)[:height, :width])
    return score(
        guesses, masks, classes=np.arange(n_classes), tolerance_px=tolerance_px, n_classes=n_classes, ignore=ignore
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TileScores:
    """Agreement of the concepts of whole tiles with the tiles' classes, each from 0 to 1.

    Attributes:
        accuracy: Share of tiles whose concept's class, learned on other tiles, is theirs.
        purity: Share of tiles that are of their concept's most frequent class (grows with the number of concepts).
        nmi: Normalised mutual information of concepts and classes.
        ari: Adjusted Rand index of concepts and classes.
    """

    accuracy: float
    purity: float
    nmi: float
    ari: float


def score_tiles(labels: NDArray[np.intp], tile_classes: NDArray[np.intp], *, classes: NDArray[np.intp]) -> TileScores:
    """Score one label per tile.

    Args:
        labels: (n_tiles,) label of each tile, 0 … n_labels - 1.
        tile_classes: (n_tiles,) true class of each.
        classes: (n_labels,) class of each label, learned on other tiles.
    """
    counts = np.zeros((len(classes), 1 + max(int(tile_classes.max()), int(classes.max()))), np.int64)
    np.add.at(counts, (labels, tile_classes), 1)
    return TileScores(
        accuracy=float((classes[labels] == tile_classes).mean()),
        purity=float(counts.max(axis=1).sum() / counts.sum()),
        nmi=_nmi(counts),
        ari=_ari(counts),
    )


def _iou(pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of every row with every column; NaN where both are empty."""
    union = pixels.sum(axis=1)[:, None] + pixels.sum(axis=0) - pixels
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(union > 0, pixels / union, np.nan))


def _hungarian(pixels: NDArray[np.int64]) -> float:
    present = pixels[:, pixels.sum(axis=0) > 0]
    if present.size == 0:
        return float("nan")
    iou = np.nan_to_num(_iou(present))
    rows, columns = linear_sum_assignment(-iou)
    return float(iou[rows, columns].sum() / present.shape[1])


def _nmi(pixels: NDArray[np.int64]) -> float:
    """Normalised mutual information (arithmetic mean of the entropies, as scikit-learn) from joint counts."""
    joint = pixels / max(pixels.sum(), 1)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    entropy = scipy.stats.entropy(rows) + scipy.stats.entropy(columns) if pixels.any() else 0.0
    if entropy == 0:
        return 1.0
    information = scipy.special.rel_entr(joint, np.outer(rows, columns)).sum()
    return float(2 * information / entropy)


def _ari(pixels: NDArray[np.int64]) -> float:
    """Adjusted Rand index (Hubert & Arabie 1985) from joint counts."""

    def pairs(counts: NDArray[np.int64] | np.int64) -> float:
        counted = np.asarray(counts, np.float64)
        return float((counted * (counted - 1) / 2).sum())

    together = pairs(pixels)
    rows, columns = pairs(pixels.sum(axis=1)), pairs(pixels.sum(axis=0))
    expected = rows * columns / max(pairs(pixels.sum()), 1.0)
    most = (rows + columns) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def _boundary_counts(predicted: Mask, mask: Mask, *, tolerance_px: float, ignore: int | None) -> NDArray[np.float64]:
    """Predicted boundary px, those near a true one, true boundary px, those near a predicted one."""
    counted = np.ones(mask.shape, np.bool_) if ignore is None else mask != ignore
    ours, theirs = (_boundary(image, counted) for image in (predicted, mask))
    return np.array(
        [ours.sum(), _near(ours, theirs, tolerance_px), theirs.sum(), _near(theirs, ours, tolerance_px)], np.float64
    )


def _boundary(classes: Mask, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels with another class to their right or below, both counted."""
    edge = np.zeros(classes.shape, np.bool_)
    edge[:, :-1] |= (classes[:, :-1] != classes[:, 1:]) & counted[:, :-1] & counted[:, 1:]
    edge[:-1] |= (classes[:-1] != classes[1:]) & counted[:-1] & counted[1:]
    return edge


def _near(edge: NDArray[np.bool_], other: NDArray[np.bool_], tolerance_px: float) -> int:
    """How many pixels of ``edge`` lie within ``tolerance_px`` of ``other``."""
    if not other.any():
        return 0
    distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return int((distance[edge] <= tolerance_px).sum())


def _f1(found: NDArray[np.float64]) -> float:
    ours, ours_near, theirs, theirs_near = found
    if ours == theirs == 0:
        return 1.0
    precision, recall = ours_near / max(ours, 1), theirs_near / max(theirs, 1)
    return float(2 * precision * recall / max(precision + recall, np.finfo(float).tiny))
