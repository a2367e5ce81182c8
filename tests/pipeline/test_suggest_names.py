"""Which class each concept is."""

import numpy as np
import pytest
from shapely import box

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.pipeline.suggest_names import NamedArea, concepts_inside, suggest_names


def area(class_name, *areas, um2=1000):
    return NamedArea(class_name=class_name, areas_um2=np.array(areas, np.float64) * um2)


def test_a_concept_is_suggested_the_class_it_lies_in():
    tumor, stroma, unseen = suggest_names(
        [*(area("Tumor", 90, 10, 0) for _ in range(8)), *(area("Stroma", 5, 95, 0) for _ in range(8))]
    )
    assert (tumor.class_name, stroma.class_name) == ("Tumor", "Stroma")
    assert tumor.confidence > 0.8
    assert [(one.class_name, round(one.share, 2)) for one in tumor.evidence] == [("Tumor", 0.95), ("Stroma", 0.05)]
    assert (tumor.evidence[0].area_um2, tumor.evidence[0].areas, tumor.evidence[0].of_areas) == (720_000, 8, 8)
    assert (unseen.class_name, unseen.confidence, unseen.evidence) == (None, 0.0, ())


def test_a_class_of_which_much_was_drawn_weighs_no_more_than_another():
    little = [area("Tumor", 9, 1), area("Tumor", 9, 1)]
    much = [area("Stroma", 2000, 8000), area("Stroma", 2000, 8000)]
    first, second = suggest_names([*little, *much])
    assert (first.class_name, second.class_name) == ("Tumor", "Stroma")


def test_confidence_grows_with_the_areas_that_agree():
    def confidence(count):
        drawn = [area(name, *row) for name, row in (("Tumor", (9, 0)), ("Stroma", (0, 9))) for _ in range(count)]
        return suggest_names(drawn)[0].confidence

    found = [confidence(count) for count in (1, 2, 5, 20)]
    assert found == sorted(found)
    assert 0.5 < found[0] <= 0.8
    assert found[-1] > 0.95


def test_one_area_that_has_a_concept_is_no_evidence_however_large_it_is():
    others = [area("Tumor", 0, 100) for _ in range(9)]
    strays = suggest_names([area("Tumor", 5000, 0), *others, *(area("Stroma", 0, 100) for _ in range(10))])[0]
    assert strays.class_name == "Tumor"
    assert strays.confidence < 0.7


def test_a_few_tokens_are_no_evidence_however_often_they_agree():
    drawn = [*(area("Tumor", 200, 9e4, um2=1) for _ in range(5)), *(area("Stroma", 0, 9e4, um2=1) for _ in range(5))]
    found = suggest_names(drawn)[0]
    assert (found.class_name, found.evidence[0].share) == ("Tumor", 1.0)
    assert found.confidence < 0.7


def test_the_suggestion_is_the_class_that_the_evidence_speaks_for_whatever_was_drawn_of_each():
    drawn = [*(area("Tumor", 0, 900) for _ in range(4)), area("Tumor", 1, 900), area("Stroma", 0, 9)]
    found = suggest_names(drawn)[0]
    assert (found.class_name, found.evidence[0].class_name) == ("Tumor", "Tumor")


def test_a_concept_of_all_classes_is_sure_of_none():
    mixed = suggest_names([area(name, 50, 50) for name in "abcd" for _ in range(5)])
    assert all(0.2 < one.confidence < 0.35 for one in mixed)


def test_two_classes_are_needed():
    with pytest.raises(InvalidRequestError, match=r"at least two classes, got Tumor"):
        suggest_names([area("Tumor", 1, 2)])


def test_the_seed_decides():
    drawn = [area("a", 3, 1), area("a", 1, 3), area("b", 2, 2), area("b", 1, 3)]
    assert suggest_names(drawn, seed=1) == suggest_names(drawn, seed=1)
    assert suggest_names(drawn, seed=1) != suggest_names(drawn, seed=2)


def test_areas_are_those_of_the_segmentation(region_of, colon, encoder, dictionary):
    source = region_of(colon)
    labels = segment(
        source, encoder=encoder, dictionary=dictionary, settings=SegmentSettings(whole_region=True)
    ).label_map.labels
    outline = box(100, 60, 300, 500)
    found = concepts_inside(source, outline, encoder=encoder, dictionary=dictionary)
    expected = np.bincount(labels[60:500, 100:300].ravel(), minlength=17)[1:] * 0.25
    np.testing.assert_allclose(found, expected, atol=0.02 * expected.sum())
    assert concepts_inside(source, None, encoder=encoder, dictionary=dictionary).sum() == 512 * 512 * 0.25
