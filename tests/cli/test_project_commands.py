"""``conceptseg annotate``, ``labels`` and ``export`` as a user runs them, in every QuPath of this machine."""

import csv
import json
import os
import re
import shutil
from collections import Counter

import pytest
from PIL import Image
from tests.qupath.project import fake
from tests.qupath.project.worlds import run_script

from conceptseg.cli.main import main
from conceptseg.pipeline.batch import Job
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.qupath.locate import find_qupath_installations
from conceptseg.qupath.project.journal import Journal
from conceptseg.qupath.project.writer import JOURNAL, OWN_FOLDER
from conceptseg.qupath.run import annotate_in_threads
from conceptseg.rpc.server import Server, ServeSettings

QUPATHS = [pytest.param(q, id=f"QuPath {q.version}") for q in find_qupath_installations()] or [None]
CALIBRATED = ["--pixel-size-um", "0.5", "--k", "8"]

COUNT = """
import qupath.lib.io.GsonTools
def counts = getAnnotationObjects().countBy { it.getPathClass()?.toString() }
def type = getCurrentImageData().getImageType().toString()
def found = [id: getProjectEntry().getID(), type: type, counts: counts]
new File(args[0]).append(GsonTools.getInstance().toJson(found) + System.lineSeparator(), 'UTF-8')
"""

CORRECT = """
def result = getAnnotationObjects().find { it.getMetadata().get('conceptseg.concept') == args[0] }
result.getMetadata().put('conceptseg.reassigned', args[1])
result.getMetadata().put('conceptseg.review', 'accepted')
"""

DRAW = """
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs
def plane = ImagePlane.getDefaultPlane()
def ellipse = ROIs.createEllipseROI(40, 50, 120, 100, plane)
addObject(PathObjects.createAnnotationObject(ellipse, PathClass.fromString('Region*')))
"""


def run(*arguments, capsys):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def events(out):
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


@pytest.fixture(autouse=True)
def _no_other_qupath(monkeypatch):
    """A QuPath that somebody runs on this machine is no part of these tests."""
    monkeypatch.setattr("conceptseg.qupath.running.running_qupaths", lambda: iter(()))


@pytest.fixture(scope="session")
def slides(tmp_path_factory):
    """Two pieces of real tissue."""
    from skimage.data import immunohistochemistry

    folder = tmp_path_factory.mktemp("slides")
    pixels = immunohistochemistry()
    for name, part in {"a.png": pixels[:256, :256], "b.png": pixels[200:400, 100:400]}.items():
        Image.fromarray(part).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def templates():
    return {}


@pytest.fixture(params=QUPATHS)
def qupath(request, monkeypatch):
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(request.param.path))
    return request.param


@pytest.fixture
def project(qupath, slides, templates, tmp_path, tmp_path_factory, capsys):
    """An annotated project of two slides; made once per QuPath, copied for every test."""
    if qupath not in templates:
        folder = tmp_path_factory.mktemp("template") / "project"
        options = ["--create-project", folder, slides / "a.png", slides / "b.png"]
        code, _, err = run("annotate", *options, *CALIBRATED, capsys=capsys)
        assert (code, err) == (0, "")
        templates[qupath] = folder
    shutil.copytree(templates[qupath], tmp_path / "project")
    return tmp_path / "project" / "project.qpproj"


def exported(project, folder, capsys):
    """All objects of all images: image -> id -> feature."""
    code, _, err = run("export", project, "--geojson", folder, capsys=capsys)
    assert (code, err) == (0, "")
    return {
        file.name: {f["id"]: f for f in json.loads(file.read_text())["features"]} for file in sorted(folder.iterdir())
    }


def class_counts(features):
    return Counter(feature["properties"]["classification"]["name"] for feature in features.values())


@pytest.mark.qupath
def test_a_new_project_opens_in_qupath_with_what_was_reported(qupath, project, tmp_path, capsys):
    found = exported(project, tmp_path / "geojson", capsys)
    assert list(found) == ["a.png-1.geojson", "b.png-2.geojson"]
    assert all((project.parent / "data" / image / "thumbnail.jpg").is_file() for image in "12")
    answer = tmp_path / "answer.jsonl"
    run_script(qupath, tmp_path, COUNT, "-p", project, f"--args={answer}")
    images = [json.loads(line) for line in answer.read_text(encoding="utf-8").splitlines()]
    assert {image["id"]: image["counts"] for image in images} == {
        "1": dict(class_counts(found["a.png-1.geojson"])),
        "2": dict(class_counts(found["b.png-2.geojson"])),
    }
    assert all("H&E" in image["type"] for image in images)


