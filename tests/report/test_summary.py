"""Summaries for scripts and spreadsheets."""

import csv
import json
import math

import pytest
from shapely import box

from conceptseg.domain.classes import ConceptClass, default_classes
from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.domain.region import Region
from conceptseg.pipeline.result import ConceptSummary
from conceptseg.report.summary import write_summary

CLASSES = (
    ConceptClass(concept=0, name="Tumor", colour=(200, 0, 0)),
    ConceptClass(concept=1, name='🧬 "a, b"\' <script>', colour=(1, 2, 255)),
)


@pytest.fixture
def result(make_result):
    outlines = [(0, box(0, 0, 60, 80)), (1, box(60, 0, 100, 80))]
    return make_result(outlines, classes=CLASSES, region=Region(x=7, y=9, width=100, height=80, z=1, t=2))


def test_the_json_has_the_documented_keys_and_nothing_else(result, tmp_path):
    write_summary(tmp_path / "summary.json", result)
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == {
        "image": "slide.svs",
        "region": {"x": 7, "y": 9, "width": 100, "height": 80, "z": 1, "t": 2},
        "pixel_size_um": 0.5,
        "encoder": "default",
        "dictionary": "demo-k2",
        "method": "projection",
        "remarks": [],
        "seconds": {"encode": 1.5, "total": 2.0},
        "concepts": [
            {
                "id": 0,
                "name": "Tumor",
                "colour": [200, 0, 0],
                "area_um2": 1200.0,
                "area_percent": 60.0,
                "polygons": 1,
                "mean_activation": 0.5,
            },
            {
                "id": 1,
                "name": '🧬 "a, b"\' <script>',
                "colour": [1, 2, 255],
                "area_um2": 800.0,
                "area_percent": 40.0,
                "polygons": 1,
                "mean_activation": 0.5,
            },
        ],
    }


def test_the_csv_has_one_row_per_concept(result, tmp_path):
    write_summary(tmp_path / "summary.csv", result)
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["Tumor", '🧬 "a, b"\' <script>']
    assert rows[0] == {
        "id": "0",
        "name": "Tumor",
        "colour": "#c80000",
        "area_um2": "1200.0",
        "area_percent": "60.0",
        "polygons": "1",
        "mean_activation": "0.5",
    }


def test_a_name_that_begins_like_a_formula_is_text_in_a_spreadsheet(make_result, tmp_path):
    classes = [ConceptClass(concept=0, name="=1+1", colour=(1, 2, 3)), default_classes(2)[1]]
    write_summary(tmp_path / "summary.csv", make_result(classes=classes))
    assert (tmp_path / "summary.csv").read_text(encoding="utf-8").splitlines()[1].startswith("0,'=1+1,#010203,")


def test_the_pixel_size_is_that_of_the_region_not_of_the_analysis(make_result, tmp_path):
    result = make_result(full_pixel_size_um=0.499, grid_width=33, grid_height=27)
    write_summary(tmp_path / "a.json", result)
    assert json.loads((tmp_path / "a.json").read_text())["pixel_size_um"] == 0.499


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_null(make_result, tmp_path, bad):
    summary = ConceptSummary(concept_class=CLASSES[0], area_um2=1.0, area_percent=bad, polygons=1, mean_activation=bad)
    result = make_result([(0, box(0, 0, 1, 1))], concepts=(summary,), seconds={"encode": bad})
    for name in ("a.json", "a.csv"):
        write_summary(tmp_path / name, result)
        text = (tmp_path / name).read_text()
        assert "nan" not in text.lower()
        assert "inf" not in text.lower()
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["concepts"][0]["mean_activation"] is None
    assert document["seconds"] == {"encode": None}


def test_an_empty_result_lists_its_concepts_with_zero_area(make_result, tmp_path):
    write_summary(tmp_path / "a.json", make_result([]))
    assert json.loads((tmp_path / "a.json").read_text())["concepts"][0]["area_um2"] == 0


def test_another_suffix_is_refused_before_anything_is_written(result, tmp_path):
    with pytest.raises(InvalidRequestError, match=r"expected a name in \.json or \.csv"):
        write_summary(tmp_path / "summary.xlsx", result)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(result, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    for name in ("a.json", "a.csv"):
        with pytest.raises(OutputError, match="Cannot write"):
            write_summary(blocked / name, result)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
