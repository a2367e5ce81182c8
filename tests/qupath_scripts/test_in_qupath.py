"""The scripts in a real QuPath, headless, on a real slide."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shapely
from shapely.geometry import shape

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.qupath.install import UserFolder, find_extension, install, write_server_command
from conceptseg.qupath.locate import find_qupath_installations

pytestmark = pytest.mark.qupath

SCRIPTS = Path(__file__).parents[2] / "qupath_scripts"
REGION = (600, 700, 700, 600)  # x, y, width, height in px: the second parent, where the server scripts work

# A project with two images of the slide. "one" has the results under the parent "Whole", an annotation of the user
# and a detection of the user inside the first result; "two" has the results directly in the image; "plain" none.
MAKE_PROJECT = """
import java.awt.image.BufferedImage
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServers
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObjects
import qupath.lib.projects.Projects

def rectangle = { x, y, w, h -> ROIs.createRectangleROI(x, y, w, h, ImagePlane.getDefaultPlane()) }
def project = Projects.createProject(new File(args[0]), BufferedImage)
["one", "two", "plain"].each { name ->
    def server = ImageServers.buildServer(new File(args[1]).toURI())
    def entry = project.addImage(server.getBuilder())
    entry.setImageName(name)
    def data = new ImageData(server)
    data.setImageType(ImageData.ImageType.BRIGHTFIELD_H_E)
    def own = name == "plain" ? [] : PathIO.readObjects(new File(args[2]).toPath())
    if (name == "one") {
        def whole = PathObjects.createAnnotationObject(rectangle(0, 0, server.getWidth(), server.getHeight()))
        whole.setName("Whole")
        def inside = PathObjects.createDetectionObject(rectangle(100, 100, 20, 20), getPathClass("Mine"))
        own[0].addChildObject(inside)
        whole.addChildObjects(own)
        data.getHierarchy().addObjects([whole])
    } else
        data.getHierarchy().addObjects(own)
    def (x, y, w, h) = args[3].split(",").collect { it.toDouble() }
    def mine = PathObjects.createAnnotationObject(rectangle(x, y, w, h), getPathClass("Mine"))
    mine.setName("Mine")
    data.getHierarchy().getRootObject().addChildObject(mine)
    entry.saveImageData(data)
}
project.syncChanges()
"""

# For all images of the project: what is in them, as FOLDER/IMAGE.json.
DESCRIBE = """
import qupath.lib.io.GsonTools
def describe = { o -> [
    annotation: o.isAnnotation(), name: o.getName(), locked: o.isLocked(), id: o.getID().toString(),
    pathClass: o.getPathClass()?.toString(), rgb: o.getPathClass() == null ? 0 : o.getPathClass().getColor() & 0xffffff,
    parent: o.getParent().isRootObject() ? "root" : o.getParent().getName() ?: o.getParent().getPathClass()?.toString(),
    area: o.getROI().getArea(), valid: o.getROI().getGeometry().isValid(),
    wkt: o.isAnnotation() ? o.getROI().getGeometry().toText() : "",
    measurements: new TreeMap(o.getMeasurementList().asMap()), metadata: new TreeMap(o.getMetadata()),
] }
def content = [objects: getAllObjects(false).collect(describe), classes: getProject().getPathClasses()*.toString(),
    steps: getCurrentImageData().getHistoryWorkflow().getSteps()*.getName()]