@pytest.mark.qupath
def test_a_second_run_skips_or_gives_the_same_again(project, tmp_path, capsys):
    before = exported(project, tmp_path / "before", capsys)
    files = fake.files_of(project)
    code, out, _ = run("annotate", project, *CALIBRATED, "--rerun", "skip", "--json", capsys=capsys)
    assert code == 0
    assert [event["state"] for event in events(out) if event["event"] == "finished"] == ["skipped", "skipped"]
    assert fake.files_of(project) == files
    code, out, _ = run("annotate", project, *CALIBRATED, "--json", capsys=capsys)
    assert code == 0
    finished = [event for event in events(out) if event["event"] == "finished"]
    assert [event["polygons"] for event in finished] == [event["replaced"] for event in finished]
    after = exported(project, tmp_path / "after", capsys)
    assert [class_counts(f) for f in after.values()] == [class_counts(f) for f in before.values()]


def drawn(features):
    """What the objects of every image are, whatever run made them."""
    return {
        image: sorted(
            json.dumps([f["geometry"], f["properties"]["classification"], f["properties"]["measurements"]])
            for f in of_image.values()
        )
        for image, of_image in features.items()
    }


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    """A server that runs on this machine."""
    monkeypatch.setenv("CONCEPTSEG_CONFIG_DIR", str(tmp_path / "config"))
    server = Server(ServeSettings(device="cpu"), annotate=annotate_in_threads)
    yield server.endpoint.endpoint
    server.stop()
    server.run()


@pytest.mark.qupath
def test_on_a_server_and_with_several_images_at_once_everything_is_the_same(project, endpoint, tmp_path, capsys):
    before = drawn(exported(project, tmp_path / "before", capsys))
    classes = (project.parent / "classifiers" / "classes.json").read_bytes()
    for number, server in enumerate([endpoint, "auto"]):
        code, _, err = run("annotate", project, *CALIBRATED, "--server", server, "--jobs", 2, capsys=capsys)
        assert (code, err) == (0, "")
        assert drawn(exported(project, tmp_path / f"after-{number}", capsys)) == before
        assert (project.parent / "classifiers" / "classes.json").read_bytes() == classes


@pytest.mark.qupath
def test_a_server_that_does_not_answer_is_said_before_anything_is_done(project, tmp_path, capsys):
    before = fake.files_of(project)
    nobody = ["--server", "127.0.0.1:1", "--token", "t"]
    code, _, err = run("annotate", project, *CALIBRATED, *nobody, "--status-file", tmp_path / "s.json", capsys=capsys)
    assert code == 1
    assert "127.0.0.1:1 cannot be reached" in err
    assert fake.files_of(project) == before
    assert not (tmp_path / "s.json").exists()


@pytest.mark.qupath
def test_a_status_file_says_what_is_done_and_what_is_missing(project, slides, tmp_path, capsys):
    moved = shutil.copytree(slides, tmp_path / "moved")
    torn = (moved / "a.png").read_bytes()
    (moved / "a.png").write_bytes(torn[:2000])
    options = [*CALIBRATED, "--rebase", slides, moved, "--status-file", tmp_path / "status.json", "--json"]
    assert run("annotate", project, *options, capsys=capsys)[0] == 1
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["counts"]) == ("finished", {"images": 2, "failed": 1, "done": 1})
    (moved / "a.png").write_bytes(torn)
    code, out, _ = run("annotate", project, *options, capsys=capsys)
    assert code == 0
    assert [event["image"] for event in events(out) if event["event"] == "finished"] == ["a.png"]
    code, out, _ = run("annotate", project, *options, capsys=capsys)
    assert (code, events(out)[-1]["images"]) == (0, 0)
    status = json.loads((tmp_path / "status.json").read_text())
    assert {image["name"]: image["state"] for image in status["images"]} == {"a.png": "done", "b.png": "done"}


