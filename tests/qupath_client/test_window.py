"""The extension in QuPath's real window: mouse clicks, keys, dialogs. A display of its own (Xvfb) for each test."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from qupath_window import QuPathWindow, install_extension, isolated, missing_programs, open_qupath

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

pytestmark = [
    pytest.mark.qupath,
    pytest.mark.skipif(bool(missing_programs()), reason=f"needs {', '.join(missing_programs())}"),
    pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version),
]

SCRIPTS = Path(__file__).parents[2] / "qupath_scripts"
SEGMENT = ("Extensions", "ConceptSeg", "Segment selected annotations")

# What the open image holds, in the order of its ids.
STATE = """
def data = getQuPath().getImageData()
def region = data.getHierarchy().getAnnotationObjects().find { it.getName() == "Region" }
def results = region.getChildObjects().findAll { it.getMetadata()["conceptseg.run"] != null }
[
    locked: region.isLocked(),
    results: results*.getID()*.toString().sort(),
    objects: data.getHierarchy().getAnnotationObjects().size(),
    steps: data.getHistoryWorkflow().getSteps().size(),
]
"""
RUNNING = 'places("Cancel")'
TITLES = "javafx.stage.Window.getWindows().findAll { it.isShowing() && it instanceof javafx.stage.Stage }*.title"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    # One thread and no GPU, so that there is time to look at a run and to cancel it.
    return isolated(tmp_path) | {
        "CONCEPTSEG_DICTIONARIES": str(tmp_path / "dictionaries"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def window(
    jar: Path, installation: QuPathInstallation, tmp_path: Path, environment: dict[str, str]
) -> Iterator[QuPathWindow]:
    """QuPath with the extension, freshly installed; no image is open."""
    install_extension(jar, environment)
    with open_qupath(installation, tmp_path, environment) as opened:
        yield opened


def require_alive(window: QuPathWindow, seconds: float) -> None:
    """The window answered all through a run of so many seconds: within one, or a small part where all is slow."""
    assert window.ask("longestWait.get()") / 1e9 < max(1, 0.2 * seconds)


def server_process(environment: dict[str, str]) -> psutil.Process:
    """The server that QuPath started."""
    written = json.loads((Path(environment["CONCEPTSEG_CONFIG_DIR"]) / "server.json").read_text())
    return psutil.Process(written["pid"])


def test_a_click_segments_cancel_and_undo_take_it_back_and_the_server_ends_with_the_window(
    window: QuPathWindow, environment: dict[str, str], image: Path, tmp_path: Path
) -> None:
    window.make_project(tmp_path / "project", image)
    window.open_image()
    before = window.ask(STATE)
    assert (before["objects"], before["locked"]) == (1, False)

    window.ask("longestWait.set(0)")
    started = time.monotonic()
    window.menu(*SEGMENT)
    segmented = window.wait_for(f"def state = {{ {STATE} }}.call(); state.results && state.steps > 0 ? state : null")
    assert len(segmented["results"]) > 5
    assert segmented["objects"] == 1 + len(segmented["results"])
    assert segmented["locked"]
    assert segmented["steps"] == before["steps"] + 1
    require_alive(window, time.monotonic() - started)

    # A second run, cancelled in its progress dialog, changes nothing.
    window.wait_for(f"!({RUNNING})")
    window.menu(*SEGMENT)
    window.wait_for(RUNNING)
    server_process(environment).suspend()  # or it may be done before the mouse is there
    window.click("Cancel")
    window.wait_for(f"!({RUNNING})")
    server_process(environment).resume()
    assert "Cancelled. Nothing was changed." in window.log.read_text()
    assert window.ask(STATE) == segmented

    # One undo takes the whole first run back, and nothing else.
    window.press("ctrl+z")
    window.wait_for(f"def state = {{ {STATE} }}.call(); state.objects != {segmented['objects']}")
    undone = window.ask(STATE)
    assert (undone["objects"], undone["results"]) == (1, [])

    server = server_process(environment)
    window.close()
    if window.process.poll() is None:
        window.click("No")  # "Save changes?"
    window.process.wait(30)
    server.wait(10)


@pytest.mark.parametrize("script", ["Segment_selected_annotations.groovy", "Segment_whole_image.groovy"])
def test_run_for_project_saves_results_in_every_image_without_a_dialog(
    window: QuPathWindow, image: Path, tmp_path: Path, script: str
) -> None:
    window.make_project(tmp_path / "project", image, count=3)
    window.ask(f"getQuPath().getScriptEditor().showScript(new File('{SCRIPTS / script}'))")
    window.ask("longestWait.set(0)")
    started = time.monotonic()
    window.menu("Run", "Run for project")
    # QuPath's own dialog, in which images are chosen.
    window.wait_for("places('OK')")
    window.ask(
        "def choice = nodes().find { it.class.name.endsWith('ListSelectionView') }\n"
        "choice.targetItems.setAll(choice.sourceItems.collect { it })"
    )
    window.click("OK")
    window.wait_for("texts().contains('Batch processing...')")
    titles = window.ask(TITLES)
    while "Batch script" in (now := window.ask(TITLES)):
        titles += [title for title in now if title not in titles]
        time.sleep(0.2)
    assert len(titles) == 3, titles  # the window, the script editor and the progress of the batch
    require_alive(window, time.monotonic() - started)

    results = window.ask("""
        getProject().getImageList().collect { entry ->
            entry.readHierarchy().getAnnotationObjects().findAll { it.getMetadata()["conceptseg.run"] != null }
                *.getParent().collect { it.isRootObject() ? "Image" : it.getName() }
        }
    """)
    parent = "Region" if script.startswith("Segment_selected") else "Image"
    assert [set(parents) for parents in results] == [{parent}] * 3
    assert len({len(parents) for parents in results}) == 1


def test_a_server_named_in_the_preferences_is_used_with_its_token_and_certificate(
    window: QuPathWindow,
    environment: dict[str, str],
    image: Path,
    tmp_path: Path,
    serve: Callable[..., dict[str, str]],
    certificate: tuple[Path, Path],
) -> None:
    server = serve("--tls-cert", certificate[0], "--tls-key", certificate[1])
    window.make_project(tmp_path / "project", image)
    window.open_image()

    # They are there for the user to see ...
    window.press("ctrl+comma")
    window.ask("getQuPath().getPreferencePane().getPropertySheet().setTitleFilter('server')")
    for name in ("ConceptSeg server", "Server token", "Server certificate"):
        window.wait_for(f"places('{name}')")

    def prefer(name: str, value: object) -> None:
        items = "getQuPath().getPreferencePane().getPropertySheet().getItems()"
        window.ask(f"{items}.find {{ it.name == '{name}' && it.category == 'ConceptSeg' }}.setValue('{value}')")

    # ... and take effect at once.
    prefer("ConceptSeg server", server["endpoint"])
    prefer("Server certificate", server["tls_certificate"])
    prefer("Server token", "wrong")
    window.menu(*SEGMENT)
    window.wait_for("texts().any { it.contains('does not accept the token') }")
    assert window.ask(STATE)["results"] == []

    prefer("Server token", server["token"])
    window.menu(*SEGMENT)
    window.wait_for(f"def state = {{ {STATE} }}.call(); state.results")
    # No other server was started, until the user no longer names one.
    written = Path(environment["CONCEPTSEG_CONFIG_DIR"]) / "server.json"
    assert not written.exists()
    prefer("ConceptSeg server", "")
    window.menu("Extensions", "ConceptSeg", "Check server")
    window.wait_for("texts().any { it.contains('Everything is in place.') }")
    assert written.exists()
