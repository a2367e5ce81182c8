import math
import sys
from contextlib import nullcontext

import pytest
import shapely
from shapely import Polygon, box
from tests.qupath.project.worlds import result

from conceptseg.domain.errors import InvalidRequestError, ProjectError
from conceptseg.domain.region import Region
from conceptseg.qupath.project.contents import Area, Changes, ImageContents, ImageState, ObjectState
from conceptseg.qupath.project.entries import ImageEntry
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.results import join_touching, results_of
from conceptseg.qupath.project.table import COLUMNS, rows_of, write_table
from conceptseg.qupath.project.targets import choose_targets
from conceptseg.qupath.project.verify import verify

NUMBERS = {"Area µm^2": 100.0, "Area %": 10.0, "Perimeter µm": 44.0, "Mean activation": 0.5}


def made(found, labels=None, **options):
    options = {"run": "r", "scope": "1/None", "parent": None} | options
    return results_of(found, labels=labels or Labels(), **options)


def test_every_polygon_becomes_a_result_with_class_shape_and_numbers(make_result):
    drawn, styles = made(make_result(measurements=NUMBERS), parent="p")
    assert [(r.class_name, r.concepts, r.parent, r.run, r.dictionary) for r, _ in drawn] == [
        ("Concept 00", (0,), "p", "r", "demo-k2"),
        ("Concept 01", (1,), "p", "r", "demo-k2"),
    ]
    assert [shapely.from_wkb(o.wkb).bounds for _, o in drawn] == [(0, 0, 60, 80), (60, 0, 100, 80)]
    assert [o.measurements for _, o in drawn] == [NUMBERS] * 2
    assert [style.name for style in styles] == ["Concept 00", "Concept 01"]


def test_ids_depend_on_run_and_place_alone(make_result):
    ids = [
        [r.identifier for r, _ in made(make_result(), **options)[0]]
        for options in ({}, {}, {"run": "s"}, {"scope": "2/None"})
    ]
    assert ids[0] == ids[1]
    assert len({*ids[0], *ids[2], *ids[3]}) == 6


def test_numbers_are_python_floats_and_those_that_are_none_are_left_out(make_result):
    numpy = pytest.importorskip("numpy")
    drawn, _ = made(make_result(measurements={"Area µm^2": numpy.float32(2), "Mean activation": math.nan, "x": 1}))
    assert drawn[0][1].measurements == {"Area µm^2": 2.0, "x": 1.0}
    assert {type(value) for value in drawn[0][1].measurements.values()} == {float}


def test_concepts_with_one_name_are_joined_where_they_touch(make_result):
    outlines = [(0, box(0, 0, 10, 10)), (1, box(10, 0, 20, 10)), (1, box(50, 0, 60, 10))]
    labels = Labels().named("demo-k2", [0, 1], "Tumor")
    drawn, styles = made(make_result(outlines, measurements=NUMBERS), labels)
    assert sorted((r.class_name, r.concepts, r.area_px) for r, _ in drawn) == [
        ("Tumor", (0, 1), 200),
        ("Tumor", (1,), 100),
    ]
    joined = next(o for r, o in drawn if r.concepts == (0, 1))
    # 200 px² are 200 µm² here, so a px is a µm long.
    assert joined.measurements == {"Area µm^2": 200, "Area %": 20, "Perimeter µm": 60, "Mean activation": 0.5}
    assert [style.name for style in styles] == ["Tumor"]


@pytest.mark.parametrize(
    ("polygon", "message"),
    [(Polygon(), "Polygon 0 .*empty"), (Polygon([(0, 0), (5, 5), (5, 0), (0, 5)]), "Polygon 0 .*Self-intersection")],
)
def test_a_polygon_that_is_no_area_never_reaches_qupath(make_result, polygon, message):
    with pytest.raises(InvalidRequestError, match=message):
        made(make_result([(0, polygon)]))


def area(identifier, class_name):
    outline = shapely.to_wkb(box(0, 0, 9, 9))
    return Area(identifier=identifier, parent=None, class_name=class_name, wkb=outline, z=0, t=0)


@pytest.mark.parametrize(
    ("within", "rerun", "targets", "skipped"),
    [
        (None, "replace", [(None, {result(1)[0].identifier})], 0),
        (None, "add", [(None, set())], 0),
        (None, "skip", [], 1),
        ("Tumor", "replace", [("a", {result(2)[0].identifier}), ("b", set())], 0),
        ("Tumor", "skip", [("b", set())], 1),
        ("Stroma", "replace", [("c", set())], 0),
        ("Nothing", "replace", [], 0),
    ],
)
def test_a_rerun_replaces_adds_or_skips_in_the_same_place(within, rerun, targets, skipped):
    contents = ImageContents(
        results=(result(1)[0], result(2, parent="a")[0]),
        areas=(area("a", "Tumor"), area("b", "Tumor"), area("c", "Stroma")),
        object_count=5,
    )
    found, left = choose_targets(contents, within=within, rerun=rerun)
    assert [(target.parent, target.replaces) for target in found] == targets
    assert left == skipped


def test_a_whole_image_is_replaced_on_its_plane_only():
    here, there = result(1, z=1)[0], result(2, z=2)[0]
    contents = ImageContents(results=(here, there), areas=(), object_count=2)
    (target,), _ = choose_targets(contents, within=None, rerun="replace", plane=(1, 0))
    assert target.replaces == {here.identifier}
    assert choose_targets(contents, within=None, rerun="skip", plane=(0, 0))[1] == 0


