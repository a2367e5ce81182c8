import base64

import numpy as np
import pytest
from shapely import MultiPolygon, Polygon, box
from tests.report.tissue import piece, slide

from conceptseg.report.evidence import concepts_of
from conceptseg.report.overview import STEPS_PER_PX, encoded_polygons, view_of


def decoded(text):
    """As polygons.js reads it."""
    numbers, value, shift = [], 0, 0
    for byte in base64.b64decode(text):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    stream = iter(numbers)
    pieces = []
    for row in stream:
        activation, purity, n_rings = next(stream), next(stream), next(stream)
        rings = []
        for _ in range(n_rings):
            moves = [(next(stream), next(stream)) for _ in range(next(stream))]
            steps = np.array([[-(v + 1) // 2 if v % 2 else v // 2 for v in move] for move in moves])
            rings.append(steps.cumsum(axis=0) / STEPS_PER_PX)
        pieces.append((row, activation, purity, rings))
    return pieces


def area(rings):
    return Polygon(rings[0], rings[1:]).area


def test_polygons_come_back_to_a_quarter_of_a_pixel():
    ring = Polygon([(10, 10), (700, 40), (650, 600), (30, 500)], [[(200, 200), (300, 210), (250, 300)]])
    far = box(800, 800, 1000, 1000)
    here = slide([piece(1, ring, activation=0.25, purity=1.0), piece(0, far, measurements={})])
    view = view_of(here, image=(1000, 1000), max_px=500)
    (first, second) = decoded(encoded_polygons(here, concepts_of([here]), view))
    assert first[:3] == (1, 251, 1001)
    assert second[:3] == (0, 0, 0)
    assert area(first[3]) == pytest.approx(ring.area / 4, rel=0.005)
    assert second[3][0].tolist() == [[500, 400], [500, 500], [400, 500], [400, 400]]


def test_several_parts_and_holes_are_all_there():
    holed = Polygon(box(0, 0, 400, 400).exterior, [box(50, 50, 90, 90).exterior, box(200, 200, 300, 300).exterior])
    here = slide([piece(0, MultiPolygon([holed, box(500, 500, 600, 600)])), piece(1, box(700, 0, 900, 100))])
    pieces = decoded(encoded_polygons(here, concepts_of([here]), view_of(here, image=(1000, 1000), max_px=1000)))
    assert [len(rings) for *_, rings in pieces] == [4, 1]
    assert pieces[0][3][2].min() == 200


def test_what_vanishes_at_this_size_is_still_counted():
    here = slide([piece(0, box(5, 5, 6, 6)), piece(1, box(0, 0, 50_000, 50_000))])
    pieces = decoded(encoded_polygons(here, concepts_of([here]), view_of(here, image=(60_000, 60_000), max_px=600)))
    assert [len(rings) for *_, rings in pieces] == [0, 1]


def test_without_results_there_is_nothing():
    assert encoded_polygons(slide(), (), view_of(slide(), image=(10, 10), max_px=5)) == ""


def test_results_in_a_corner_are_shown_with_their_surroundings_and_not_the_whole_slide():
    view = view_of(slide([piece(0, box(80_000, 1000, 82_000, 2000))]), image=(100_000, 100_000), max_px=500)
    assert (view.region.x, view.region.y) == (79_920, 920)
    assert (view.region.width, view.region.height) == (2160, 1160)
    assert (view.width, view.height) == (500, 269)


def test_results_that_fill_much_of_the_slide_are_shown_in_all_of_it():
    view = view_of(slide([piece(0, box(0, 0, 800, 900))]), image=(1000, 1000), max_px=5000)
    assert (view.region.width, view.width) == (1000, 1000)


def test_a_slide_without_pixels_or_results_has_a_view_all_the_same():
    assert view_of(slide(), image=None, max_px=100).width <= 2
    assert view_of(slide([piece(0, box(100, 100, 300, 200))]), image=None, max_px=100).width == 100
