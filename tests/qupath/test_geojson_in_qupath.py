"""What a real QuPath makes of our GeoJSON, and we of its."""

import json
import os
import subprocess

import pytest
from shapely import Polygon, box

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.region import Region
from conceptseg.qupath.geojson import read_geojson_roi, write_geojson
from conceptseg.qupath.locate import find_qupath_installations

pytestmark = pytest.mark.qupath

DONUT = Polygon([(0, 0), (30, 0), (30, 30), (0, 30)], [[(10, 10), (20, 10), (20, 20), (10, 20)]])
HOURGLASS = Polygon([(50, 0), (60, 4.999), (70, 0), (70, 10), (60, 5.001), (50, 10)])
CLASSES = (
    ConceptClass(concept=0, name="Tumor", colour=(12, 34, 56)),
    ConceptClass(concept=1, name='🧬 5" <b>µ</b>', colour=(255, 0, 128)),
)

DESCRIBE_OBJECTS = """
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
def objects = PathIO.readObjects(new File(args[0]).toPath())
def described = objects.collect { o -> [
    id: o.getID().toString(), annotation: o.isAnnotation(), locked: o.isLocked(),
    name: o.getPathClass().toString(), rgb: o.getPathClass().getColor() & 0xffffff,
    area: o.getROI().getArea(), valid: o.getROI().getGeometry().isValid(),
    z: o.getROI().getZ(), t: o.getROI().getT(),
    measurements: o.getMeasurementList().asMap(), metadata: new TreeMap(o.getMetadata()),
] }
new File(args[1]).setText(GsonTools.getInstance().toJson(described), 'UTF-8')
"""

EXPORT_AREAS = """
import qupath.lib.io.PathIO
import qupath.lib.io.PathIO.GeoJsonExportOptions
import qupath.lib.objects.PathObjects
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs
def plane = ImagePlane.getDefaultPlane()
def areas = [ROIs.createRectangleROI(10, 20, 30, 40, plane), ROIs.createEllipseROI(100, 100, 20, 20, plane)]
    .collect { PathObjects.createAnnotationObject(it) }
PathIO.exportObjectsAsGeoJSON(new File(args[0]).toPath(), areas, GeoJsonExportOptions.FEATURE_COLLECTION)
PathIO.exportObjectsAsGeoJSON(new File(args[1]).toPath(), areas)
"""


@pytest.fixture(params=find_qupath_installations() or [None], ids=lambda q: f"QuPath {q.version}" if q else "none")
def run_script(request, tmp_path):
    def run(script, *arguments):
        path = tmp_path / "script.groovy"
        path.write_text(script, encoding="utf-8")
        command = [request.param.launcher, "script", path, *(f"--args={a}" for a in arguments)]
        # Preferences of its own, so that a test never touches the user's.
        environment = os.environ | {"JAVA_TOOL_OPTIONS": f"-Djava.util.prefs.userRoot={tmp_path}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz"])
def test_classes_colours_measurements_metadata_and_shapes_arrive(run_script, make_result, tmp_path, suffix):
    path, answer = tmp_path / f"result{suffix}", tmp_path / "answer.json"
    outlines = [(0, DONUT), (1, box(30, 0, 40, 30)), (1, HOURGLASS)]
    measurements = {"Area µm^2": 1.25, "Mean activation": float("nan")}
    region = Region(x=0, y=0, width=100, height=80, z=2, t=1)
    write_geojson(path, make_result(outlines, classes=CLASSES, measurements=measurements, region=region))
    run_script(DESCRIBE_OBJECTS, path, answer)
    objects = json.loads(answer.read_text(encoding="utf-8"))

    assert [o["name"] for o in objects] == ["Tumor", '🧬 5" <b>µ</b>', '🧬 5" <b>µ</b>']
    assert [o["rgb"] for o in objects] == [0x0C2238, 0xFF0080, 0xFF0080]
    assert [o["area"] for o in objects] == pytest.approx([800, 300, HOURGLASS.area], abs=0.05)
    assert all(o["annotation"] and o["locked"] and o["valid"] for o in objects)
    assert [(o["z"], o["t"]) for o in objects] == [(2, 1)] * 3
    assert [o["measurements"] for o in objects] == [{"Area µm^2": 1.25}] * 3
    assert objects[1]["metadata"] == {
        "conceptseg.concept": "1",
        "conceptseg.dictionary": "demo-k2",
        "conceptseg.run": "run-1",
    }
    if suffix == ".geojson":
        written = json.loads(path.read_text())["features"]
        assert [o["id"] for o in objects] == [f["id"] for f in written]


def test_an_empty_result_imports_as_nothing(run_script, make_result, tmp_path):
    path, answer = tmp_path / "empty.geojson", tmp_path / "answer.json"
    write_geojson(path, make_result([]))
    run_script(DESCRIBE_OBJECTS, path, answer)
    assert json.loads(answer.read_text()) == []


def test_areas_that_qupath_exports_are_read(run_script, tmp_path):
    collection, plain_list = tmp_path / "collection.geojson", tmp_path / "list.geojson"
    run_script(EXPORT_AREAS, collection, plain_list)
    area = read_geojson_roi(collection, warn=pytest.fail)
    assert area.equals(read_geojson_roi(plain_list, warn=pytest.fail))
    assert area.bounds == (10, 20, 120, 120)
    assert area.area == pytest.approx(1200 + 314.16, rel=0.01)
