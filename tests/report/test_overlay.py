"""The picture of the concepts over the tissue."""

import numpy as np
import pytest
from PIL import Image
from shapely import Polygon, box

from conceptseg.domain.classes import ConceptClass, default_classes
from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.domain.region import Region
from conceptseg.report.overlay import draw_overlay, round_length, write_overlay

DONUT = Polygon([(10, 10), (90, 10), (90, 70), (10, 70)], [[(30, 30), (70, 30), (70, 50), (30, 50)]])
PINK = (230, 180, 210)


def tissue(width=200, height=160):
    return np.full((height, width, 3), PINK, np.uint8)


def legend_of(picture, width):
    return picture[:, width:]


def has_colour(picture, colour):
    return bool((picture == colour).all(axis=2).any())


def test_the_tissue_stays_pixel_for_pixel_at_the_top_left(make_result):
    rgb = np.random.default_rng(0).integers(0, 255, (400, 500, 3), np.uint8)
    picture = draw_overlay(rgb, make_result([]))
    assert picture.dtype == np.uint8
    assert picture.shape[0] == 400
    assert picture.shape[1] > 500
    np.testing.assert_array_equal(picture[:300, :500], rgb[:300])  # the scale bar is below


def test_a_concept_is_coloured_where_it_is_and_its_hole_is_not(make_result):
    picture = draw_overlay(tissue(), make_result([(0, DONUT)]), alpha=1, outlines=False)
    blue = default_classes(1)[0].colour
    assert tuple(picture[40, 100]) == blue  # the region is 100 × 80 px, the picture twice as large
    assert tuple(picture[80, 100]) == PINK  # the hole
    assert tuple(picture[5, 5]) == PINK  # outside


def test_the_region_may_lie_anywhere_and_be_stretched(make_result):
    region = Region(x=1000, y=2000, width=100, height=80)
    result = make_result([(0, box(1050, 2000, 1100, 2080))], region=region)
    picture = draw_overlay(tissue(400, 80), result, alpha=1, outlines=False)
    assert tuple(picture[10, 190]) == PINK
    assert tuple(picture[10, 210]) == default_classes(1)[0].colour


def test_borders_have_half_tones_where_they_cross_pixels(make_result):
    result = make_result([(0, Polygon([(0, 0), (100, 0), (0, 80)]))])
    blue = draw_overlay(tissue(), result, alpha=1, outlines=False)[:160, :200, 0]
    assert len(np.unique(blue)) > 5


def test_alpha_goes_from_untouched_tissue_to_plain_colour(make_result):
    result = make_result([(0, box(0, 0, 100, 80))])
    colours = [tuple(draw_overlay(tissue(), result, alpha=a, outlines=False)[20, 100]) for a in (0, 0.5, 1)]
    assert colours[0] == PINK
    assert colours[2] == default_classes(1)[0].colour
    assert len(set(colours)) == 3


def test_outlines_darken_the_border_between_two_concepts_once(make_result):
    result = make_result([(0, box(0, 0, 50, 80)), (1, box(50, 0, 100, 80))])
    plain, outlined = (draw_overlay(tissue(), result, outlines=on)[50, :200].sum(axis=1) for on in (False, True))
    darker = np.flatnonzero(outlined.astype(int) < plain.astype(int) - 60)
    assert set(darker[(darker > 5) & (darker < 195)]) <= {99, 100}
    assert np.any(np.isin(darker, (99, 100)))


def test_the_legend_shows_the_concepts_that_have_area(make_result):
    outlines = [(0, box(0, 0, 50, 80)), (2, box(50, 0, 100, 80))]
    picture = draw_overlay(tissue(), make_result(outlines))
    legend = legend_of(picture, 200)
    colours = [c.colour for c in default_classes(3)]
    assert [has_colour(legend, c) for c in colours] == [True, False, True]


def test_the_legend_is_sorted_by_area(make_result):
    outlines = [(0, box(0, 0, 20, 80)), (1, box(20, 0, 100, 80))]
    legend = legend_of(draw_overlay(tissue(), make_result(outlines)), 200)
    rows = [np.flatnonzero((legend == c.colour).all(axis=2).any(axis=1)).mean() for c in default_classes(2)]
    assert rows[1] < rows[0]