@pytest.mark.qupath
def test_only_what_lies_inside_annotations_of_a_class_is_segmented(qupath, project, tmp_path, capsys):
    run_script(qupath, tmp_path, DRAW, "--save", "-p", project, "-i", "a.png")
    before = exported(project, tmp_path / "before", capsys)
    options = ["--within", "Region*", "--images", "a*", "--rerun", "add"]
    code, out, _ = run("annotate", project, *CALIBRATED, *options, "--json", capsys=capsys)
    assert code == 0
    (finished,) = (event for event in events(out) if event["event"] == "finished")
    assert finished["polygons"] > 0
    after = exported(project, tmp_path / "after", capsys)
    assert after["b.png-2.geojson"] == before["b.png-2.geojson"]
    kept = {name: f for name, f in after["a.png-1.geojson"].items() if name in before["a.png-1.geojson"]}
    assert kept == before["a.png-1.geojson"]
    assert len(after["a.png-1.geojson"]) == len(kept) + finished["polygons"]
    code, _, err = run("annotate", project, *CALIBRATED, "--within", "Regoin", "--images", "a*", capsys=capsys)
    assert code == 1
    assert "a.png: empty. There is no annotation of class Regoin." in err


@pytest.mark.qupath
def test_names_are_applied_and_used_by_later_runs(project, tmp_path, capsys):
    drawn = exported(project, tmp_path / "before", capsys)["a.png-1.geojson"]
    before = class_counts(drawn)
    first, second, third = (int(name.split()[1]) for name, _ in before.most_common(3))
    chosen = ["merge", first, second, "--into", "Tumor", "--colour", "#0a0b0c"]
    for command in (chosen, ["ignore", 7], ["set", third, "Gland"]):
        assert run("labels", project, *command, capsys=capsys)[0] == 0
    listed = json.loads(run("labels", project, "list", "--json", capsys=capsys)[1])
    assert {(row["concept"], row["class"]) for row in listed} >= {(first, "Tumor"), (second, "Tumor"), (7, "Ignore*")}
    code, out, err = run("labels", project, "apply", "--json", capsys=capsys)
    assert (code, err) == (0, "")
    named = exported(project, tmp_path / "named", capsys)["a.png-1.geojson"]
    tumor = [f["properties"] for f in named.values() if f["properties"]["classification"]["name"] == "Tumor"]
    assert {tuple(p["classification"]["color"]) for p in tumor} == {(10, 11, 12)}
    assert colours(named, "Gland") == colours(drawn, f"Concept {third:02d}")  # QuPath did not know it
    joined = events(out)[0]["joined"]
    assert 0 < len(tumor) < sum(dict(before.most_common(2)).values())
    assert joined > 0
    assert run("annotate", project, *CALIBRATED, "--quiet", capsys=capsys)[0] == 0
    again = exported(project, tmp_path / "again", capsys)["a.png-1.geojson"]
    assert class_counts(again) == class_counts(named)


def colours(features, name):
    """Those of a class, exactly one."""
    classes = [f["properties"]["classification"] for f in features.values()]
    (colour,) = {tuple(item["color"]) for item in classes if item["name"] == name}
    return colour


def reported(project, tmp_path, capsys):
    """What the page of a project shows."""
    code, _, err = run("report", project, "-o", tmp_path / "page.html", capsys=capsys)
    assert (code, err) == (0, "")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


@pytest.mark.qupath
def test_a_name_given_in_the_page_is_trusted_everywhere(project, tmp_path, capsys):
    page = reported(project, tmp_path, capsys)
    assert [slide["note"] for slide in page["slides"]] == [None, None]
    assert sum(concept["share"] for concept in page["concepts"]) == pytest.approx(1)
    row = max(page["concepts"], key=lambda concept: concept["share"])
    labels = {str(row["members"][0]): {"name": "Stroma", "ignored": False, "review": "accepted"}}
    file = tmp_path / "labels.json"  # as the page exports it
    file.write_text(json.dumps({"version": 1, "dictionaries": {row["dictionary"]: {"concepts": labels}}}))
    assert run("labels", project, "import", file, capsys=capsys)[0] == 0
    assert run("labels", project, "apply", capsys=capsys)[0] == 0
    named = exported(project, tmp_path / "named", capsys)["a.png-1.geojson"]
    stroma = class_counts(named)["Stroma"]
    assert stroma > 0
    assert run("export", project, "--csv", tmp_path / "table.csv", capsys=capsys)[0] == 0
    assert "Stroma" in (tmp_path / "table.csv").read_text(encoding="utf-8")
    assert run("annotate", project, *CALIBRATED, "--quiet", capsys=capsys)[0] == 0
    assert class_counts(exported(project, tmp_path / "again", capsys)["a.png-1.geojson"])["Stroma"] == stroma
    again = reported(project, tmp_path, capsys)
    (review,) = (r for r, c in zip(again["review"], again["concepts"], strict=True) if c["members"] == row["members"])
    assert (review["name"], review["review"]) == ("Stroma", "accepted")
    # QuPath's own colour of its own class, as everywhere in QuPath.
    colour = next(f for f in named.values() if f["properties"]["classification"]["name"] == "Stroma")
    assert review["colour"] == colour["properties"]["classification"]["color"]


