"""Reviewing concepts in QuPath's real window: what the list says, keys and buttons, undo, and what is saved."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qupath_window import QuPathWindow, install_extension, isolated, missing_programs, open_qupath

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

pytestmark = [
    pytest.mark.qupath,
    pytest.mark.skipif(bool(missing_programs()), reason=f"needs {', '.join(missing_programs())}"),
    pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version),
]

# A project of two images. The first has four squares of concept 0, of which "b" is the least pure, and two of
# concept 1, beside the last; and an annotation of somebody. The second has one square of concept 1.
MAKE_PROJECT = """
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.images.servers.ImageServers
def project = Projects.createProject(new File("FOLDER"), BufferedImage)
def make = { name, squares ->
    def server = ImageServers.buildServer(new File("IMAGE").toURI())
    def entry = project.addImage(server.getBuilder())
    entry.setImageName(name)
    def data = new ImageData(server)
    data.setImageType(ImageData.ImageType.BRIGHTFIELD_H_E)
    server.setMetadata(new ImageServerMetadata.Builder(server.getMetadata()).pixelSizeMicrons(0.5, 0.5).build())
    data.getHierarchy().addObjects(squares.withIndex().collect { square, index ->
        def (label, concept, purity) = square
        def roi = ROIs.createRectangleROI(200 + 100 * index, 300, 100, 100, ImagePlane.getDefaultPlane())
        def result = PathObjects.createAnnotationObject(roi, getPathClass("Concept 0" + concept))
        result.setName(label)
        def of = [run: "run", dictionary: "demo", concept: concept.toString()]
        of.each { key, value -> result.getMetadata().put("conceptseg." + key, value) }
        result.getMeasurementList().put("Concept purity", purity)
        result
    })
    def drawn = PathObjects.createAnnotationObject(ROIs.createRectangleROI(0, 0, 50, 50, ImagePlane.getDefaultPlane()))
    drawn.setName("mine")
    data.getHierarchy().addObject(drawn)
    entry.saveImageData(data)
}
make("first", [["a", 0, 0.9d], ["b", 0, 0.3d], ["c", 0, 0.7d], ["d", 0, 0.5d], ["e", 1, 0.8d], ["f", 1, 0.6d]])
make("second", [["g", 1, 0.5d]])
project.syncChanges()
getQuPath().setProject(project)
getQuPath().openImageEntry(project.getImageList()[0])
"""
# Class, what was found, what it counts as, verdict and own colour of each result.
STATE = """
getQuPath().getImageData().getHierarchy().getAnnotationObjects().findAll { it.getName() != "mine" }.collectEntries {
    def of = it.getMetadata()
    [it.getName(), [it.getPathClass().toString(), of["conceptseg.concept"], of["conceptseg.reassigned"],
        of["conceptseg.review"], it.getColor() != null]]
}
"""
# What each row of the window says, left to right.
ROWS = """
import javafx.scene.control.CheckBox
nodes().findAll { it instanceof javafx.scene.control.TableRow && it.getItem() != null
        && it.getScene().getWindow().getTitle()?.startsWith("Review concepts") }.sort { it.getIndex() }.collect { row ->
    row.getChildrenUnmodifiable().findAll { it.isVisible() && (it.getText() != null || it.getGraphic() != null) }
        .collect { it.getGraphic() instanceof CheckBox ? it.getGraphic().isSelected() : it.getText() }
}
"""
SELECTED = "getQuPath().getImageData().getHierarchy().getSelectionModel().getSelectedObjects()*.getName().sort()"
TITLE = """
javafx.stage.Window.getWindows().findAll { it.isShowing() && it instanceof javafx.stage.Stage }
    *.getTitle().find { it?.startsWith("Review concepts") }
"""
CENTRE = "[getQuPath().getViewer().getCenterPixelX(), getQuPath().getViewer().getCenterPixelY()]"
HIDDEN = "getQuPath().getOverlayOptions().isPathClassHidden(getPathClass('{}'))"
FOCUS = """
javafx.stage.Window.getWindows().find {
    it instanceof javafx.stage.Stage && it.getTitle()?.startsWith("Review concepts")
}.requestFocus()
"""

NAME_FIELD = """
nodes().find { it instanceof javafx.scene.control.ComboBox && it.isEditable()
    && it.getScene().getWindow().getTitle()?.startsWith("Review concepts") }
