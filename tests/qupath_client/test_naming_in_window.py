"""Naming concepts in QuPath's real window: the table, what comes of it, and one undo."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from qupath_window import QuPathWindow, install_extension, isolated, missing_programs, open_qupath

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

pytestmark = [
    pytest.mark.qupath,
    pytest.mark.skipif(bool(missing_programs()), reason=f"needs {', '.join(missing_programs())}"),
    pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version),
]

# A project of one image with a row of three results that touch each other.
MAKE_PROJECT = """
import qupath.lib.images.servers.ImageServers
def project = Projects.createProject(new File("FOLDER"), BufferedImage)
def server = ImageServers.buildServer(new File("IMAGE").toURI())
def entry = project.addImage(server.getBuilder())
def data = new ImageData(server)
data.setImageType(ImageData.ImageType.BRIGHTFIELD_H_E)
data.getHierarchy().addObjects((0..2).collect { concept ->
    def roi = ROIs.createRectangleROI(100 + 100 * concept, 100, 100, 100, ImagePlane.getDefaultPlane())
    def result = PathObjects.createAnnotationObject(roi, getPathClass("Concept 0" + concept))
    def of = [run: "run", dictionary: "demo", concept: concept.toString()]
    of.each { key, value -> result.getMetadata().put("conceptseg." + key, value) }
    result.getMeasurementList().put("Area µm^2", 2500d)
    result
})
entry.saveImageData(data)
project.syncChanges()
getQuPath().setProject(project)
getQuPath().openImageEntry(project.getImageList()[0])
"""
FILL_IN = """
def names = nodes().findAll {
    it instanceof javafx.scene.control.ComboBox && it.value?.toString()?.startsWith("Concept 0")
}
names[0].getEditor().setText("My class")
names[1].setValue("My class")
def hide = names[2].getParent().getChildren().findAll { it instanceof javafx.scene.control.CheckBox }
hide[2].setSelected(true)
names*.getValue()*.toString()
"""
STATE = """
getQuPath().getImageData().getHierarchy().getAnnotationObjects().collect {
    [it.getPathClass().toString(), it.getROI().getArea(), it.getMetadata()["conceptseg.concept"],
        it.getMeasurementList().get("Area µm^2")]
}.sort { it[2] }
"""
UNTOUCHED = [[f"Concept 0{concept}", 10000.0, str(concept), 2500.0] for concept in range(3)]


@pytest.fixture
def window(jar: Path, installation: QuPathInstallation, tmp_path: Path) -> Iterator[QuPathWindow]:
    environment = isolated(tmp_path)
    install_extension(jar, environment)
    with open_qupath(installation, tmp_path, environment) as opened:
        yield opened


def test_names_from_the_table_merge_hide_and_are_remembered_in_one_undo_step(
    window: QuPathWindow, image: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    window.ask(MAKE_PROJECT.replace("FOLDER", str(project)).replace("IMAGE", str(image)))
    window.wait_for("getQuPath().getImageData() != null")
    assert window.ask(STATE) == UNTOUCHED

    window.menu("Extensions", "ConceptSeg", "Name and merge concepts")
    window.wait_for("places('Apply')")
    assert window.ask(FILL_IN)[2] == "Concept 02"
    window.click("Apply")

    merged = [["My class", 20000.0, "0,1", 5000.0], UNTOUCHED[2]]
    window.wait_for(f"def state = {{ {STATE} }}.call(); state.size() == 2")
    assert window.ask(STATE) == merged
    window.wait_for("texts().any { it.contains('Named 1 ConceptSeg annotation, merged 2 into 1.') }")
    assert window.ask("getQuPath().getAvailablePathClasses()*.toString().contains('My class')")
    hidden = "getQuPath().getOverlayOptions().isPathClassHidden(getPathClass('NAME'))"
    assert [window.ask(hidden.replace("NAME", name)) for name in ("My class", "Concept 02")] == [False, True]
    labels = json.loads((project / "conceptseg-labels.json").read_text(encoding="utf-8"))
    named = {"name": "My class", "ignored": False}
    assert labels == {"version": 1, "dictionaries": {"demo": {"concepts": {"0": named, "1": named}}}}

    window.press("ctrl+z")
    window.wait_for(f"def state = {{ {STATE} }}.call(); state.size() != 2")
    assert window.ask(STATE) == UNTOUCHED
