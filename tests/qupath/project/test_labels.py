import json

import pytest
import shapely
from tests.qupath.project.worlds import result

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.qupath.project.contents import ClassStyle, ImageContents
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.relabel import relabel

OWN = ConceptClass(concept=3, name="Concept 03", colour=(1, 2, 3))
COLOURS = {"Concept 01": (1, 1, 1), "Tumor": (200, 0, 0), "Stroma": None}


def test_a_concept_without_a_label_has_the_name_and_colour_of_its_dictionary():
    assert Labels().style("d", [3], OWN) == ClassStyle(name="Concept 03", colour=(1, 2, 3))


def test_a_name_is_used_and_a_chosen_colour_wins():
    labels = Labels().named("d", [3], "Tumor")
    assert labels.style("d", [3], OWN) == ClassStyle(name="Tumor", colour=(1, 2, 3))
    labels = labels.coloured("d", [3], (9, 8, 7))
    assert labels.style("d", [3], OWN) == ClassStyle(name="Tumor", colour=(9, 8, 7), chosen=True)
    assert labels.named("d", [3], "Stroma").of("d")[3].colour is None


def test_ignored_concepts_end_in_a_star():
    labels = Labels().named("d", [3], "Glass").ignoring("d", [3, 4], ignored=True)
    assert [labels.of("d")[concept].class_name for concept in (3, 4)] == ["Glass*", "Ignore*"]
    again = labels.ignoring("d", [3], ignored=False)
    assert again.of("d")[3].class_name == "Glass"
    assert Labels().named("d", [1], "Blood*").of("d")[1].ignored


def test_unknown_fields_survive(tmp_path):
    document = {
        "version": 1,
        "future": True,
        "dictionaries": {"d": {"note": "x", "concepts": {"3": {"name": "Tumor", "since": 2024}}}},
    }
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(document))
    Labels.load(file).named("d", [3], "Stroma").save(file)
    document["dictionaries"]["d"]["concepts"]["3"] |= {"name": "Stroma", "ignored": False}
    assert json.loads(file.read_text()) == document


