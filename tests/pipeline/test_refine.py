from dataclasses import replace

import numpy as np
import pytest
import tifffile
from shapely import box

from conceptseg.domain.errors import DictionaryError, InvalidRequestError
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.reader import open_image
from conceptseg.pipeline.refine import Example, refine, useful_examples
from conceptseg.pipeline.segment import segment


@pytest.fixture(scope="module")
def tissue():
    from skimage.data import immunohistochemistry

    return ArrayReader(immunohistochemistry(), name="colon", pixel_size_um=0.5)


@pytest.fixture(scope="module")
def found(tissue, encoder, dictionary):
    from conceptseg.imaging.source import open_region

    source = open_region(tissue, region=None, pixel_size_um=0.5)
    result = segment(source, encoder=encoder, dictionary=dictionary)
    return sorted(result.polygons, key=lambda polygon: -polygon.polygon.area)


def refined(tissue, examples, encoder, dictionary, **others):
    options = {"identifier": "mine-2", "provenance": {"command": "test"}, "total": 1} | others
    return refine([(tissue, None, examples)], dictionary=dictionary, encoder=encoder, **options)


@pytest.fixture(scope="module")
def examples(found):
    """Two polygons of the second largest concept were given to the largest."""
    first = found[0].concept
    other = next(polygon.concept for polygon in found if polygon.concept != first)
    moved = [polygon for polygon in found if polygon.concept == other][:2]
    kept = [polygon for polygon in found if polygon.concept in (first, other) and polygon not in moved]
    return [
        *(Example(outline=polygon.polygon, concept=first, before=other) for polygon in moved),
        *(Example(outline=polygon.polygon, concept=polygon.concept) for polygon in kept),
    ]


def test_more_of_what_was_corrected_has_its_new_concept(tissue, examples, encoder, dictionary):
    made = refined(tissue, examples, encoder, dictionary)
    assert made.corrected_after > made.corrected_before
    assert made.corrected_after + made.kept_after > made.corrected_before + made.kept_before
    assert made.polygons == 2
    assert made.tokens > 0


def test_polygons_teach_what_is_on_their_own_slice(tissue, examples, encoder, dictionary, tmp_path):
    pixels = tissue.read(x=0, y=0, width=tissue.width, height=tissue.height, scale_x=1, scale_y=1)
    glass = np.full_like(pixels, 255)
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, np.stack([glass, glass, pixels]), photometric="rgb", metadata={"axes": "ZYXS"})
    there = [replace(example, plane=(2, 0)) for example in examples]
    with open_image(path) as stack:
        made = refine(
            [(stack, 0.5, there)],
            dictionary=dictionary,
            encoder=encoder,
            identifier="mine-2",
            provenance={"command": "test"},
            total=1,
        )
    expected = refined(tissue, examples, encoder, dictionary).dictionary.concepts
    assert np.array_equal(made.dictionary.concepts, expected)


def test_only_the_rows_of_the_two_concepts_change_and_the_parent_does_not(tissue, examples, encoder, dictionary):
    before = dictionary.concepts.copy()
    made = refined(tissue, examples, encoder, dictionary).dictionary
    changed = np.flatnonzero((made.concepts != before).any(axis=1))
    assert set(changed.tolist()) <= {examples[0].concept, examples[0].before}
    assert len(changed)
    assert np.array_equal(dictionary.concepts, before)


def test_the_new_version_says_where_it_comes_from(tissue, examples, encoder, dictionary):
    made = refined(tissue, examples, encoder, dictionary).dictionary
    assert made.identifier == "mine-2"
    assert made.provenance["parent"] == dictionary.identifier
    assert made.provenance["reassigned polygons"] == "2"
    assert made.provenance["command"] == "test"
    assert int(made.provenance["tokens in them"]) > 0


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([Example(outline=box(0, 0, 99, 99), concept=1)], "No polygon was reassigned"),
        ([Example(outline=box(9, 9, 9.5, 9.5), concept=1, before=2)], "smaller than a token"),
        ([Example(outline=box(9000, 9000, 9100, 9100), concept=1, before=2)], "No polygon was reassigned"),
        ([Example(outline=box(0, 0, 99, 99), concept=99, before=2)], "concept 99"),
    ],
)
def test_what_cannot_be_learned_from_is_said(tissue, encoder, dictionary, examples, message):
    with pytest.raises(InvalidRequestError, match=message):
        refined(tissue, examples, encoder, dictionary)


def test_a_dictionary_of_another_encoder_is_refused(tissue, examples, encoder, dictionary):
    from dataclasses import replace

    with pytest.raises(DictionaryError, match="--encoder"):
        refined(tissue, examples, encoder, replace(dictionary, encoder="uni"))


def square(size, concept, **others):
    return Example(outline=box(0, 0, size, size), concept=concept, **others)


def test_accepted_and_large_polygons_of_the_same_concepts_are_used_and_no_others():
    moved = square(5, 1, before=2)
    small, large, accepted, foreign = square(2, 1), square(9, 1), square(1, 2, accepted=True), square(9, 3)
    assert useful_examples([[small, moved, foreign], [large, accepted]]) == [[moved, small], [accepted, large]]


def test_the_largest_are_used_where_there_are_many():
    many = [square(size, 1) for size in range(1, 200)]
    (useful,) = useful_examples([[square(5, 1, before=2), *many]])
    assert sorted(example.outline.area for example in useful[1:]) == [size**2 for size in range(140, 200)]
