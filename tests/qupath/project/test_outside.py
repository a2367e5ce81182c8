"""A project that somebody else made changes no file outside its folder, and none is taken for a part of it."""

import json
import os
import shutil

import pytest
from tests.qupath.project import fake
from tests.qupath.project.worlds import FakeWorld, result, style

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.project.contents import Changes
from conceptseg.qupath.project.journal import Journal
from conceptseg.qupath.project.writer import JOURNAL, OWN_FOLDER, ProjectReader


def files_below(folder):
    """Path -> content of every file, links not followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def annotate(world, project):
    """What a run does with the image 1."""
    with world.writer(project) as writer:
        writer.start_run(run="run-1", settings={})
        writer.inspect("1")
        changes = Changes(add=(result(1),), styles=(style("Concept 00"),))
        writer.write("1", changes, name="slide-1.png")


@pytest.fixture
def fake_world(tmp_path):
    return FakeWorld(tmp_path / "study")


@pytest.mark.parametrize("number", ["../../../victim", "/etc", "1/../2", "..", "", "１", "01", "-1", 1.0, True, None])
def test_a_number_that_is_none_is_refused_before_anything_is_read(fake_world, tmp_path, number):
    project = fake_world.make_project()
    document = json.loads(project.read_text())
    document["images"][0]["entryID"] = number
    project.write_text(json.dumps(document))
    for folder in (tmp_path / "victim", tmp_path / "stages" / "victim"):
        folder.mkdir(parents=True)
        (folder / "data.qpdata").write_text(f"precious {folder}")
    before = files_below(tmp_path)
    reader = ProjectReader(project, backend=fake.FakeBackend(), stages=tmp_path / "stages" / "own")
    for call in (reader.entries, lambda: reader.contents(str(number)), lambda: reader.outlines(str(number))):
        with pytest.raises(ProjectError, match=r"project\.qpproj is damaged: expected a whole number as entryID"):
            call()
    assert files_below(tmp_path) == before


def test_two_images_of_one_number_are_named_and_the_others_can_be_read(fake_world):
    project = fake_world.make_project(images=3)
    document = json.loads(project.read_text())
    document["images"][1]["entryID"] = "1"
    project.write_text(json.dumps(document))
    with fake_world.reader(project) as reader:
        with pytest.raises(ProjectError, match=r"slide-1\.png and slide-2\.png have the same number 1"):
            reader.contents("1")
        assert reader.contents("3").object_count == 1


@pytest.mark.parametrize(
    "part",
    ["data", "data/1", "classifiers", OWN_FOLDER, f"{OWN_FOLDER}/stage", f"{OWN_FOLDER}/backup"],
)
def test_a_run_does_not_leave_the_project_through_a_folder_that_is_a_link(fake_world, tmp_path, part):
    project = fake_world.make_project()
    folder, outside = project.parent / part, tmp_path / "outside"
    folder.parent.mkdir(exist_ok=True)
    if folder.exists():
        shutil.move(folder, outside)
    for number in range(5):  # old enough to be removed, if they were backups
        (outside / f"other-{number}").mkdir(parents=True)
        (outside / f"other-{number}" / "precious").write_text("precious")
    folder.symlink_to(outside)
    before, objects = files_below(outside), fake.objects_of(project, "1")
    with pytest.raises(ProjectError, match=f"{part} is a link"):
        annotate(fake_world, project)
    assert files_below(outside) == before
    assert fake.objects_of(project, "1") == objects


@pytest.mark.parametrize("name", ["lock", JOURNAL])
@pytest.mark.parametrize("target", ["precious", "study/project/project.qpproj"])
def test_own_files_are_not_written_through_links(fake_world, tmp_path, name, target):
    project = fake_world.make_project()
    (tmp_path / "precious").write_text("precious")
    (project.parent / OWN_FOLDER).mkdir()
    (project.parent / OWN_FOLDER / name).symlink_to(tmp_path / target)
    before = files_below(tmp_path)
    with pytest.raises(ProjectError, match=f"{name} is a link"):
        annotate(fake_world, project)
    assert {path: content for path, content in files_below(tmp_path).items() if path in before} == before


@pytest.mark.parametrize("part", ["data/1/data.qpdata", "data/1/summary.json", "classifiers/classes.json"])
@pytest.mark.parametrize("there", [True, False])
def test_files_outside_are_not_taken_for_the_projects(fake_world, tmp_path, part, there):
    project = fake_world.make_project()
    outside = tmp_path / "outside"
    if there:
        shutil.copy(project.parent / part, outside)
    (project.parent / part).unlink()
    (project.parent / part).symlink_to(outside)
    with fake_world.reader(project) as reader, pytest.raises(ProjectError, match="is a link"):
        reader.contents("1")
    with pytest.raises(ProjectError, match="is a link"):
        annotate(fake_world, project)
    assert (project.parent / part).is_symlink()


def test_a_link_to_a_file_of_the_project_is_replaced_and_backed_up(fake_world):
    project = fake_world.make_project()
    data, kept = project.parent / "data" / "1" / "data.qpdata", project.parent / "kept"
    content = data.read_bytes()
    data.rename(kept)
    data.symlink_to("../../kept")
    annotate(fake_world, project)
    assert len(fake.objects_of(project, "1")) == 2
    assert kept.read_bytes() == content
    assert (project.parent / OWN_FOLDER / "backup" / "run-1" / "1-data.qpdata").read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_file_is_refused(fake_world):
    project = fake_world.make_project()
    data = project.parent / "data" / "1" / "data.qpdata"
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(ProjectError, match=r"data\.qpdata is no file"):
        annotate(fake_world, project)


@pytest.mark.parametrize("run", ["../../../outside", "/", ".."])
def test_a_journal_that_came_with_the_project_names_no_folder_outside(fake_world, tmp_path, run):
    project = fake_world.make_project()
    with fake_world.writer(project):
        pass
    Journal(project.parent / OWN_FOLDER / JOURNAL).start(run=run, settings={})
    before = {str(path) for path in tmp_path.rglob("*")}
    with fake_world.writer(project) as writer, pytest.raises(ProjectError, match="cannot be a file in"):
        writer.resume_run(settings={})
    assert {str(path) for path in tmp_path.rglob("*")} <= before


def test_a_journal_that_came_with_the_project_names_no_image_outside(fake_world):
    project = fake_world.make_project()
    with fake_world.writer(project):
        pass
    journal = Journal(project.parent / OWN_FOLDER / JOURNAL)
    journal.start(run="run-1", settings={})
    journal.writing("../..", sha256="")
    with fake_world.writer(project) as writer, pytest.raises(ProjectError, match="cannot be a file in"):
        writer.resume_run(settings={})
