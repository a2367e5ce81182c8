"""``conceptseg annotate`` as a user runs it, in a QuPath of our own making."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.imaging.dicom import uid, write_dicom
from tests.qupath.project import fake

from conceptseg.cli.main import main
from conceptseg.qupath.running import RunningQuPath


@pytest.fixture
def reviewed(project):
    """The project, in which a person gave the first of its two results another concept and accepted that."""
    file = project.parent / "data" / "1" / "data.qpdata"
    content = json.loads(file.read_text())
    content["objects"][0] |= {"reassigned": 1, "review": "accepted"}
    file.write_text(json.dumps(content))
    return project


def annotate(project, *options, capsys):
    """Exit code, events, and what stands on standard error."""
    code = main(["annotate", str(project), "--k", "8", "--pixel-size-um", "0.5", "--device", "cpu", "--json", *options])
    printed = capsys.readouterr()
    return code, [json.loads(line) for line in printed.out.splitlines()], printed.err


def named(events, name):
    return [event for event in events if event["event"] == name]


def test_what_a_person_reviewed_is_counted_before_it_is_replaced(reviewed, capsys):
    code, events, err = annotate(reviewed, capsys=capsys)
    assert code == 0
    assert [(event["image"], event["reviewed"]) for event in named(events, "started")] == [("slide-1.png", 1)]
    assert "slide-1.png: results that a person reviewed and that will be replaced: 1." in err
    assert "--rerun" in err
    assert [event["event"] for event in events] == ["warning", "started", "finished", "summary"]
    assert not [o for o in fake.objects_of(reviewed, "1") if o["review"]]


@pytest.mark.parametrize("rerun", ["add", "skip"])
def test_what_is_kept_is_no_reason_to_warn(reviewed, capsys, rerun):
    code, events, err = annotate(reviewed, "--rerun", rerun, capsys=capsys)
    assert (code, err) == (0, "")
    assert not named(events, "warning")
    assert [o["review"] for o in fake.objects_of(reviewed, "1") if o.get("review")] == ["accepted"]


def test_a_dry_run_counts_it_and_writes_nothing(reviewed, capsys):
    before = fake.files_of(reviewed)
    code, events, _ = annotate(reviewed, "--dry-run", capsys=capsys)
    assert code == 0
    assert [(event["replace"], event["reviewed"]) for event in named(events, "plan")] == [(2, 1)]
    assert fake.files_of(reviewed) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "auto", "--device", "cpu"], "--device has no effect with --server"),
        (["--method", "learned", "--dictionary", "default-k8"], "--dictionary has no effect with --method learned"),
        (["--worker-cpus", "1"], "--worker-cpus has no effect without --engine ray"),
    ],
)
def test_options_without_effect_are_refused(project, capsys, options, said):
    before = fake.files_of(project)
    assert main(["annotate", str(project), *options]) == 1
    assert f"{said}" in capsys.readouterr().err
    assert fake.files_of(project) == before


def test_what_is_wrong_with_several_images_names_each_once_and_the_remedy_once(tmp_path, project, capsys):
    project = fake.make_project(tmp_path / "lost", images=3)
    assert main(["annotate", str(project), "--k", "8", "--pixel-size-um", "0.5", "--dry-run"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "cannot be done" in line]
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        name = f"slide-{number}.png"
        assert line.startswith(f"{name}: cannot be done. Its slide {project.parent / name} is not there.")
        assert line.count(name) == 2  # once in the path
    assert ["--rebase" in line for line in lines] == [True, False, False]


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["planned", "done"])
def test_annotations_of_a_class_that_sounds_like_the_one_asked_for_are_named(project, capsys, dry):
    file = project.parent / "data" / "1" / "data.qpdata"
    objects = [fake.drawn_by_hand("a", "Stroma"), fake.drawn_by_hand("b", "Tumor: Stroma")]
    file.write_text(json.dumps({"objects": objects}))
    code = main(["annotate", str(project), "--k", "8", "--pixel-size-um", "0.5", "--within", "Stroma", *dry])
    assert code == 0
    assert "slide-1.png: Left out: annotations of class Tumor: Stroma." in capsys.readouterr().err


def test_a_project_that_was_copied_with_its_slides_is_annotated(project, tmp_path, capsys):
    document = json.loads(project.read_text())
    project.write_text(json.dumps({**document, "uri": project.as_uri()}))
    moved = shutil.move(project.parent, tmp_path / "elsewhere" / "Study") / project.name
    before = moved.read_bytes()
    code, events, err = annotate(moved, capsys=capsys)
    assert code == 0
    assert (
        f"1 slide is not where the project says, and taken from the same place relative to the project: {moved.parent}."
        in err
    )
    assert {o["class"] for o in fake.objects_of(moved, "1")} > {"Concept 00"}
    assert moved.read_bytes() == before
    code, events, err = annotate(moved, "--dry-run", capsys=capsys)
    assert (code, len(named(events, "plan"))) == (0, 1)
    assert "1 slide is not where the project says" in err


@pytest.fixture
def moved_slides(project, tmp_path):
    """OLD and NEW: the slides of the project were moved."""
    old, new = project.parent / "slides", tmp_path / "new"
    new.mkdir()
    (project.parent / "slide-1.png").rename(new / "slide-1.png")
    document = json.loads(project.read_text())
    document["images"][0]["serverBuilder"]["uri"] = (old / "slide-1.png").as_uri()
    project.write_text(json.dumps(document))
    return str(old), str(new)


def everything(project):
    return {path: path.read_bytes() for path in project.parent.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize("slides", [0, 1], ids=["slides where they were", "slides where they are"])
def test_a_project_that_qupath_has_open_is_not_rebased(project, moved_slides, slides, capsys, monkeypatch):
    open_there = frozenset([(Path(moved_slides[slides]) / "slide-1.png").resolve()])
    qupath = RunningQuPath(pid=77, parent=1, arguments=("QuPath",), files=open_there)
    monkeypatch.setattr("conceptseg.qupath.running.running_qupaths", lambda: [qupath])
    before = everything(project)
    code, _, err = annotate(project, "--rebase", *moved_slides, capsys=capsys)
    assert code == 1
    assert "has this project, or a slide of it, open" in err
    assert everything(project) == before


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["annotate", "dry run"])
def test_a_rebase_that_fits_nothing_is_refused(project, moved_slides, tmp_path, options, capsys):
    before = everything(project)
    code, _, err = annotate(project, "--rebase", "/misspelt", str(tmp_path / "elsewhere"), *options, capsys=capsys)
    assert code == 1
    assert "--rebase fits nothing: no slide of the project is below /misspelt. Its slides are in " in err
    assert everything(project) == before


def test_images_that_are_not_there_leave_a_project_as_it_was(project, moved_slides, capsys):
    before = everything(project)
    assert annotate(project, "--rebase", *moved_slides, "--images", "none*", capsys=capsys)[0] == 1
    assert everything(project) == before


def test_a_rebased_project_is_kept_as_it_was_and_the_same_command_resumes(project, moved_slides, capsys):
    before = project.read_bytes()
    code, events, _ = annotate(project, "--rebase", *moved_slides, capsys=capsys)
    assert code == 0
    assert named(events, "rebased")[0]["images"] == 1
    assert project.read_bytes() != before
    (backup,) = (project.parent / ".conceptseg" / "backup").glob("*/project.qpproj")
    assert backup.read_bytes() == before
    code, events, _ = annotate(project, "--rebase", *moved_slides, "--resume", capsys=capsys)
    assert (code, [event["state"] for event in named(events, "finished")]) == (0, ["resumed"])


def test_slides_that_cannot_be_read_are_not_given_to_qupath(project, tmp_path, capsys):
    good, cut, endless = project.parent / "slide-1.png", tmp_path / "cut.png", tmp_path / "endless.png"
    cut.write_bytes(good.read_bytes()[:2000])
    # It says that it has 60,000 × 60,000 px: QuPath makes room for them.
    endless.write_bytes(good.read_bytes()[:16] + 2 * (60_000).to_bytes(4, "big") + good.read_bytes()[24:])
    options = ["--create-project", str(tmp_path / "new"), str(good), str(cut)]
    code, events, err = annotate(endless, *options, capsys=capsys)
    assert code == 1
    assert f"{cut}: not in the project." in err
    assert f"{endless}: not in the project." in err
    assert named(events, "created")[0]["images"] == 1
    assert named(events, "summary")[0]["done"] == 1
    code, _, err = annotate(endless, "--create-project", str(tmp_path / "none"), str(cut), capsys=capsys)
    assert code == 1
    assert "No slide can be read, so there is no project" in err
    assert not (tmp_path / "none").exists()


def test_a_project_that_is_reached_through_a_link_is_annotated_itself(project, tmp_path, capsys):
    link = tmp_path / "linked" / "project.qpproj"
    link.parent.mkdir()
    link.symlink_to(project)
    before = fake.objects_of(project, "1")
    code, _, _ = annotate(link, capsys=capsys)
    assert code == 0
    assert fake.objects_of(project, "1") != before
    assert [path.name for path in link.parent.iterdir()] == ["project.qpproj"]


@pytest.mark.parametrize(
    "command",
    [
        ["annotate", "PROJECT"],
        ["annotate", "PROJECT", "--dry-run"],
        ["export", "PROJECT", "--geojson", "FOLDER"],
        ["report", "PROJECT", "-o", "FOLDER/report.html"],
        ["labels", "PROJECT", "apply"],
        ["concepts", "fit", "PROJECT", "--k", "2", "--name", "mine"],
    ],
)
def test_a_project_without_images_says_so(project, tmp_path, command, capsys):
    project.write_text('{"images": []}')
    words = {"PROJECT": str(project), "FOLDER": str(tmp_path), "FOLDER/report.html": str(tmp_path / "report.html")}
    code = main([words.get(word, word) for word in command])
    assert code == 1
    assert f"{project} has no images. Add some in QuPath" in capsys.readouterr().err


def test_a_name_that_looks_like_markup_is_printed_as_it_is(project, monkeypatch, capsys):
    name = "[/b] [red] :smile:"
    document = json.loads(project.read_text())
    document["images"][0]["imageName"] = name
    project.write_text(json.dumps(document))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code = main(["annotate", str(project), "--k", "8", "--pixel-size-um", "0.5", "--device", "cpu"])
    printed = capsys.readouterr()
    assert code == 0
    assert name in printed.out
    assert name in printed.err  # beside its bar
    main(["labels", str(project), "set", "0", "[/b] [red]"])
    main(["labels", str(project), "list"])
    assert "[/b] [red] " in capsys.readouterr().out.splitlines()[-2]


def test_the_folder_of_a_dicom_slide_can_be_put_into_a_project(project, tmp_path, capsys):
    folder, series = tmp_path / "dicom", uid()
    folder.mkdir()
    with Image.open(project.parent / "slide-1.png") as picture:
        write_dicom(folder / "slide.dcm", np.asarray(picture.convert("RGB")), series=series, pixel_size_um=0.5)
    code, events, err = annotate(folder, "--create-project", str(tmp_path / "new"), capsys=capsys)
    assert (code, err) == (0, "")
    assert named(events, "finished")[0]["image"] == "slide.dcm"
    assert named(events, "finished")[0]["polygons"] > 0