@pytest.mark.qupath
def test_a_polygon_corrected_in_qupath_is_counted_and_follows_its_new_concept(qupath, project, tmp_path, capsys):
    page = reported(project, tmp_path, capsys)
    here = [c["members"][0] for c in page["concepts"] if c["slides"]["polygons"][0]]
    wrong, right = here[0], here[-1]
    correct = ["--save", "-p", project, "-i", "a.png", f"--args={wrong}", f"--args={right}"]
    run_script(qupath, tmp_path, CORRECT, *correct)
    corrections = {c["members"][0]: c["corrections"] for c in reported(project, tmp_path, capsys)["concepts"]}
    assert corrections[right] == {"gained": 1, "lost": 0, "accepted": 1, "rejected": 0}
    assert run("labels", project, "set", right, "Tumor", capsys=capsys)[0] == 0
    assert run("labels", project, "apply", capsys=capsys)[0] == 0
    features = exported(project, tmp_path / "after", capsys)["a.png-1.geojson"].values()
    (moved,) = (f["properties"] for f in features if "conceptseg.reassigned" in f["properties"]["metadata"])
    assert moved["classification"]["name"] == "Tumor"
    assert moved["metadata"]["conceptseg.concept"] == str(wrong)
    assert moved["metadata"]["conceptseg.review"] == "accepted"


@pytest.mark.qupath
def test_the_table_adds_up(project, tmp_path, capsys):
    features = exported(project, tmp_path / "geojson", capsys)
    assert run("export", project, "--csv", tmp_path / "table.csv", capsys=capsys)[0] == 0
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["polygons"]) for row in rows) == sum(len(f) for f in features.values())
    for name in ("a.png", "b.png"):
        assert sum(float(row["area_percent"]) for row in rows if row["image"] == name) == pytest.approx(100)
        assert all(float(row["area_um2"]) > 0 for row in rows)


@pytest.mark.qupath
def test_moved_slides_are_found_a_corrupt_one_fails_alone_and_is_done_on_resuming(project, slides, tmp_path, capsys):
    moved = shutil.copytree(slides, tmp_path / "moved")
    code, out, _ = run("annotate", project, "--rebase", slides, moved, "--dry-run", capsys=capsys)
    assert code == 0
    assert "2 slides would be looked for" in out
    (moved / "a.png").write_bytes((moved / "a.png").read_bytes()[:2000])
    before = exported(project, tmp_path / "before", capsys)
    code, out, err = run("annotate", project, "--rebase", slides, moved, *CALIBRATED, capsys=capsys)
    assert code == 1
    assert "a.png: failed." in err
    assert "1 failed, 1 done" in out
    after = exported(project, tmp_path / "after", capsys)
    assert after["a.png-1.geojson"] == before["a.png-1.geojson"]
    assert os.fspath(moved) in project.read_text()
    shutil.copy(slides / "a.png", moved)
    code, out, _ = run("annotate", project, *CALIBRATED, "--resume", "--json", capsys=capsys)
    finished = {event["image"]: event["state"] for event in events(out) if event["event"] == "finished"}
    assert (code, finished) == (0, {"a.png": "done", "b.png": "resumed"})


@pytest.mark.qupath
def test_a_project_that_was_copied_with_its_slides_is_annotated_and_opens(qupath, slides, tmp_path, capsys):
    old, new = tmp_path / "old", tmp_path / "new place"
    shutil.copytree(slides, old / "slides")
    options = ["--create-project", old / "project", old / "slides" / "a.png"]
    assert run("annotate", *options, *CALIBRATED, capsys=capsys)[0] == 0
    old.rename(new)
    project = new / "project" / "project.qpproj"
    before, document = exported(project, tmp_path / "before", capsys), project.read_bytes()
    code, _, err = run("annotate", project, *CALIBRATED, capsys=capsys)
    assert (code, err.count("1 slide is not where the project says")) == (0, 1)
    assert project.read_bytes() == document
    after = exported(project, tmp_path / "after", capsys)["a.png-1.geojson"]
    assert class_counts(after) == class_counts(before["a.png-1.geojson"])
    # What QuPath asks when a person opens the project: whether to look for the slides there.
    run("annotate", project, *CALIBRATED, "--rebase", old, new, "--rerun", "skip", capsys=capsys)
    run_script(qupath, tmp_path, COUNT, "-p", project, "-a", tmp_path / "counts")
    assert events((tmp_path / "counts").read_text())[0]["counts"] == dict(class_counts(after))


