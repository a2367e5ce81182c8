"""GeoJSON out and in."""

import gzip
import json
import math
import uuid

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon, box
from shapely.geometry import shape

from conceptseg.domain.classes import ConceptClass, default_classes
from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.domain.region import Region
from conceptseg.qupath.geojson import feature_collection, plane_of, read_geojson_roi, write_geojson

DONUT = Polygon([(0, 0), (30, 0), (30, 30), (0, 30)], [[(10, 10), (20, 10), (20, 20), (10, 20)]])


def written(result):
    document = b"".join(feature_collection(result))

    def refuse(constant):
        raise AssertionError(f"{constant} in the file")

    return json.loads(document, parse_constant=refuse)


class TestWriting:
    def test_a_feature_says_what_qupath_shall_make_of_it(self, make_result):
        classes = (ConceptClass(concept=0, name="Tumor", colour=(200, 0, 0)),)
        collection = written(make_result([(0, box(0, 0, 60, 80))], classes=classes))
        assert collection["type"] == "FeatureCollection"
        (feature,) = collection["features"]
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        assert feature["properties"] == {
            "objectType": "annotation",
            "isLocked": True,
            "classification": {"name": "Tumor", "color": [200, 0, 0]},
            "measurements": {"Area µm^2": 1200.0},
            "metadata": {
                "conceptseg.run": "run-1",
                "conceptseg.dictionary": "demo-k2",
                "conceptseg.concept": "0",
            },
        }

    def test_polygons_come_back_with_their_holes(self, make_result):
        (feature,) = written(make_result([(0, DONUT)]))["features"]
        assert shapely.equals_exact(shape(feature["geometry"]), DONUT, normalize=False)
        assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])

    @given(
        corners=st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=3, max_size=12, unique=True)
    )
    def test_any_valid_polygon_comes_back_valid_and_within_a_hundredth_of_a_pixel(self, make_result, corners):
        polygon = shapely.convex_hull(shapely.multipoints(corners))
        if not isinstance(polygon, Polygon) or not polygon.is_valid or polygon.area < 1:
            return
        (feature,) = written(make_result([(0, polygon)]))["features"]
        back = shape(feature["geometry"])
        assert back.is_valid
        assert back.hausdorff_distance(polygon) < 0.015

    def test_coordinates_have_at_most_two_decimals_and_no_negative_zero(self, make_result):
        polygon = Polygon([(-0.001, 0.004), (1 / 3, 200_000 / 7), (10, 0.129)])
        text = b"".join(feature_collection(make_result([(0, polygon)]))).decode()
        assert '"coordinates":[[[0,0],[0.33,28571.43],[10,0.13],[0,0]]]' in text

    def test_a_polygon_that_rounding_would_spoil_stays_valid(self, make_result):
        # A spike and a waist thinner than the rounding step, and a whole polygon smaller than it.
        spike = Polygon([(0, 0), (10, 0), (10, 10), (5.003, 10), (5.002, 20), (5.001, 10), (0, 10)])
        hourglass = Polygon([(0, 0), (10, 4.999), (20, 0), (20, 10), (10, 5.001), (0, 10)])
        tiny = box(1.0001, 1.0001, 1.0002, 1.0002)
        for polygon in (spike, hourglass, tiny):
            assert polygon.is_valid
            assert not shapely.transform(polygon, lambda xy: xy.round(2)).is_valid
            (feature,) = written(make_result([(0, polygon)]))["features"]
            back = shape(feature["geometry"])
            assert feature["geometry"]["type"] == "Polygon"
            assert back.is_valid
            assert back.area == pytest.approx(polygon.area, abs=0.1)
            assert not back.is_empty

    def test_only_the_spoilt_polygon_keeps_more_decimals(self, make_result):
        tiny = box(1.0001, 1.0001, 1.0002, 1.0002)
        good = box(1.0001, 1.0001, 9.0001, 9.0001)
        first, second = written(make_result([(0, tiny), (0, good)]))["features"]
        assert shape(first["geometry"]).equals(tiny)
        assert shape(second["geometry"]).bounds == (1.0, 1.0, 9.0, 9.0)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_measurement_that_is_not_finite_is_left_out(self, make_result, bad):
        result = make_result(measurements={"Area µm^2": 5.0, "Mean activation": bad})
        for feature in written(result)["features"]:
            assert feature["properties"]["measurements"] == {"Area µm^2": 5.0}

    def test_numpy_measurements_become_plain_numbers(self, make_result):
        result = make_result(measurements={"Area µm^2": np.float32(0.5)})
        assert written(result)["features"][0]["properties"]["measurements"] == {"Area µm^2": 0.5}

    def test_coordinates_that_are_not_finite_are_refused_and_named(self, make_result):
        broken = Polygon([(0, 0), (math.inf, 0), (1, 1)])
        with pytest.raises(InvalidRequestError, match="Polygon 1 "):
            written(make_result([(0, box(0, 0, 1, 1)), (0, broken)]))

    @pytest.mark.parametrize(
        "name",
        ['5" core', "back\\slash", "🧬 Tumor 🧫", "<script>alert(1)</script>", "x" * 200, "µm², naïve, 腫瘍"],
    )
    def test_class_names_come_back_as_they_are(self, make_result, name, tmp_path):
        classes = (ConceptClass(concept=0, name=name, colour=(1, 2, 3)),)
        path = tmp_path / "names.geojson"
        write_geojson(path, make_result([(0, DONUT)], classes=classes))
        text = path.read_bytes().decode("ascii")  # whatever encoding a reader assumes, it sees the same
        assert json.loads(text)["features"][0]["properties"]["classification"]["name"] == name

    def test_256_concepts_keep_their_own_names_and_colours(self, make_result):
        outlines = [(k, box(k, 0, k + 1, 1)) for k in range(256)]
        features = written(make_result(outlines, region=Region(x=0, y=0, width=256, height=80)))["features"]
        seen = [f["properties"]["classification"] for f in features]
        assert seen == [{"name": c.name, "color": list(c.colour)} for c in default_classes(256)]

    def test_ids_are_uuids_that_depend_on_the_run_and_the_position_only(self, make_result):
        def ids(**changes):
            return [f["id"] for f in written(make_result(**changes))["features"]]

        namespace = uuid.UUID("6c5d2a0e-2f6b-5f0c-9b60-8f6a0f0a1f3b")
        assert ids() == [str(uuid.uuid5(namespace, f"run-1/{index}")) for index in range(2)]
        assert len(set(ids())) == 2
        assert ids() == ids(image="another.svs")
        assert not set(ids()) & set(ids(run_id="run-2"))

    def test_a_slice_or_time_point_other_than_the_first_is_written_as_qupaths_plane(self, make_result):
        def geometry(z, t):
            result = make_result(region=Region(x=0, y=0, width=100, height=80, z=z, t=t))
            return written(result)["features"][0]["geometry"]

        assert "plane" not in geometry(0, 0)
        assert geometry(3, 1)["plane"] == {"c": -1, "z": 3, "t": 1}

    def test_an_empty_result_is_an_empty_collection(self, make_result):
        assert written(make_result([])) == {"type": "FeatureCollection", "features": []}

    def test_many_polygons_are_streamed_and_none_is_lost(self, make_result):
        outlines = [(0, box(i, 0, i + 1, 1)) for i in range(5001)]
        result = make_result(outlines)
        assert len(list(feature_collection(result))) > 3
        lefts = [f["geometry"]["coordinates"][0] for f in written(result)["features"]]
        assert [min(x for x, _ in ring) for ring in lefts] == list(range(5001))

    def test_gz_is_the_same_file_compressed(self, make_result, tmp_path):
        plain, packed = tmp_path / "a.geojson", tmp_path / "a.geojson.gz"
        write_geojson(plain, make_result())
        write_geojson(packed, make_result())
        assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()

    @pytest.mark.parametrize("name", ["a.txt", "geojson", "a.gz", "a.geojson.zip"])
    def test_a_suffix_that_qupath_would_not_read_is_refused(self, make_result, tmp_path, name):
        with pytest.raises(InvalidRequestError, match="expected a name in"):
            write_geojson(tmp_path / name, make_result())
        assert not list(tmp_path.iterdir())

    def test_a_missing_folder_is_reported_and_nothing_is_left(self, make_result, tmp_path):
        with pytest.raises(OutputError, match="folder"):
            write_geojson(tmp_path / "missing" / "a.geojson", make_result())
        assert not list(tmp_path.iterdir())

    def test_a_failure_half_way_leaves_an_existing_file_as_it_was(self, make_result, tmp_path):
        path = tmp_path / "a.geojson"
        path.write_text("before")
        outlines = [(0, box(i, 0, i + 1, 1)) for i in range(3000)] + [(0, Polygon([(0, 0), (math.inf, 0), (1, 1)]))]
        with pytest.raises(InvalidRequestError):
            write_geojson(path, make_result(outlines))
        assert path.read_text() == "before"
        assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]


