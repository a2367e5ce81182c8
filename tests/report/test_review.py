import numpy as np
from shapely import box
from tests.report.tissue import evidence, piece, slide

from conceptseg.domain.classes import ConceptClass, default_classes
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.report.evidence import Label, concepts_of
from conceptseg.report.review import own_names_of, review_of


def reviewed(*pieces, labels=None, **others):
    shown = evidence(slide(pieces), **others)
    return review_of(shown, concepts_of(shown.slides), labels or {})


def test_what_nobody_named_has_no_name_and_the_colour_it_has_in_qupath():
    (row,) = reviewed(piece(3))
    assert row == {
        "name": None,
        "colour": list(default_classes(4)[3].colour),
        "chosen": False,
        "ignored": False,
        "review": None,
    }
    (row,) = reviewed(piece(3), class_colours={"Concept 03": (1, 2, 3)})
    assert row["colour"] == [1, 2, 3]


def test_numbers_have_as_many_digits_as_in_qupath():
    shown = evidence(
        slide([piece(7, class_name="Concept 007"), piece(8, class_name="Tumor"), piece(9, dictionary="d")])
    )
    concepts = concepts_of(shown.slides)
    assert own_names_of(shown, concepts) == ("Concept 09", "Concept 007", "Concept 008")
    assert [row["name"] for row in review_of(shown, concepts, {})] == [None, None, "Tumor"]


def test_a_class_of_the_results_is_a_name():
    (row,) = reviewed(piece(3, class_name="Tumor"), class_colours={"Tumor": (200, 0, 0)})
    assert (row["name"], row["colour"]) == ("Tumor", [200, 0, 0])
    assert reviewed(piece(3, class_name="Glass*"))[0] | {"colour": 0} == {
        "name": "Glass",
        "colour": 0,
        "chosen": False,
        "ignored": True,
        "review": None,
    }
    assert reviewed(piece(3, class_name="Ignore*"))[0]["name"] is None


def test_another_concepts_own_name_is_a_name_too():
    assert reviewed(piece(3, class_name="Concept 01"))[0]["name"] == "Concept 01"


def test_a_label_wins_over_the_results():
    label = Label(name="Stroma", colour=(9, 8, 7), review="accepted")
    (row,) = reviewed(piece(3, class_name="Tumor"), labels={("demo-k4", 3): label})
    assert (row["name"], row["colour"], row["chosen"], row["review"]) == ("Stroma", [9, 8, 7], True, "accepted")


def test_the_class_of_most_of_the_area_counts():
    mixed = [piece(3, box(0, 0, 9, 9), class_name="A"), piece(3, box(0, 0, 99, 99), class_name="B")]
    assert reviewed(*mixed)[0]["name"] == "B"


def test_colours_of_a_dictionary_are_used():
    classes = tuple(ConceptClass(concept=k, name=f"C{k}", colour=(k, k, k)) for k in range(4))
    own = ConceptDictionary(
        identifier="demo-k4",
        concepts=np.ones((4, 2), np.float32),
        encoder="default",
        pixel_size_um=0.5,
        classes=classes,
    )
    assert reviewed(piece(2), dictionaries={"demo-k4": own})[0]["colour"] == [2, 2, 2]