def test_wrong_usage_and_missing_projects_are_said_clearly(tmp_path, capsys):
    assert run("annotate", capsys=capsys)[0] == 2
    assert run("export", tmp_path, capsys=capsys)[0] == 2
    code, _, err = run("annotate", tmp_path, capsys=capsys)
    assert code == 1
    assert "There is no QuPath project" in err
    code, _, err = run("annotate", "--create-project", tmp_path / "p", tmp_path / "no.svs", capsys=capsys)
    assert code == 1
    assert "no.svs" in err
    assert not (tmp_path / "p").exists()


def test_without_qupath_the_remedy_is_named(tmp_path, capsys, monkeypatch):
    project = fake.make_project(tmp_path / "project")
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(tmp_path / "nowhere"))
    code, _, err = run("annotate", project, "--pixel-size-um", 0.5, capsys=capsys)
    assert code == 1
    assert "No QuPath was found" in err
    assert "PAQUO_QUPATH_DIR" in err
    assert not list((project.parent / ".conceptseg").rglob("stage/*"))


def test_labels_need_no_qupath(tmp_path, capsys):
    project = fake.make_project(tmp_path / "project")
    assert "Say which dictionary" in run("labels", project, "set", 3, "Tumor", capsys=capsys)[2]
    assert run("labels", project, "set", 3, "Tumor", "--dictionary", "default-k16", capsys=capsys)[0] == 0
    assert run("labels", project, "colour", 3, "200,0,0", capsys=capsys)[0] == 0
    assert run("labels", project, "export", tmp_path / "labels.json", capsys=capsys)[0] == 0
    other = fake.make_project(tmp_path / "other")
    assert run("labels", other, "import", tmp_path / "labels.json", capsys=capsys)[0] == 0
    assert json.loads((other.parent / "conceptseg-labels.json").read_text()) == {
        "version": 1,
        "dictionaries": {
            "default-k16": {"concepts": {"3": {"name": "Tumor", "ignored": False, "colour": [200, 0, 0]}}}
        },
    }
    assert run("labels", other, "remove", 3, capsys=capsys)[0] == 0
    assert json.loads((other.parent / "conceptseg-labels.json").read_text())["dictionaries"] == {}
    code, _, err = run("labels", project, "set", 3, "a:b", capsys=capsys)
    assert code == 1
    assert "sub-class" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", 16, "Tumor", "--dictionary", "default-k16"], "the concepts 0 to 15, not 16"),
        (["ignore", 99, "--dictionary", "default-k16"], "not 99"),
        (["colour", 3, "#ff000080", "--dictionary", "default-k16"], "expected #rrggbb"),
        (["export", "keep.png"], "ends in .json"),
        (["import", "keep.png"], "keep.png is damaged: expected JSON"),
        (["import", "project.qpproj"], "holds no labels"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(arguments, message, tmp_path, monkeypatch, capsys):
    project = fake.make_project(tmp_path / "project")
    monkeypatch.chdir(project.parent)
    (project.parent / "keep.png").write_bytes(b"\x89PNG")
    code, _, err = run("labels", project, *arguments, capsys=capsys)
    assert code != 0
    assert message in err
    assert "delete" not in err
    assert (project.parent / "keep.png").read_bytes() == b"\x89PNG"
    assert not (project.parent / "conceptseg-labels.json").exists()


def test_labels_after_a_learned_run_are_for_what_it_learned(tmp_path, capsys):
    project = fake.make_project(tmp_path / "project")
    (project.parent / OWN_FOLDER).mkdir()
    job = Job(
        encoder="default", dictionary=None, pixel_size_um=0.5, settings=SegmentSettings(method="learned", n_concepts=3)
    )
    Journal(project.parent / OWN_FOLDER / JOURNAL).start(run="r", settings=job.as_json())
    assert run("labels", project, "set", 1, "Gland", capsys=capsys)[0] == 0
    listed = json.loads(run("labels", project, "list", "--json", capsys=capsys)[1])
    assert [(row["dictionary"], row["class"]) for row in listed] == [("learned-k3-seed0", "Gland")]