def gson = GsonTools.getInstance().newBuilder().serializeSpecialFloatingPointValues().create()
new File(args[0], getProjectEntry().getImageName() + ".json").setText(gson.toJson(content), "UTF-8")
"""


# Names results that were read from a file, in an image without a project.
NAMING = """
import io.github.conceptseg.ConceptSeg
import qupath.lib.io.PathIO
import qupath.lib.objects.hierarchy.events.PathObjectHierarchyListener
def data = getCurrentImageData()
addObjects(PathIO.readObjects(new File(args[0]).toPath()))
def events = 0
data.getHierarchy().addListener({ events++ } as PathObjectHierarchyListener)
def told = { job -> job.apply().getLines().join(" | ") }
println "MERGED " + told(ConceptSeg.name(data).names([6: "Tumor", 8: "Tumor"]).colour("Tumor", 1, 2, 3))
println "EVENTS " + events
println "COLOUR " + Integer.toHexString(getPathClass("Tumor").getColor() & 0xffffff)
println "AMBIGUOUS " + told(ConceptSeg.name(data).name(6, "Stroma"))
println "AGAIN " + told(ConceptSeg.name(data))
try {
    ConceptSeg.name(data).dictionary("other").apply()
} catch (RuntimeException error) {
    println "UNKNOWN " + error.getMessage()
}
"""

# Three TMA cores, of which one is missing.
MAKE_TMA = """
import qupath.lib.objects.hierarchy.DefaultTMAGrid
def core = { name, x, y, missing ->
    def core = PathObjects.createTMACoreObject(x, y, 500, 450, missing)
    core.setName(name)
    core
}
def hierarchy = getCurrentImageData().getHierarchy()
hierarchy.removeObjects(hierarchy.getAnnotationObjects(), false)
def cores = [core("A-1", 600.5, 700.25, false), core("A-2", 900, 220, true), core("A-3", 1500, 800, false)]
hierarchy.setTMAGrid(DefaultTMAGrid.create(cores, 3))
cores.each {
    def outline = PathObjects.createAnnotationObject(it.getROI())
    exportObjectsToGeoJson([outline], args[0] + "/" + it.getName() + ".geojson")
}
"""


@pytest.fixture(scope="module")
def slide(shared_data):
    return shared_data / "wsi/CMU-1-Small-Region.svs"


@pytest.fixture(scope="module")
def segmented(slide, tmp_path_factory):
    """The slide's results: GeoJSON and summary."""
    folder = tmp_path_factory.mktemp("segmented")
    geojson, summary = folder / "slide.geojson", folder / "slide.json"
    command = [sys.executable, "-m", "conceptseg", "segment", slide, "-o", geojson, "--summary", summary, "--quiet"]
    subprocess.run(command, check=True, timeout=600)
    return geojson, json.loads(summary.read_text(encoding="utf-8"))


class Project:
    """A project of one test, and the QuPath to run scripts on it."""

    def __init__(self, qupath, folder, environment):
        self.qupath, self.folder, self.environment = qupath, folder, environment

    def run(self, script, *arguments, image=None, save=False, project=True):
        command = [self.qupath.launcher, "script"]
        command += ["-p", self.folder / "project.qpproj"] if project else []
        command += ["-i", image] if image else []
        command += ["--save"] if save else []
        command += [script, *(f"--args={argument}" for argument in arguments)]
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, timeout=600, check=False
        )
        self.output = done.stdout + done.stderr
        assert done.returncode == 0, self.output
        assert "[ERROR]" not in self.output, self.output
        return self.output

    def describe(self):
        """What all images hold, by name."""
        folder = self.folder / "described"
        folder.mkdir(exist_ok=True)
        script = folder / "describe.groovy"
        script.write_text(DESCRIBE, encoding="utf-8")
        self.run(script, folder)
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