def test_results_lie_on_the_plane_that_was_segmented(make_result):
    found = make_result(region=Region(x=0, y=0, width=100, height=80, z=2, t=3))
    assert {(drawn.z, drawn.t) for drawn, _ in made(found)[0]} == {(2, 3)}


def test_touching_results_on_different_planes_are_not_joined():
    drawn = [result(1, concepts=(0,), z=1), result(2, concepts=(1,), z=2)]
    assert join_touching(drawn) == tuple(drawn)
    same = [result(1, concepts=(0,), z=1), result(2, concepts=(1,), z=1)]
    ((joined, _),) = join_touching(same)
    assert (joined.z, joined.concepts) == (1, (0, 1))


@pytest.mark.parametrize(("written", "good"), [({"z": 2}, True), ({}, False), ({"z": 2, "t": 1}, False)])
def test_a_result_on_another_plane_is_not_what_was_given(written, good):
    given, (found, outline) = result(1, z=2), result(1, **written)
    state = ObjectState(kind="Annotation", class_name=found.class_name, parent=None, rest=b"")
    after = ImageState(
        objects={found.identifier: state}, results={found.identifier: (found, outline.measurements)}, steps=()
    )
    with nullcontext() if good else pytest.raises(ProjectError, match=r"parent, z, t"):
        verify("slide", before=ImageState(objects={}, results={}), changes=Changes(add=(given,)), after=after)


@pytest.fixture
def rows():
    drawn = [result(1), result(2), result(3, class_name="Tumor", concepts=(1, 2)), result(4, parent="a")]
    contents = ImageContents(results=tuple(r for r, _ in drawn), areas=(area("a", "Gland"),), object_count=5)
    return rows_of(ImageEntry(identifier="7", name="slide, one"), contents, {r.identifier: o for r, o in drawn})


def test_the_table_has_a_row_per_parent_and_class(rows, tmp_path):
    assert [(row["parent_class"], row["class"], row["concepts"], row["polygons"]) for row in rows] == [
        ("", "Concept 00", "0", 2),
        ("", "Tumor", "1,2", 1),
        ("Gland", "Concept 00", "0", 1),
    ]
    assert [row["area_percent"] for row in rows] == pytest.approx([200 / 3, 100 / 3, 100])
    assert (rows[0]["area_um2"], rows[0]["mean_activation"], rows[0]["perimeter_um"]) == (50, 0.5, None)
    assert [(row["accepted"], row["rejected"], row["reassigned"]) for row in rows] == [(0, 0, 0)] * 3
    file = tmp_path / "table.csv"
    write_table(file, rows)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1].startswith('"slide, one",7,,,run-1,demo-k2,Concept 00,0,2,50.0,')


def test_names_that_begin_like_a_formula_are_text_in_a_spreadsheet(tmp_path):
    drawn, outline = result(1, class_name="@SUM(A1)")
    contents = ImageContents(results=(drawn,), areas=(), object_count=1)
    rows = rows_of(ImageEntry(identifier="7", name="=cmd"), contents, {drawn.identifier: outline})
    write_table(tmp_path / "table.csv", rows)
    line = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()[1]
    assert line.startswith("'=cmd,7,,,run-1,demo-k2,'@SUM(A1),")


def test_the_table_counts_a_reassigned_result_where_it_is_now():
    drawn = [
        result(1, review="accepted"),
        result(2, review="rejected"),
        result(3, class_name="Concept 01", concepts=(0,), reassigned=1),
    ]
    contents = ImageContents(results=tuple(r for r, _ in drawn), areas=(), object_count=3)
    rows = rows_of(ImageEntry(identifier="7", name="slide"), contents, {r.identifier: o for r, o in drawn})
    columns = ("class", "concepts", "polygons", "accepted", "rejected", "reassigned")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("Concept 00", "0", 2, 1, 1, 0),
        ("Concept 01", "1", 1, 0, 0, 1),
    ]


def test_parquet_holds_the_same_rows_with_types(rows, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "table.parquet", rows)
    table = parquet.read_table(tmp_path / "table.parquet")
    assert table.column_names == list(COLUMNS)
    assert table.to_pylist() == rows
    assert {name: str(table.schema.field(name).type) for name in ("image", "polygons", "area_um2", "perimeter_um")} == {
        "image": "string",
        "polygons": "int64",
        "area_um2": "double",
        "perimeter_um": "double",
    }


def test_an_empty_table_has_the_columns_of_a_full_one(rows, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name, content in {"full": rows, "empty": []}.items():
        write_table(tmp_path / f"{name}.parquet", content)
    schemas = [parquet.read_schema(tmp_path / f"{name}.parquet") for name in ("full", "empty")]
    assert schemas[0].equals(schemas[1])


def test_without_pyarrow_parquet_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidRequestError, match=r"pip install 'conceptseg\[parquet\]'"):
        write_table(tmp_path / "table.parquet", [])
    assert not list(tmp_path.iterdir())


def test_a_table_is_csv_or_parquet(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"\.csv or \.parquet"):
        write_table(tmp_path / "table.xlsx", [])