"""
TYPED = f"({NAME_FIELD}).getEditor().getText()"
TYPE = f"({NAME_FIELD}).getEditor().setText('NAME')"
SAVE = "getProject().getEntry(getQuPath().getImageData()).saveImageData(getQuPath().getImageData())"
# The state that the file of the open image holds.
SAVED = STATE.replace(
    "getQuPath().getImageData().getHierarchy()", "getProject().getEntry(getQuPath().getImageData()).readHierarchy()"
)


def untouched(concept: int) -> list[Any]:
    return [f"Concept 0{concept}", str(concept), None, None, False]


UNTOUCHED = {name: untouched(0) for name in "abcd"} | {name: untouched(1) for name in "ef"}


class Reviewer:
    """A person at the review window."""

    def __init__(self, window: QuPathWindow) -> None:
        self.window = window

    def press(self, keys: str) -> None:
        self.window.ask(FOCUS)
        self.window.press(keys)

    def until(self, question: str, expected: object) -> None:
        """Wait for an answer; it is told apart from the others at the end."""
        end = time.monotonic() + 20
        while (answer := self.window.ask(question)) != expected and time.monotonic() < end:
            time.sleep(0.1)
        assert answer == expected

    def until_state(self, **changed: list[Any]) -> None:
        self.until(STATE, UNTOUCHED | changed)

    def name(self, concept: str, name: str) -> None:
        """Choose a concept in the list, type a name for it, and apply it."""
        self.window.click(concept)
        self.until(TYPED, concept)
        self.window.ask(TYPE.replace("NAME", name))
        self.window.click("Apply")


@pytest.fixture
def window(jar: Path, installation: QuPathInstallation, tmp_path: Path) -> Iterator[QuPathWindow]:
    environment = isolated(tmp_path)
    install_extension(jar, environment)
    with open_qupath(installation, tmp_path, environment) as opened:
        yield opened


@pytest.fixture
def reviewer(window: QuPathWindow, image: Path, tmp_path: Path) -> Reviewer:
    """Somebody who has the project and the review window open."""
    project = tmp_path / "project"
    project.mkdir()
    window.ask(MAKE_PROJECT.replace("FOLDER", str(project)).replace("IMAGE", str(image)))
    window.wait_for("getQuPath().getImageData() != null")
    window.menu("Extensions", "ConceptSeg", "Review concepts")
    window.wait_for(TITLE)
    return Reviewer(window)


def test_concepts_are_reviewed_named_undone_saved_and_read_again(reviewer: Reviewer, tmp_path: Path) -> None:
    window = reviewer.window
    reviewer.until(TITLE, "Review concepts - first")
    first, second = ["Concept 00", "0", "4", "0.0100", "66.7"], ["Concept 01", "1", "2", "0.0050", "33.3"]
    reviewer.until(ROWS, [[True, *first, "0", "0", "0"], [True, *second, "0", "0", "0"]])

    # The least certain annotation first; each in the middle of the viewer.
    reviewer.press("n")
    reviewer.until(SELECTED, ["b"])
    reviewer.until(CENTRE, [350, 350])
    window.click("Next")
    reviewer.until(SELECTED, ["d"])
    reviewer.press("p")
    reviewer.until(SELECTED, ["b"])

    # A decision is recorded in one undo step, and leads to the next annotation.
    reviewer.press("a")
    reviewer.until(SELECTED, ["d"])
    accepted = ["Concept 00", "0", None, "accepted", False]
    reviewer.until_state(b=accepted)
    window.click("Reject")
    reviewer.until(SELECTED, ["c"])
    rejected = ["Concept 00", "0", None, "rejected", True]
    reviewer.until_state(b=accepted, d=rejected)
    reviewer.press("ctrl+z")
    reviewer.until_state(b=accepted)
    reviewer.press("ctrl+shift+z")
    reviewer.until_state(b=accepted, d=rejected)

    # A digit reassigns to the concept of that number: class and metadata change, what was found stays.
    window.click("Concept 01")
    reviewer.press("n")
    reviewer.until(SELECTED, ["f"])
    reviewer.press("0")
    reviewer.until(SELECTED, ["e"])
    reassigned = ["Concept 00", "1", "0", None, False]
    reviewer.until_state(b=accepted, d=rejected, f=reassigned)
    first, second = ["Concept 00", "0", "5", "0.0125", "83.3"], ["Concept 01", "1", "1", "0.0025", "16.7"]
    reviewer.until(ROWS, [[True, *first, "1", "1", "1"], [True, *second, "0", "0", "0"]])

    # Shown and hidden as in QuPath's own list of classes, both ways.
    reviewer.press("h")
    reviewer.until(HIDDEN.format("Concept 01"), True)
    reviewer.until(ROWS, [[True, *first, "1", "1", "1"], [False, *second, "0", "0", "0"]])
    window.ask("getQuPath().getOverlayOptions().setPathClassHidden(getPathClass('Concept 01'), false)")
    reviewer.until(ROWS, [[True, *first, "1", "1", "1"], [True, *second, "0", "0", "0"]])

    # A name goes to what the concept has now, in one undo step, and to the project.
    reviewer.name("Concept 00", "Gland")
    named = {name: ["Gland", "0", None, None, False] for name in "ac"}
    named |= {name: ["Gland", *state[1:]] for name, state in {"b": accepted, "d": rejected, "f": reassigned}.items()}
    reviewer.until_state(**named)
    labels = tmp_path / "project" / "conceptseg-labels.json"
    gland = {"name": "Gland", "ignored": False}
    assert json.loads(labels.read_text()) == {"version": 1, "dictionaries": {"demo": {"concepts": {"0": gland}}}}
    reviewer.press("ctrl+z")
    reviewer.until_state(b=accepted, d=rejected, f=reassigned)
    reviewer.press("ctrl+shift+z")
    reviewer.until_state(**named)

    # Two concepts of one name are one row; corrected outlines are not joined with their neighbours.
    reviewer.name("Concept 01", "Gland")
    named |= {"e": ["Gland", "1", None, None, False]}
    reviewer.until_state(**named)
    window.wait_for("texts().any { it.contains('Named 1 ConceptSeg annotation.') }")
    reviewer.until(ROWS, [[True, "Gland", "0, 1", "6", "0.0150", "100.0", "1", "1", "1"]])
    reviewer.press("s")
    reviewer.until(SELECTED, list("abcdef"))

    # It is saved with the image.
    window.ask(SAVE)
    assert window.ask(SAVED) == UNTOUCHED | named


def test_the_window_follows_the_image_and_keeps_nothing_when_it_is_closed(reviewer: Reviewer) -> None:
    window = reviewer.window
    window.click("Concept 01")
    window.ask(SAVE)  # or QuPath asks
    window.ask("getQuPath().openImageEntry(getProject().getImageList()[1])")
    reviewer.until(TITLE, "Review concepts - second")
    row = [True, "Concept 01", "1", "1", "0.0025", "100.0", "0", "0", "0"]
    reviewer.until(ROWS, [row])

    # What changes elsewhere is seen; what is not ConceptSeg's is not listed and cannot be judged.
    window.ask("""
        def hierarchy = getQuPath().getImageData().getHierarchy()
        def mine = hierarchy.getAnnotationObjects().find { it.getName() == "mine" }
        hierarchy.getSelectionModel().setSelectedObject(mine)
        mine.setPathClass(getPathClass("Concept 01"))
        hierarchy.fireHierarchyChangedEvent(this)
    """)
    reviewer.press("a")
    window.wait_for("texts().any { it.contains('Select annotations that ConceptSeg made. Nothing was changed.') }")
    reviewer.until(ROWS, [row])

    reviewer.press("alt+F4")
    reviewer.until(TITLE, None)
    window.ask("removeObjects(getQuPath().getImageData().getHierarchy().getAnnotationObjects(), false)")
    window.menu("Extensions", "ConceptSeg", "Review concepts")
    window.wait_for("texts().any { it.contains('Nothing to review: no ConceptSeg results in this image.') }")
    assert "Exception" not in window.log.read_text(errors="replace")