@pytest.fixture(scope="module", params=find_qupath_installations() or [None], ids=lambda q: q.version if q else "none")
def template(request, slide, segmented, tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    (folder / "project").mkdir()
    script = folder / "make.groovy"
    script.write_text(MAKE_PROJECT, encoding="utf-8")
    project = Project(request.param, folder / "project", {"JAVA_TOOL_OPTIONS": f"-Djava.util.prefs.userRoot={folder}"})
    project.run(script, folder / "project", slide, segmented[0], ",".join(map(str, REGION)), project=False)
    return project


@pytest.fixture
def project(template, tmp_path):
    shutil.copytree(template.folder, tmp_path / "project")
    return Project(
        template.qupath, tmp_path / "project", {"JAVA_TOOL_OPTIONS": f"-Djava.util.prefs.userRoot={tmp_path}"}
    )


@pytest.fixture
def with_extension(project, tmp_path):
    """The project, in a QuPath that has the extension and can start a server of its own."""
    try:
        extension = find_extension()
    except InvalidRequestError:
        pytest.skip("needs the extension jar (make jar)")
    version = ".".join(project.qupath.version.split(".")[:2])
    project.environment |= {
        "CONCEPTSEG_CONFIG_DIR": str(tmp_path / "config"),
        "CONCEPTSEG_DICTIONARIES": str(tmp_path / "dictionaries"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in project.environment.items():
            patch.setenv(name, value)
        install(UserFolder(path=tmp_path / "user", versions=(version,), unset=(version,)), extension)
        write_server_command()
    return project


def own(image):
    return [item for item in image["objects"] if "conceptseg.run" in item["metadata"]]


def others(image):
    return [item for item in image["objects"] if "conceptseg.run" not in item["metadata"]]


def test_concepts_are_named_merged_ignored_and_remembered_for_other_images(with_extension, segmented):
    project = with_extension
    geojson, summary = segmented
    before = project.describe()
    script = SCRIPTS / "Name_and_merge_concepts.groovy"
    output = project.run(script, "6=Tumor", "8=Tumor", "14=Ignore*", "9=My class", image="one", save=True)
    assert "Remembered in" in output
    labels = json.loads((project.folder / "conceptseg-labels.json").read_text(encoding="utf-8"))
    assert labels == {
        "version": 1,
        "dictionaries": {
            "default-k16": {
                "concepts": {
                    "6": {"name": "Tumor", "ignored": False},
                    "8": {"name": "Tumor", "ignored": False},
                    "14": {"name": "Ignore*", "ignored": True},
                    "9": {"name": "My class", "ignored": False},
                }
            }
        },
    }
    # Without settings, what is remembered is applied: that is how the other images of a project get the names.
    project.run(script, image="two", save=True)
    after = project.describe()

    features = json.loads(geojson.read_text(encoding="utf-8"))["features"]
    tumour = [shape(f["geometry"]) for f in features if f["properties"]["metadata"]["conceptseg.concept"] in ("6", "8")]
    joined = shapely.get_parts(shapely.union_all(tumour))
    areas = {item["id"]: item["area_um2"] for item in summary["concepts"]}
    counts = {item["id"]: item["polygons"] for item in summary["concepts"]}
    for name in ("one", "two"):
        objects = own(after[name])
        named = {c: [o for o in objects if o["pathClass"] == c] for c in ("Tumor", "Ignore*", "My class", "Concept 06")}
        assert len(named["Tumor"]) == len(joined) < len(tumour)
        assert sum(o["area"] for o in named["Tumor"]) == pytest.approx(sum(map(shapely.area, joined)), rel=1e-6)
        assert sum(o["measurements"]["Area µm^2"] for o in named["Tumor"]) == pytest.approx(areas[6] + areas[8])
        assert {o["metadata"]["conceptseg.concept"] for o in named["Tumor"]} == {"6", "8", "6,8"}
        assert {o["rgb"] for o in named["Tumor"]} == {0xC80000}  # QuPath's own
        assert {o["rgb"] for o in named["Ignore*"]} == {0xB4B4B4}
        was = {o["rgb"] for o in own(before[name]) if o["pathClass"] == "Concept 09"}
        assert {o["rgb"] for o in named["My class"]} == was  # QuPath did not know it
        assert [len(named[c]) for c in ("Ignore*", "My class", "Concept 06")] == [counts[14], counts[9], 0]
        assert all(o["valid"] and o["locked"] for o in objects)
        assert all(set(o["measurements"]) == set(objects[0]["measurements"]) for o in objects)
        # Outlines still cover the same area without overlap, and nothing else changed.
        assert sum(o["area"] for o in objects) == pytest.approx(sum(o["area"] for o in own(before[name])), rel=1e-6)
        assert {o["id"] for o in others(before[name])} == {o["id"] for o in others(after[name])}
    assert {o["parent"] for o in own(after["one"])} == {"Whole"}
    assert {"Tumor", "My class", "Ignore*"} <= set(after["one"]["classes"])

    # Again: nothing to do.
    assert "Named 0 ConceptSeg annotations. Now" in project.run(script, image="two")


def test_a_wrong_name_or_a_damaged_memory_changes_nothing(with_extension):
    project = with_extension
    script = SCRIPTS / "Name_and_merge_concepts.groovy"
    with pytest.raises(AssertionError, match="Expected a class name"):
        project.run(script, "10=a: b", image="two", save=True)
    (project.folder / "conceptseg-labels.json").write_text("{", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"conceptseg-labels\.json is damaged.*repair it, or move it away"):
        project.run(script, "10=Tumor", image="two", save=True)
    assert (project.folder / "conceptseg-labels.json").read_text(encoding="utf-8") == "{"
    assert "Tumor" not in {item["pathClass"] for item in project.describe()["two"]["objects"]}


def test_names_without_a_project_are_applied_and_said_not_to_be_remembered(with_extension, slide, segmented, tmp_path):
    script = tmp_path / "naming.groovy"
    script.write_text(NAMING, encoding="utf-8")
    output = with_extension.run(script, segmented[0], image=slide, project=False)
    said = dict(line.split(" ", 1) for line in output.splitlines() if line.split(" ")[0].isupper())
    assert said["MERGED"].startswith("Not remembered: this image is in no project.")
    assert "Tumor (" in said["MERGED"]
    assert said["COLOUR"] == "10203"
    assert said["EVENTS"] == "1"  # one undo step
    # What was merged cannot be told apart again.
    assert "merged from concepts that have different names now and stay" in said["AMBIGUOUS"]
    assert "Segment again to separate them." in said["AMBIGUOUS"]
    assert said["AGAIN"].startswith("Named 0 ConceptSeg annotations. Now")
    assert said["UNKNOWN"] == "This image has no results of the dictionary other, only of default-k16."
    assert not list(tmp_path.rglob("conceptseg-labels.json"))


def test_the_summary_has_the_numbers_of_the_segmentation(project, segmented):
    output = project.run(SCRIPTS / "Show_concept_summary.groovy", "tables")
    assert "Summary of" in output
    for name, parent in (("one", "Whole"), ("two", "Image")):
        with (project.folder / f"tables/{name} concepts.csv").open(encoding="utf-8", newline="") as file:
            rows = {row["Concept"]: row for row in csv.DictReader(file)}
        expected = {item["name"]: item for item in segmented[1]["concepts"] if item["polygons"]}
        assert set(rows) == set(expected)
        for concept, row in rows.items():
            assert (row["Image"], row["Parent"]) == (name, parent)
            assert float(row["Area µm^2"]) == pytest.approx(expected[concept]["area_um2"], abs=0.5)
            assert float(row["Area %"]) == pytest.approx(expected[concept]["area_percent"], abs=0.02)
            assert int(row["Annotations"]) == expected[concept]["polygons"]
    assert not (project.folder / "tables/plain concepts.csv").exists()


def test_a_name_that_begins_like_a_formula_is_text_in_the_table(project, tmp_path):
    rename = tmp_path / "rename.groovy"
    rename.write_text("getAnnotationObjects().find { it.getName() == 'Whole' }.setName('=1+1')", encoding="utf-8")
    project.run(rename, image="one", save=True)
    project.run(SCRIPTS / "Show_concept_summary.groovy", "tables", image="one")
    with (project.folder / "tables/one concepts.csv").open(encoding="utf-8", newline="") as file:
        assert {row["Parent"] for row in csv.DictReader(file)} == {"'=1+1"}


def test_concepts_are_selected_by_name_and_by_number(project, segmented):
    counts = {item["name"]: item["polygons"] for item in segmented[1]["concepts"]}
    wanted = counts["Concept 14"] + counts["Concept 03"]
    output = project.run(SCRIPTS / "Select_by_concept.groovy", "Concept 14", "3", image="one")
    assert f"Selected {wanted} of {sum(counts.values())} ConceptSeg annotations" in output


def test_only_conceptseg_results_are_removed(project, segmented):
    before = project.describe()
    output = project.run(SCRIPTS / "Remove_ConceptSeg_results.groovy", save=True)
    assert f"Removed {len(own(before['one']))} ConceptSeg annotations" in output
    assert "Removed nothing" in output  # the image without results
    after = project.describe()
    for name, image in after.items():
        assert own(image) == []
        assert {o["id"] for o in image["objects"]} == {o["id"] for o in others(before[name])}
    # What the user put inside a result moved up to its parent.
    assert [(o["annotation"], o["parent"]) for o in after["one"]["objects"] if "name" not in o] == [(False, "Whole")]


# ---------- With a server ----------


def test_selected_annotations_are_segmented_and_learned_from(with_extension, slide, tmp_path):
    project = with_extension
    output = project.run(SCRIPTS / "Check_server.groovy", project=False)
    assert "Checked the server: ready." in output

    (project.folder / "conceptseg-labels.json").write_text(
        json.dumps(
            {"version": 1, "dictionaries": {"default-k16": {"concepts": {"14": {"name": "Stroma", "ignored": False}}}}}
        ),
        encoding="utf-8",
    )
    script = SCRIPTS / "Segment_selected_annotations.groovy"
    output = project.run(script, image="plain", save=True)
    assert "Segmented 1 region of plain" in output
    made = own(project.describe()["plain"])
    assert made
    assert {o["parent"] for o in made} == {"Mine"}

    # The same pixels and settings as on the command line.
    geojson = tmp_path / "region.geojson"
    region = ",".join(map(str, REGION))
    command = [sys.executable, "-m", "conceptseg", "segment", slide, "-o", geojson, "--region", region, "--quiet"]
    subprocess.run(command, check=True, timeout=600)
    features = json.loads(geojson.read_text(encoding="utf-8"))["features"]
    for concept in {f["properties"]["metadata"]["conceptseg.concept"] for f in features}:
        expected = [
            shape(f["geometry"]) for f in features if f["properties"]["metadata"]["conceptseg.concept"] == concept
        ]
        found = [shapely.from_wkt(o["wkt"]) for o in made if o["metadata"]["conceptseg.concept"] == concept]
        difference = shapely.union_all(expected).symmetric_difference(shapely.union_all(found)).area
        assert difference <= 0.005 * shapely.box(0, 0, *REGION[2:]).area, concept

    # A rerun replaces its own results.
    output = project.run(script, image="plain", save=True)
    assert f"{len(made)} earlier ones replaced" in output
    assert len(own(project.describe()["plain"])) == len(made)

    output = project.run(SCRIPTS / "Learn_concepts_from_selection.groovy", image="plain")
    assert "Learned plain-k16" in output


def test_a_name_given_before_is_used_by_a_later_segmentation(with_extension):
    project = with_extension
    concepts = {
        str(concept): {"name": "Stroma", "ignored": False} if concept % 2 == 0 else {"name": "Fat", "ignored": True}
        for concept in range(16)
    }
    for concept in range(1, 16, 2):
        concepts[str(concept)]["colour"] = [1, 2, 3]
    labels = {"version": 1, "dictionaries": {"default-k16": {"concepts": concepts}}}
    (project.folder / "conceptseg-labels.json").write_text(json.dumps(labels), encoding="utf-8")
    project.run(SCRIPTS / "Segment_selected_annotations.groovy", image="plain", save=True)
    made = own(project.describe()["plain"])
    # QuPath's own colour unless another one was chosen.
    assert {(o["pathClass"], o["rgb"]) for o in made} == {("Stroma", 0x96C896), ("Fat*", 0x010203)}


def test_a_damaged_memory_stops_a_segmentation_before_it_begins(with_extension, tmp_path):
    project = with_extension
    (project.folder / "conceptseg-labels.json").write_text('{"version": 2}', encoding="utf-8")
    with pytest.raises(AssertionError, match=r"conceptseg-labels\.json is of version 2.*update ConceptSeg"):
        project.run(SCRIPTS / "Segment_selected_annotations.groovy", image="plain", save=True)
    assert not (tmp_path / "config/server.json").exists()
    assert own(project.describe()["plain"]) == []


def test_tma_cores_are_segmented_where_there_are_no_annotations(with_extension, slide, tmp_path):
    project = with_extension
    make = tmp_path / "make_tma.groovy"
    make.write_text(MAKE_TMA, encoding="utf-8")
    project.run(make, tmp_path, image="plain", save=True)
    script = SCRIPTS / "Segment_selected_annotations.groovy"
    output = project.run(script, image="plain", save=True)
    assert "segmenting all TMA cores" in output
    assert "Segmented 2 regions of plain" in output
    image = project.describe()["plain"]
    assert {o["parent"] for o in own(image)} == {"A-1", "A-3"}  # the missing one is left out
    assert {o["name"] for o in others(image) if o["locked"]} == {"A-1", "A-3"}

    # The polygons of a core are those of its outline, and lie where it lies.
    for core in ("A-1", "A-3"):
        local = tmp_path / f"local-{core}.geojson"
        command = [sys.executable, "-m", "conceptseg", "segment", slide, "-o", local, "--quiet", "--k", "16"]
        command += ["--roi", tmp_path / f"{core}.geojson"]
        subprocess.run(command, check=True, timeout=600)
        features = json.loads(local.read_text(encoding="utf-8"))["features"]
        expected, found = {}, {}
        for f in features:
            expected.setdefault(f["properties"]["classification"]["name"], []).append(shape(f["geometry"]))
        for o in own(image):
            if o["parent"] == core:
                found.setdefault(o["pathClass"], []).append(shapely.from_wkt(o["wkt"]))
        assert found.keys() == expected.keys()
        for name in expected:
            difference = shapely.union_all(found[name]).symmetric_difference(shapely.union_all(expected[name])).area
            assert difference == pytest.approx(0, abs=0.2), (core, name)

    output = project.run(script, image="plain", save=True)
    assert f"{len(own(image))} earlier ones replaced" in output


def test_the_whole_image_is_segmented_beside_what_the_user_drew(with_extension, segmented):
    project = with_extension
    output = project.run(SCRIPTS / "Segment_whole_image.groovy", image="plain", save=True)
    assert "Segmented plain into" in output
    image = project.describe()["plain"]
    assert {o["parent"] for o in own(image)} == {"root"}
    assert len(others(image)) == 1
    total = sum(item["area_um2"] for item in segmented[1]["concepts"])
    assert sum(o["measurements"]["Area µm^2"] for o in own(image)) == pytest.approx(total, rel=0.005)


# A whole slide that does not fit into memory at once; what came of it goes into a file.
SEGMENT_LARGE = """
import io.github.conceptseg.ConceptSeg
ConceptSeg.segment(getCurrentImageData()).wholeImage().k(16).pixelSizeUm(0.5).run()
def own = getAnnotationObjects().findAll { it.getMetadata().containsKey("conceptseg.run") }
new File(args[0]).setText(own.collect { it.getROI().getGeometry().toText() }.join("\\n"), "UTF-8")
"""


def test_a_slide_of_40_000_px_streams_through_the_server(with_extension, shared_data, tmp_path):
    slide = shared_data.parent / "cases/large/sparse_pyramid.tif"
    script, found = tmp_path / "large.groovy", tmp_path / "found.txt"
    script.write_text(SEGMENT_LARGE, encoding="utf-8")
    with_extension.run(script, found, image=slide, project=False)
    geojson = tmp_path / "large.geojson"
    command = [sys.executable, "-m", "conceptseg", "segment", slide, "-o", geojson, "--pixel-size-um", "0.5", "--quiet"]
    subprocess.run(command, check=True, timeout=600)
    expected = [shape(f["geometry"]) for f in json.loads(geojson.read_text(encoding="utf-8"))["features"]]
    outlines = [shapely.from_wkt(line) for line in found.read_text(encoding="utf-8").splitlines()]
    # What a file leaves out is white to one reader and black to another, so the edges of its tiles may differ.
    missing = shapely.union_all(expected).difference(shapely.union_all(outlines)).area
    assert missing <= 0.01 * shapely.union_all(expected).area
    assert shapely.union_all(outlines).area <= 1.01 * shapely.union_all(expected).area


# A stack of three slices: the whole image, an annotation on the last slice, and the whole image once more.
SEGMENT_STACK = """
import io.github.conceptseg.ConceptSeg
def data = getCurrentImageData()
def last = PathObjects.createAnnotationObject(ROIs.createRectangleROI(100, 100, 500, 400, ImagePlane.getPlane(2, 0)))
addObject(last)
def planes = { getAnnotationObjects().findAll { it.getMetadata().containsKey("conceptseg.run") }
    .countBy { it.getROI().getImagePlane().getZ() }.sort() }
def report = ConceptSeg.segment(data).wholeImage().pixelSizeUm(0.5).run()
println "FIRST " + planes()
println "SAID " + report.getLines().first()
ConceptSeg.segment(data).parents([last]).pixelSizeUm(0.5).run()
println "SECOND " + planes()
report = ConceptSeg.segment(data).wholeImage().pixelSizeUm(0.5).run()
println "AGAIN " + planes()
println "REPLACED " + report.getRemoved()
"""


def test_results_lie_on_the_slice_that_qupath_shows_or_that_of_their_parent(with_extension, shared_data, tmp_path):
    script = tmp_path / "stack.groovy"
    script.write_text(SEGMENT_STACK, encoding="utf-8")
    stack = shared_data.parent / "cases/zstack/zstack.ome.tif"
    output = with_extension.run(script, image=stack, project=False)
    said = dict(line.split(" ", 1) for line in output.splitlines() if line.split(" ")[0].isupper())
    middle = int(said["FIRST"].removeprefix("[1:").removesuffix("]"))
    assert "z-slice 1" in said["SAID"]
    assert said["SECOND"].startswith(f"[1:{middle}, 2:")
    # A rerun replaces what lies on its own slice, and nothing else.
    assert said["AGAIN"] == said["SECOND"]
    assert said["REPLACED"] == str(middle)


# Tissue on tinted glass: its area in µm², and what the report says.
SEGMENT_TINTED = """
import io.github.conceptseg.ConceptSeg
def report = ConceptSeg.segment(getCurrentImageData()).wholeImage().k(16).run()
def own = getAnnotationObjects().findAll { it.getMetadata().containsKey("conceptseg.run") }
println "AREA " + own.sum { it.getMeasurementList().get("Area µm^2") }
println "SAID " + report.getLines().join(" | ")
"""


@pytest.mark.parametrize("name", ["pinkish_glass", "nearly_black_fill", "pale_tenth"])
def test_glass_is_that_of_the_slide_as_in_a_local_run(with_extension, shared_data, tmp_path, name):
    slide = shared_data.parent / f"cases/glass/{name}.tif"
    script, summary = tmp_path / "tinted.groovy", tmp_path / "local.json"
    script.write_text(SEGMENT_TINTED, encoding="utf-8")
    output = with_extension.run(script, image=slide, project=False)
    said = dict(line.split(" ", 1) for line in output.splitlines() if line.split(" ")[0].isupper())
    command = [sys.executable, "-m", "conceptseg", "segment", slide, "--k", "16", "--summary", summary, "--quiet"]
    subprocess.run([*command, "-o", tmp_path / "local.geojson"], check=True, timeout=600)
    local = json.loads(summary.read_text(encoding="utf-8"))
    area = sum(concept["area_um2"] for concept in local["concepts"])
    assert float(said["AREA"]) == pytest.approx(area, rel=0.01)
    assert ("very pale" in said["SAID"]) == (name == "pale_tenth")
