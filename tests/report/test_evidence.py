import pytest
from shapely import box
from tests.report.tissue import piece, slide

from conceptseg.report.evidence import concepts_of, pixel_size_of, rows_of_pieces


def members(*pieces):
    return [concept.members for concept in concepts_of([slide(pieces)])]


def test_concepts_are_sorted_by_dictionary_and_number():
    slides = [slide([piece(7), piece(2)]), slide([piece(2), piece(5, dictionary="a")])]
    assert [(c.dictionary, c.members) for c in concepts_of(slides)] == [
        ("a", (5,)),
        ("demo-k4", (2,)),
        ("demo-k4", (7,)),
    ]


def test_concepts_that_a_joined_polygon_cannot_tell_apart_are_one():
    assert members(piece(0), piece((1, 2)), piece((2, 3)), piece(3)) == [(0,), (1, 2, 3)]


def test_no_results_no_concepts():
    assert concepts_of([slide()]) == ()


def test_every_piece_has_the_row_of_its_concept():
    here = slide([piece(3), piece((1, 2)), piece(2)])
    assert rows_of_pieces(here, concepts_of([here])).tolist() == [1, 0, 0]


def test_the_pixel_size_is_that_of_the_measured_areas():
    assert pixel_size_of([piece(outline=box(0, 0, 10, 10))]) == pytest.approx(0.5)
    assert pixel_size_of([piece(measurements={})]) is None
