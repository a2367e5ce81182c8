"""Agreement of label maps with masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, jaccard_score, normalized_mutual_info_score

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.pipeline.scores import count_pixels, majority_classes, score, score_chance, score_tiles


def scores_of(labels, masks, *, n_classes=2, ignore=None, tolerance_px=2.0, classes=None):
    n_labels = int(max(one.max() for one in labels)) + 1
    if classes is None:
        classes = majority_classes(
            sum(
                count_pixels(one, mask, n_labels=n_labels, n_classes=n_classes, ignore=ignore)
                for one, mask in zip(labels, masks, strict=True)
            )
        )
    return score(labels, masks, classes=classes, tolerance_px=tolerance_px, n_classes=n_classes, ignore=ignore)


def halves(side=20, at=10):
    mask = np.zeros((side, side), np.uint8)
    mask[:, at:] = 1
    return mask


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 4))
def test_the_scores_are_those_of_scikit_learn(seed, n_labels, n_classes):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, n_classes, (9, 8))
    labels = np.where(rng.random((9, 8)) < 0.5, mask % n_labels, rng.integers(0, n_labels, (9, 8)))
    labels[0, 0] = n_labels - 1
    ours = scores_of([labels], [mask], n_classes=n_classes)
    flat = labels.ravel(), mask.ravel()
    assert ours.nmi == pytest.approx(normalized_mutual_info_score(*flat))
    assert ours.ari == pytest.approx(adjusted_rand_score(*flat))
    classes = majority_classes(count_pixels(labels, mask, n_labels=n_labels, n_classes=n_classes, ignore=None))
    predicted = classes[labels].ravel()
    present = [c for c in range(n_classes) if c in predicted or c in mask]
    expected = jaccard_score(mask.ravel(), predicted, labels=present, average="macro", zero_division=0)
    assert ours.miou == pytest.approx(expected)
    assert ours.pixel_accuracy == pytest.approx((predicted == mask.ravel()).mean())


def test_several_concepts_may_make_up_one_class():
    mask = halves()
    labels = mask * 2 + np.arange(20)[:, None] % 2
    ours = scores_of([labels], [mask])
    assert (ours.miou, ours.pixel_accuracy, ours.boundary_f1) == (1, 1, 1)
    assert ours.hungarian_miou == pytest.approx(0.5)
    assert ours.nmi < 1


def test_the_mapping_comes_from_other_images():
    swapped = scores_of([halves()], [halves()], classes=np.array([1, 0]))
    assert swapped.miou == 0


def test_a_label_that_was_never_seen_gets_the_most_frequent_class():
    pixels = np.array([[5, 1], [0, 0], [0, 3]])
    assert majority_classes(pixels).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("shift", "f1"), [(0, 1.0), (2, 1.0), (3, 0.0)])
def test_a_boundary_counts_as_found_within_the_tolerance(shift, f1):
    ours = scores_of([halves(at=10 + shift)], [halves()], classes=np.array([0, 1]))
    assert ours.boundary_f1 == f1


def test_boundaries_that_are_not_there_cost_precision_only():
    mask = halves()
    labels = mask.copy()
    labels[:, 2:4] = 1
    ours = scores_of([labels], [mask], classes=np.array([0, 1]))
    assert ours.boundary_f1 == pytest.approx(2 * (1 / 3) / (1 / 3 + 1))


def test_borders_between_concepts_of_one_class_and_the_edge_of_the_image_are_no_boundaries():
    mask = halves()
    labels = mask.copy()
    labels[:, 3:6] = 2
    ours = scores_of([labels], [mask], classes=np.array([0, 1, 0]))
    assert ours.boundary_f1 == 1


def test_borders_of_unlabelled_background_count_as_those_of_its_class():
    mask = halves()
    labels = np.where(mask == 1, 0, 2)  # 0 = unlabelled
    ours = scores_of([labels], [mask], classes=np.array([1, 0, 0]))
    assert ours.boundary_f1 == 1
    assert scores_of([labels], [mask], classes=np.array([0, 0, 0])).boundary_f1 == 0


def test_noise_finds_all_boundaries_and_chance_says_so():
    mask = np.zeros((200, 200), np.uint8)
    mask[:, 100:] = 1
    ours = score_chance([mask], token_px=4, tolerance_px=50, n_classes=2, seed=0)
    assert ours.boundary_f1 > 0.6  # all that is true is found, and half of what is predicted lies near
    assert ours.miou == pytest.approx(1 / 3, abs=0.03)
    assert abs(ours.ari) < 0.01
    assert ours == score_chance([mask], token_px=4, tolerance_px=50, n_classes=2, seed=0)


def test_tiles_are_scored_by_a_mapping_from_other_tiles():
    labels, true = np.array([1, 1, 1, 2, 2, 0]), np.array([0, 0, 1, 1, 1, 2])
    ours = score_tiles(labels, true, classes=np.array([2, 0, 0]))
    assert ours.accuracy == pytest.approx(3 / 6)
    assert ours.purity == pytest.approx(5 / 6)
    assert ours.nmi == pytest.approx(normalized_mutual_info_score(true, labels))
    assert ours.ari == pytest.approx(adjusted_rand_score(true, labels))


def test_ignored_pixels_count_nowhere():
    mask = halves()
    labels = mask.copy()
    labels[5:9] = 1 - labels[5:9]
    mask[4:10] = 255
    ours = scores_of([labels], [mask], ignore=255)
    assert (ours.miou, ours.boundary_f1) == (1, 1)


def test_a_class_that_occurs_nowhere_does_not_count():
    ours = scores_of([halves()], [halves()], n_classes=3)
    assert np.isnan(ours.class_iou[2])
    assert ours.miou == 1


def test_masks_that_do_not_fit_are_told():
    with pytest.raises(InvalidRequestError, match="like its image"):
        scores_of([halves()], [halves(side=21)])
    with pytest.raises(InvalidRequestError, match="Expected classes 0 to 1"):
        scores_of([halves()], [halves() * 7])
