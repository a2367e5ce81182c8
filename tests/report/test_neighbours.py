import numpy as np
import pytest
from shapely import Polygon, box
from shapely.affinity import translate
from tests.report.tissue import piece, slide

from conceptseg.report.evidence import Concept, concepts_of
from conceptseg.report.neighbours import shared_borders, similarities


def borders(*pieces):
    here = slide(pieces)
    return shared_borders(here, concepts_of([here]))


def test_a_border_is_as_long_as_what_both_sides_share():
    zigzag = [(50, 0), (60, 30), (40, 70), (50, 100)]
    left, right = Polygon([(0, 0), *zigzag, (0, 100)]), Polygon([*zigzag, (100, 100), (100, 0)])
    length = np.hypot(10, 30) * 2 + np.hypot(20, 40)
    assert borders(piece(0, left), piece(1, right)) == pytest.approx(np.array([[0, length], [length, 0]]))


def test_a_hole_borders_on_what_fills_it():
    ring = Polygon(box(0, 0, 90, 90).exterior, [box(30, 30, 60, 60).exterior])
    assert borders(piece(0, ring), piece(1, box(30, 30, 60, 60)))[0, 1] == pytest.approx(120)


def test_polygons_of_one_concept_and_those_apart_share_nothing():
    assert not borders(piece(0, box(0, 0, 9, 9)), piece(0, box(9, 0, 18, 9)), piece(1, box(30, 0, 40, 9))).any()


def test_rounding_in_qupath_changes_nothing_even_far_from_the_origin():
    left, right = (translate(outline, 90_000.25, 80_000.5) for outline in (box(0, 0, 9, 9), box(9, 0, 18, 9)))
    moved = translate(right, 0.004, -0.004)
    assert borders(piece(0, left), piece(1, moved))[0, 1] == pytest.approx(9, abs=0.02)


def test_without_results_there_are_no_borders():
    assert shared_borders(slide(), ()).shape == (0, 0)


def test_likeness_is_the_cosine_of_the_dictionary_and_the_closest_pair_of_merged_concepts():
    rows = np.array([[1, 0], [0, 2], [3, 3], [0, 1]], np.float32)
    concepts = [Concept(dictionary="d", members=m) for m in [(0,), (1, 2)]] + [Concept(dictionary="e", members=(0,))]
    cosines = similarities(concepts, {"d": rows})
    assert cosines[0, 1] == pytest.approx(np.sqrt(0.5))
    assert np.isnan(cosines[0, 2])
    assert np.isnan(np.diag(cosines)).all()
