"""What a person says, in the page or in QuPath, is trusted everywhere: the whole way, through the real programs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image
from qupath_window import install_extension, isolated

from conceptseg.cli.main import main
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths
from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

pytestmark = pytest.mark.qupath
CALIBRATED = ["--pixel-size-um", "0.5", "--k", "8"]
QUPATHS_STROMA = 0x96C896  # (150, 200, 150)

# For every image: its results as QuPath sees them, one line each.
DESCRIBE = """
import qupath.lib.io.GsonTools
def results = getAnnotationObjects().findAll { it.getMetadata().containsKey("conceptseg.run") }
def described = results.sort { it.getID() }.collect { [
    id: it.getID().toString(), concept: it.getMetadata()["conceptseg.concept"] as int, area: it.getROI().getArea(),
    pathClass: it.getPathClass().toString(), rgb: it.getPathClass().getColor() & 0xffffff,
] }
def classes = getProject().getPathClasses()*.toString()
def image = [name: getProjectEntry().getImageName(), results: described, classes: classes]
println "IMAGE " + GsonTools.getInstance().toJson(image)
"""

SEGMENT = """
import io.github.conceptseg.ConceptSeg
setImageType("BRIGHTFIELD_H_E")
setPixelSizeMicrons(0.5, 0.5)
ConceptSeg.segment(getCurrentImageData()).wholeImage().encoder("default").k(8).run()
"""

# A person goes through a concept, the least certain first: every second polygon belongs to another one.
CORRECT = """
import io.github.conceptseg.ConceptSeg
import io.github.conceptseg.ReviewFilter
def (wrong, right, rounds) = args.collect { it as int }
def review = ConceptSeg.review(getCurrentImageData())
def concept = { review.concepts().find { it.getConcepts() == [wrong] } }
def reassigned = 0
rounds.times { round ->
    def next = concept()?.next(null, ReviewFilter.OPEN)
    if (next != null && round % 2)
        review.accept([next])
    else if (next != null)
        reassigned += review.reassign([next], right)
}
println "REASSIGNED " + reassigned
"""

# The command in a process of its own, on a machine where no other QuPath runs.
SERVE = """
import signal, sys
from conceptseg.qupath import running
running.running_qupaths = lambda: iter(())
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl+C
from conceptseg.cli.main import main
sys.exit(main(["report", sys.argv[1], "--serve"]))
"""


@dataclass(frozen=True, kw_only=True)
class Headless:
    """A QuPath with the extension, without a window."""

    installation: QuPathInstallation
    folder: Path
    environment: dict[str, str]

    def run(self, script: str, project: Path, *arguments: object, image: str | None = None) -> list[list[str]]:
        """Run a script for one image and save it, or for all and save nothing; the lines that begin with a KEY."""
        path = self.folder / "script.groovy"
        path.write_text(script, encoding="utf-8")
        options = ["-p", project, *(f"--args={argument}" for argument in arguments)]
        options += ["--save", "-i", image] if image else []
        command = [self.installation.launcher, "script", *options, path]
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[ERROR]" not in done.stdout, done.stdout
        return [line.split(" ", 1) for line in done.stdout.splitlines() if line.split(" ")[0].isupper()]

    def describe(self, project: Path) -> dict[str, Any]:
        """What QuPath sees in every image of a project, by name."""
        images = [json.loads(line) for key, line in self.run(DESCRIBE, project) if key == "IMAGE"]
        return {image["name"]: image for image in images}


@pytest.fixture(params=find_qupath_installations() or [None], ids=lambda found: found.version if found else "none")
def qupath(request: pytest.FixtureRequest, jar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Headless:
    folder = tmp_path / "qupath"
    folder.mkdir()
    environment = isolated(folder)
    install_extension(jar, environment)
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(request.param.path))
    monkeypatch.setattr("conceptseg.qupath.running.running_qupaths", lambda: iter(()))
    return Headless(installation=request.param, folder=folder, environment=environment)


@pytest.fixture
def conceptseg(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command, which must succeed, and returns what it prints."""

    def run(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return run


@pytest.fixture
def project(qupath: Headless, conceptseg: Callable[..., str], tmp_path: Path) -> Path:
    """A project of three overlapping pieces of a tissue, of which ``a.png`` is annotated."""
    slides = tmp_path / "slides"
    slides.mkdir()
    pixels = skimage.data.immunohistochemistry()
    pieces = {"a.png": pixels[:320], "b.png": pixels[32:352], "c.png": pixels[64:384]}
    for name, piece in pieces.items():
        Image.fromarray(piece).save(slides / name)
    files = [slides / name for name in pieces]
    conceptseg("annotate", "--create-project", tmp_path / "project", *files, *CALIBRATED, "--images", "a.png")
    return tmp_path / "project" / "project.qpproj"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    from tests.report import browser

    driver = browser.start(tmp_path)
    try:
        page = browser.Page(driver, tmp_path)
        yield page
        assert page.errors() == []
    finally:
        driver.quit()


@contextmanager
def served(project: Path, log: Path) -> Iterator[str]:
    """The address of ``conceptseg report PROJECT --serve``, until Ctrl+C."""
    with log.open("wb") as errors:
        command = [sys.executable, "-c", SERVE, str(project)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    with server:
        assert server.stdout is not None
        try:
            said = server.stdout.readline()
            assert said.startswith("Open http://127.0.0.1:"), log.read_text()
            yield said.split()[1]
        finally:
            server.send_signal(signal.SIGINT)
        assert "Ended." in server.stdout.read()
    assert server.returncode == 0


@pytest.mark.browser
def test_a_name_given_in_the_page_is_in_qupath_in_the_exports_and_on_the_next_slides(
    qupath: Headless, project: Path, page: Any, conceptseg: Callable[..., str], tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    before = qupath.describe(project)
    assert not before["b.png"]["results"] + before["c.png"]["results"]
    with served(project, tmp_path / "serve.log") as address:
        page.open(address)
        row = int(page.find(".card").get_attribute("data-row"))  # the largest concept comes first
        (concept,) = page.js("return CONCEPTS[arguments[0]].members", row)
        page.name_box(row).send_keys("Stroma", Keys.TAB)
        page.find("#apply").click()
        page.wait("document.getElementById('status').textContent.includes('annotations renamed')", seconds=120)
        assert "Images changed: 1 of 3." in page.find("#status").text
    page.driver.get("about:blank")

    conceptseg("annotate", project, *CALIBRATED, "--images", "b.png")
    qupath.run(SEGMENT, project, image="c.png")
    after = qupath.describe(project)
    assert after["a.png"]["results"] == [
        {**r, "pathClass": "Stroma", "rgb": QUPATHS_STROMA} if r["concept"] == concept else r
        for r in before["a.png"]["results"]
    ]
    for image in after.values():
        assert any(r["concept"] == concept for r in image["results"])
        assert all((r["pathClass"] == "Stroma") == (r["concept"] == concept) for r in image["results"])
        assert {r["rgb"] for r in image["results"] if r["pathClass"] == "Stroma"} == {QUPATHS_STROMA}
        assert "Stroma" in image["classes"]

    conceptseg("export", project, "--geojson", tmp_path / "geojson", "--csv", tmp_path / "table.csv")
    table = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    for file, image in zip(sorted((tmp_path / "geojson").iterdir()), after, strict=True):
        features = json.loads(file.read_text(encoding="utf-8"))["features"]
        exported = {feature["id"]: feature["properties"]["classification"]["name"] for feature in features}
        assert exported == {result["id"]: result["pathClass"] for result in after[image]["results"]}
        assert any(line.startswith(image) and ",Stroma," in line for line in table)


def test_a_dictionary_learns_from_what_was_reassigned_in_qupath(
    qupath: Headless, project: Path, conceptseg: Callable[..., str], tmp_path: Path
) -> None:
    results = qupath.describe(project)["a.png"]["results"]
    areas = dict.fromkeys(range(8), 0.0)
    for result in results:
        areas[result["concept"]] += result["area"]
    wrong, right = sorted(areas, key=lambda concept: -areas[concept])[:2]
    ((key, count),) = qupath.run(CORRECT, project, wrong, right, 8, image="a.png")
    assert key == "REASSIGNED"
    assert int(count) > 0

    target = tmp_path / "corrected.safetensors"
    told = conceptseg("concepts", "refine", "default-k8", "--from", project, "-o", target, "--device", "cpu", "--json")
    report = json.loads(told)
    assert 0 < report["polygons"] <= int(count)
    assert report["corrected_after"] > report["corrected_before"]
    made, parent = load_dictionary(target), load_dictionary(dictionary_paths()["default-k8"])
    moved = np.flatnonzero((made.concepts != parent.concepts).any(axis=1)).tolist()
    assert moved == sorted((wrong, right))
    assert (made.identifier, made.provenance["parent"]) == ("corrected", "default-k8")
    # The next slide is segmented with it.
    conceptseg("annotate", project, "--pixel-size-um", "0.5", "--dictionary", target, "--images", "b.png")
    assert qupath.describe(project)["b.png"]["results"]