class TestReadingAnArea:
    def read(self, tmp_path, document, warn=pytest.fail):
        path = tmp_path / "roi.geojson"
        path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
        return read_geojson_roi(path, warn=warn)

    @staticmethod
    def feature(polygon, **properties):
        return {"type": "Feature", "geometry": shapely.geometry.mapping(polygon), "properties": properties}

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda f: f["geometry"],
            lambda f: f,
            lambda f: {"type": "FeatureCollection", "features": [f]},
            lambda f: [f],
            lambda f: {"type": "GeometryCollection", "geometries": [f["geometry"]]},
        ],
        ids=["geometry", "Feature", "FeatureCollection", "list of older exports", "GeometryCollection"],
    )
    def test_every_form_that_qupath_exports_is_read(self, tmp_path, wrap):
        assert self.read(tmp_path, wrap(self.feature(DONUT))).equals(DONUT)

    @pytest.mark.parametrize("kind", [None, 7, {}, [], ["Polygon"]], ids=repr)
    def test_a_geometry_of_no_kind_has_no_plane_and_no_area(self, tmp_path, kind):
        broken = {"type": "Feature", "geometry": {"type": kind, "coordinates": []}, "properties": {}}
        assert plane_of(broken) is None
        with pytest.raises(InvalidRequestError, match="has no geometry"):
            self.read(tmp_path, [broken])

    def test_what_we_write_is_read(self, make_result, tmp_path):
        path = tmp_path / "a.geojson.gz"
        write_geojson(path, make_result())
        assert read_geojson_roi(path, warn=pytest.fail).equals(box(0, 0, 100, 80))

    def test_several_polygons_become_their_union(self, tmp_path):
        apart = [
            self.feature(box(0, 0, 1, 1)),
            self.feature(MultiPolygon([box(5, 0, 6, 1), box(7, 0, 8, 1)])),
        ]
        area = self.read(tmp_path, apart)
        assert isinstance(area, MultiPolygon)
        assert area.area == 3
        assert isinstance(self.read(tmp_path, [self.feature(box(0, 0, 2, 2)), self.feature(box(1, 1, 3, 3))]), Polygon)

    @pytest.mark.parametrize("document", ["", "nonsense", "{", "NaN", "[" * 100_000, "\x00"])
    def test_what_is_not_json_is_refused(self, tmp_path, document):
        with pytest.raises(InvalidRequestError, match=r"damaged: (expected JSON|it is nested)"):
            self.read(tmp_path, document)

    @pytest.mark.parametrize("document", [[], {"type": "FeatureCollection", "features": []}, "3", "null"])
    def test_a_file_without_polygons_is_refused(self, tmp_path, document):
        with pytest.raises(InvalidRequestError, match="no polygon"):
            self.read(tmp_path, document)

    @pytest.mark.parametrize(
        ("geometry", "kind"),
        [
            (shapely.Point(1, 1), "Point"),
            (shapely.MultiPoint([(1, 1)]), "MultiPoint"),
            (shapely.LineString([(0, 0), (1, 1)]), "LineString"),
            (shapely.MultiLineString([[(0, 0), (1, 1)]]), "MultiLineString"),
            (None, "no geometry"),
            ({"type": "Polygon", "coordinates": []}, "empty Polygon"),
            ({"type": "MultiPolygon", "coordinates": [[]]}, "empty MultiPolygon"),
            ({"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 1]}]}, "Point"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_encloses_no_area_is_named_and_the_areas_are_used(self, tmp_path, geometry, kind):
        geometry = shapely.geometry.mapping(geometry) if isinstance(geometry, shapely.Geometry) else geometry
        without = {"type": "Feature", "geometry": geometry, "properties": {"name": "Landmark"}}
        told = []
        assert self.read(tmp_path, [without, self.feature(DONUT), without], told.append).equals(DONUT)
        assert len(told) == 1
        assert told[0].endswith(f"Left out: feature 1 (Landmark): {kind}, feature 3 (Landmark): {kind}.")
        with pytest.raises(InvalidRequestError, match=rf"contains no polygon \(feature 1 \(Landmark\): {kind}\)"):
            self.read(tmp_path, [without])

    def test_areas_beside_points_in_one_object_are_used(self, tmp_path):
        parts = [shapely.geometry.mapping(part) for part in (DONUT, shapely.Point(1, 1))]
        told = []
        area = self.read(tmp_path, {"type": "GeometryCollection", "geometries": parts}, told.append)
        assert area.equals(DONUT)
        assert len(told) == 1

    @pytest.mark.parametrize(
        ("name", "left_out"),
        [
            ("feature", None),
            ("holes_touch_each", None),
            ("list_mixed_points", "feature 2: Point, feature 3: LineString"),
            ("fc_null", "feature 2: no geometry"),
            ("empty_multipolygon", "feature 1: empty MultiPolygon"),
        ],
    )
    def test_exports_that_users_sent_are_read(self, shared_data, name, left_out):
        told = []
        area = read_geojson_roi(shared_data.parent / "cases" / "roi" / f"{name}.geojson", warn=told.append)
        assert area.bounds == (700, 600, 1300, 1100)
        assert area.area == 600 * 500 - (2 * 100 * 100 if name == "holes_touch_each" else 0)
        assert [line.partition("Left out: ")[2] for line in told] == ([f"{left_out}."] if left_out else [])

    def test_many_objects_without_area_are_one_line(self, tmp_path):
        told = []
        self.read(tmp_path, [self.feature(DONUT), *[self.feature(shapely.Point(1, 1))] * 1000], told.append)
        assert len(told) == 1
        assert "and 990 more" in told[0]
        assert len(told[0]) < 500

    def test_an_outline_that_crosses_itself_is_refused_with_the_place_and_a_remedy(self, tmp_path):
        bow_tie = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
        with pytest.raises(InvalidRequestError, match=r"feature 1 .*Self-intersection\[1 1\].*brush"):
            self.read(tmp_path, [self.feature(bow_tie)])

    @pytest.mark.parametrize(
        "coordinates",
        [
            None,
            7,
            "abc",
            [[[0, 0], [1, 1]]],
            [[[0, 0], [1, "x"], [1, 1], [0, 0]]],
            [[1, 2, 3, 4]],
            {},
        ],
    )
    def test_malformed_coordinates_are_refused(self, tmp_path, coordinates):
        with pytest.raises(InvalidRequestError, match="malformed coordinates"):
            self.read(tmp_path, {"type": "Polygon", "coordinates": coordinates})

    @pytest.mark.parametrize("document", [{"a": 1}, [{"type": 7}]])
    def test_a_feature_without_geometry_is_refused(self, tmp_path, document):
        with pytest.raises(InvalidRequestError, match="feature 1 has no geometry"):
            self.read(tmp_path, document)

    def test_a_missing_or_damaged_file_is_refused(self, tmp_path):
        with pytest.raises(InvalidRequestError, match="Cannot read"):
            read_geojson_roi(tmp_path / "missing.geojson", warn=pytest.fail)
        damaged = tmp_path / "damaged.geojson.gz"
        damaged.write_bytes(gzip.compress(b"{}")[:-6])
        with pytest.raises(InvalidRequestError, match="Cannot read"):
            read_geojson_roi(damaged, warn=pytest.fail)
