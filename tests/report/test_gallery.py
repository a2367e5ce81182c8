import re

import numpy as np
import pytest
from PIL import Image
from shapely import Point, box
from tests.report.tissue import piece, slide, tissue_file

from conceptseg.imaging.reader import open_image
from conceptseg.report.evidence import concepts_of
from conceptseg.report.gallery import PATCH_PX, choose, cut


def chosen(*slides, each=3):
    ((typical, doubtful),) = choose(slides, concepts_of(slides), each=each)
    return [(c.slide, c.piece) for c in typical], [(c.slide, c.piece) for c in doubtful]


def test_typical_is_strong_and_pure_and_doubtful_is_impure():
    here = slide([piece(activation=a, purity=p) for a, p in [(0.9, 0.9), (0.9, 0.2), (0.5, 0.8), (0.1, 0.5)]])
    typical, doubtful = chosen(here, each=2)
    assert typical == [(0, 0), (0, 2)]
    assert doubtful == [(0, 1), (0, 3)]


def test_nothing_is_shown_as_both():
    here = slide([piece(purity=p / 10) for p in range(5)])
    typical, doubtful = chosen(here, each=6)
    assert not set(typical) & set(doubtful)
    assert len(typical) + len(doubtful) == 5


def test_every_slide_has_its_turn():
    strong = slide([piece(activation=0.9) for _ in range(10)])
    weak = slide([piece(activation=0.3) for _ in range(10)])
    typical, _ = chosen(strong, weak, each=4)
    assert sorted(number for number, _ in typical) == [0, 0, 1, 1]


def test_small_polygons_show_their_neighbours_more_than_themselves():
    small = [piece(outline=box(0, 0, 9, 9), activation=0.9) for _ in range(3)]
    large = [piece(outline=box(0, 0, 300, 300), activation=0.4) for _ in range(3)]
    assert {number for _, number in chosen(slide(small + large))[0]} <= {3, 4, 5}


def test_what_a_person_rejected_is_no_example():
    here = slide([piece(activation=0.9, review="rejected"), piece(activation=0.3), piece(activation=0.2)])
    assert chosen(here, each=1)[0] == [(0, 1)]


def test_polygons_without_measurements_are_shown_too():
    here = slide([piece(measurements={}), piece(measurements={})])
    assert len(chosen(here)[0]) == 1


def test_a_concept_without_results_on_any_slide_has_no_patches():
    assert choose([slide()], (), each=3) == []


def patch_of(outline, file, **others):
    here = slide([piece(outline=outline)], file=file, **others)
    ((typical, _),) = choose([here], concepts_of([here]), each=1)
    with open_image(file) as reader:
        (patch,) = cut(here, reader, typical)
    return patch


def pixels(uri):
    import base64
    import io

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"), int)


def test_a_patch_holds_the_pixels_around_the_widest_place_of_the_polygon(tmp_path):
    file = tissue_file(tmp_path)
    club = Point(256, 256).buffer(60).union(box(250, 310, 254, 500))
    patch = patch_of(club, file, pixel_size_um=1.0)
    assert patch.centre == pytest.approx((256, 256), abs=12)
    left, top = (round(c - PATCH_PX / 2) for c in patch.centre)
    original = np.asarray(Image.open(file), int)[top : top + PATCH_PX, left : left + PATCH_PX]
    assert np.abs(pixels(patch.picture) - original).mean() < 12  # it is compressed


def test_the_outline_lies_in_the_patch_where_the_polygon_lies_in_the_slide(tmp_path):
    patch = patch_of(box(200, 200, 300, 260), tissue_file(tmp_path), pixel_size_um=1.0)
    numbers = [float(number) for number in re.findall(r"[\d.]+", patch.outline)]
    xs, ys = numbers[::2], numbers[1::2]
    assert (max(xs) - min(xs), max(ys) - min(ys)) == pytest.approx((100, 60), abs=1)
    assert min(numbers) >= 0
    assert max(numbers) <= PATCH_PX


def test_at_the_edge_of_the_slide_a_patch_stays_inside(tmp_path):
    patch = patch_of(box(0, 480, 40, 512), tissue_file(tmp_path), pixel_size_um=1.0)
    rows = pixels(patch.picture)
    assert np.abs(np.diff(rows[-6:].mean(axis=2), axis=0)).mean() > 1  # no repeated edge