def test_imported_labels_win():
    ours = Labels().named("d", [1, 2], "Tumor")
    theirs = Labels().named("d", [2], "Stroma").named("e", [0], "Fat")
    both = ours.joined(theirs)
    assert [both.of("d")[1].name, both.of("d")[2].name, both.of("e")[0].name] == ["Tumor", "Stroma", "Fat"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ('{"version": 2, "dictionaries": {}}', "newer ConceptSeg"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": {"x": {}}}}}', "damaged"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": {"1": {"colour": [1, 2, 300]}}}}}', "0 to 255"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": {"1": {"name": "a:b"}}}}}', "sub-class"),
        ('{"version": 1, "dictionaries": ["d"]}', "damaged"),
        ('{"version": 1, "dictionaries": {"d": null}}', "damaged"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": null}}}', "damaged"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": {"-1": {}}}}}', "damaged"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": {"01": {}}}}}', "damaged"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": {"1": {"name": 7}}}}}', "damaged"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": {"1": {"colour": [1e999, 0, 0]}}}}}', "damaged"),
        ('{"version": 1, "dictionaries": {"d": {"concepts": {"1": {"colour": 7}}}}}', "damaged"),
        ('{"version": 1, "dictionaries": {}, "deep": ' + "[" * 400 + "]" * 400 + "}", "damaged"),
        ('{"version": 1, "dictionaries": {}, "deep": ' + "[" * 9000 + "]" * 9000 + "}", "damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    file = tmp_path / "conceptseg-labels.json"
    file.write_text(content)
    with pytest.raises(InvalidRequestError, match=message) as error:
        Labels.load(file)
    assert str(file) in str(error.value)


def image_of(*drawn):
    contents = ImageContents(results=tuple(item for item, _ in drawn), areas=(), object_count=len(drawn))
    return contents, {item.identifier: outline for item, outline in drawn}


def test_results_are_renamed_and_those_without_a_label_stay():
    labels = Labels().named("demo-k2", [1], "Tumor")
    changed = relabel(
        *image_of(result(1, concepts=(0,)), result(2, concepts=(1,), class_name="Concept 01")), labels, colours=COLOURS
    )
    assert changed.changes.rename == {result(2)[0].identifier: "Tumor"}
    assert (changed.renamed, changed.joined, changed.ambiguous) == (1, 0, 0)


def test_a_new_name_keeps_the_colour_of_the_class_that_it_replaces():
    image = image_of(result(1, concepts=(0,), class_name="Tumor"), result(2, concepts=(1,), class_name="Concept 01"))
    labels = Labels().named("demo-k2", [1], "Gland").named("demo-k2", [0], "Carcinoma")
    gland, carcinoma = ClassStyle(name="Gland", colour=(1, 1, 1)), ClassStyle(name="Carcinoma", colour=(200, 0, 0))
    assert relabel(*image, labels, colours=COLOURS).changes.styles == (carcinoma, gland)
    chosen = labels.coloured("demo-k2", [0], (9, 9, 9))
    assert relabel(*image, chosen, colours=COLOURS).changes.styles[0].colour == (9, 9, 9)


def test_a_new_name_gets_a_new_colour_where_another_concept_keeps_the_old_name():
    image = image_of(result(1, concepts=(0,), class_name="Tumor"), result(2, concepts=(1,), class_name="Tumor"))
    labels = Labels().named("demo-k2", [0], "Carcinoma").named("demo-k2", [1], "Tumor")
    (carcinoma, _) = relabel(*image, labels, colours=COLOURS).changes.styles
    assert carcinoma == ClassStyle(name="Carcinoma", colour=None)


def test_touching_results_of_concepts_with_one_name_become_one():
    labels = Labels().named("demo-k2", [0, 1], "Tumor")
    first, second, apart = result(1, concepts=(0,)), result(2, concepts=(1,)), result(9, concepts=(1,))
    changed = relabel(*image_of(first, second, apart), labels, colours=COLOURS).changes
    assert changed.remove == {first[0].identifier, second[0].identifier}
    assert changed.rename == {apart[0].identifier: "Tumor"}
    ((union, outline),) = changed.add
    assert (union.concepts, union.class_name, union.area_px) == ((0, 1), "Tumor", 200)
    assert shapely.from_wkb(outline.wkb).equals(shapely.box(10, 100, 30, 110))
    assert outline.measurements == {"Area µm^2": 50, "Mean activation": 0.5}


def test_applying_twice_changes_nothing_more():
    labels = Labels().named("demo-k2", [0, 1], "Tumor")
    changed = relabel(*image_of(result(1, concepts=(0,)), result(2, concepts=(1,))), labels, colours=COLOURS).changes
    assert not relabel(*image_of(*changed.add), labels, colours=COLOURS).changes


def test_a_joined_result_whose_concepts_got_different_names_stays():
    labels = Labels().named("demo-k2", [0], "Tumor").named("demo-k2", [1], "Stroma")
    changed = relabel(*image_of(result(1, concepts=(0, 1), class_name="Both")), labels, colours=COLOURS)
    assert not changed.changes
    assert changed.ambiguous == 1


def test_a_reassigned_result_has_the_name_of_the_concept_that_a_person_gave_it():
    labels = Labels().named("demo-k2", [0], "Stroma").named("demo-k2", [1], "Tumor")
    drawn = [result(1, concepts=(0,)), result(2, concepts=(0,), reassigned=1), result(3, concepts=(0, 1), reassigned=0)]
    changed = relabel(*image_of(*drawn), labels, colours=COLOURS)
    assert [changed.changes.rename[item.identifier] for item, _ in drawn] == ["Stroma", "Tumor", "Stroma"]
    assert changed.ambiguous == 0


def test_what_a_person_corrected_is_not_joined_with_its_neighbours():
    labels = Labels().named("demo-k2", [0, 1], "Tumor")
    corrected = [{"review": "rejected"}, {"reassigned": 1}, {"reassigned": 0, "review": "accepted"}]
    for reviewed in corrected:
        drawn = [result(1, concepts=(0,), **reviewed), result(2, concepts=(1,))]
        assert relabel(*image_of(*drawn), labels, colours=COLOURS).joined == 0
    mixed = [result(1, concepts=(0,), review="accepted"), result(2, concepts=(1,))]
    assert relabel(*image_of(*mixed), labels, colours=COLOURS).joined == 0


def test_accepted_neighbours_are_joined_and_stay_accepted():
    labels = Labels().named("demo-k2", [0, 1], "Tumor")
    drawn = [result(number, concepts=(number - 1,), review="accepted") for number in (1, 2)]
    ((joined, _),) = relabel(*image_of(*drawn), labels, colours=COLOURS).changes.add
    assert (joined.found, joined.review) == ((0, 1), "accepted")