def test_the_legend_ends_after_40_concepts(make_result):
    outlines = [(k, box(k, 0, k + 1, 80 - k)) for k in range(64)]
    legend = legend_of(draw_overlay(tissue(800, 1200), make_result(outlines)), 800)
    shown = [has_colour(legend, c.colour) for c in default_classes(64)]
    assert shown == [True] * 40 + [False] * 24


def test_a_legend_longer_than_the_tissue_gets_its_room(make_result):
    outlines = [(k, box(k, 0, k + 1, 80)) for k in range(40)]
    picture = draw_overlay(tissue(), make_result(outlines))
    assert picture.shape[0] > 160
    assert all(has_colour(picture[:, 200:], c.colour) for c in default_classes(40))


@pytest.mark.parametrize("name", ['5" core', "<script>alert(1)</script>", "🧬 µ 腫瘍", "x" * 200])
def test_any_name_can_be_drawn_and_a_long_one_is_cut(make_result, name):
    classes = (ConceptClass(concept=0, name=name, colour=(1, 2, 3)),)
    picture = draw_overlay(tissue(), make_result([(0, DONUT)], classes=classes))
    assert 260 < picture.shape[1] < 200 + 500


def test_256_concepts_are_drawn(make_result):
    outlines = [(k, box(k % 16 * 6, k // 16 * 5, k % 16 * 6 + 6, k // 16 * 5 + 5)) for k in range(256)]
    result = make_result(outlines, region=Region(x=0, y=0, width=96, height=80))
    picture = draw_overlay(tissue(960, 800), result, alpha=1, outlines=False)
    centres = [tuple(picture[int((k // 16 * 5 + 2.5) * 10), k % 16 * 60 + 30]) for k in range(0, 208)]
    assert centres == [c.colour for c in default_classes(256)[:208]]  # the last rows lie under the scale bar


def test_an_empty_result_is_the_tissue_with_an_empty_legend(make_result):
    assert draw_overlay(tissue(), make_result([])).shape[1] > 200


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7)])
def test_a_tiny_picture_is_drawn_without_a_scale_bar(make_result, size):
    rgb = tissue(*size)
    np.testing.assert_array_equal(draw_overlay(rgb, make_result([]))[: size[1], : size[0]], rgb)


def test_the_scale_bar_is_as_long_as_it_says(make_result):
    # 100 px region at 0.5 µm/px, drawn 10 times as large: 0.05 µm per picture px, so 10 µm are 200 px.
    picture = draw_overlay(np.zeros((800, 1000, 3), np.uint8), make_result([]))[:, :1000]
    plate = picture[650:]
    columns = np.flatnonzero((plate.sum(axis=2) > 300).any(axis=0))
    last_rows = plate[:, columns[0] : columns[-1]]
    dark = (last_rows.sum(axis=2) < 150) & (last_rows.sum(axis=2) > 0)
    assert dark.sum(axis=1).max() == 200


@pytest.mark.parametrize(
    ("at_most", "length"),
    [(1, 1), (1.99, 1), (2, 2), (4.9, 2), (5, 5), (999, 500), (1000, 1000), (0.03, 0.02)],
)
def test_scale_bars_are_1_2_or_5_times_a_power_of_ten(at_most, length):
    assert round_length(at_most) == pytest.approx(length)


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3)),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_only_rgb_pictures_are_taken(make_result, rgb):
    with pytest.raises(InvalidRequestError, match="picture"):
        draw_overlay(rgb, make_result())


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_is_between_0_and_1(make_result, alpha):
    with pytest.raises(InvalidRequestError, match="alpha"):
        draw_overlay(tissue(), make_result(), alpha=alpha)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".tif"])
def test_the_suffix_chooses_the_format(make_result, tmp_path, suffix):
    path = tmp_path / f"overlay{suffix}"
    write_overlay(path, tissue(), make_result())
    with Image.open(path) as picture:
        assert picture.size == draw_overlay(tissue(), make_result()).shape[1::-1]


def test_another_suffix_is_refused_before_anything_is_written(make_result, tmp_path):
    with pytest.raises(InvalidRequestError, match="expected a name in"):
        write_overlay(tmp_path / "overlay.svg", tissue(), make_result())
    with pytest.raises(OutputError, match="folder"):
        write_overlay(tmp_path / "missing" / "overlay.png", tissue(), make_result())
    assert not list(tmp_path.iterdir())
