"""Writers that are killed at random steps lose nothing."""

import itertools
import json
import os
import random
import resource
import signal
import sys
from functools import partial

import pytest
from tests.qupath.project import fake
from tests.qupath.project.worlds import PaquoWorld, result, style

from conceptseg.domain.errors import OutputError, ProjectError
from conceptseg.qupath.project.contents import Changes
from conceptseg.qupath.writer_process import PaquoBackend, ProjectProcess, WriterDiedError

FILE_EVENTS = {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "shutil.rmtree"}


def dying(backend, after):
    """A QuPath in a process that is killed (-9) when it touches the file system for the ``after``-th time."""
    made = backend()
    touched = itertools.count(1)

    def kill(event, _):
        if event in FILE_EVENTS and next(touched) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    return made


def annotate(project, images, backend):
    """Add two results to every image, as a run does; resume if there is one to resume."""
    with ProjectProcess(project, write=True, backend=backend) as writer:
        done = {}
        if (project.parent / ".conceptseg" / "annotate.jsonl").exists():
            done = writer.resume_run(settings={}).done
        else:
            writer.start_run(run="run-1", settings={})
        for image in images:
            if image not in done:
                writer.inspect(image)
                changes = Changes(add=(result(1), result(2)), styles=(style("Concept 00"),))
                writer.write(image, changes, name=image)


def kill_and_resume(project, images, backend, *, seed, kills, steps):
    """Kill a run again and again, each time after up to ``steps`` steps, and let it end at last."""
    chance = random.Random(seed)
    for _ in range(kills):
        with pytest.raises(WriterDiedError, match=r"was killed \(SIGKILL\).*--resume"):
            annotate(project, images, partial(dying, backend, chance.randint(1, steps)))
    annotate(project, images, backend)


@pytest.mark.parametrize("seed", range(5))
def test_after_resuming_the_project_equals_that_of_an_undisturbed_run(tmp_path, seed):
    images = [str(number) for number in range(1, 9)]
    undisturbed = fake.make_project(tmp_path / "undisturbed", len(images))
    annotate(undisturbed, images, fake.FakeBackend)
    disturbed = fake.make_project(tmp_path / "disturbed", len(images))
    kill_and_resume(disturbed, images, fake.FakeBackend, seed=seed, kills=5, steps=60)
    expected, found = fake.files_of(undisturbed), fake.files_of(disturbed)
    del expected["project.qpproj"], found["project.qpproj"]  # its slides lie elsewhere
    assert found == expected


def on_a_full_disk(backend, room):
    """A QuPath in a process that can write no file beyond ``room`` bytes."""
    made = backend()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    return made


@pytest.mark.parametrize("room", [0, 60, 200, 900])
def test_a_full_disk_loses_nothing_and_a_later_run_does_the_rest(tmp_path, room):
    images = [str(number) for number in range(1, 4)]
    undisturbed = fake.make_project(tmp_path / "undisturbed", len(images))
    annotate(undisturbed, images, fake.FakeBackend)
    disturbed = fake.make_project(tmp_path / "disturbed", len(images))
    before = fake.files_of(disturbed)
    with pytest.raises((ProjectError, OutputError), match=r"Nothing was lost|half-written"):
        annotate(disturbed, images, partial(on_a_full_disk, fake.FakeBackend, room))
    for name, content in fake.files_of(disturbed).items():
        assert content in (before[name], (undisturbed.parent / name).read_bytes())
    annotate(disturbed, images, fake.FakeBackend)
    expected, found = fake.files_of(undisturbed), fake.files_of(disturbed)
    del expected["project.qpproj"], found["project.qpproj"]  # its slides lie elsewhere
    assert found == expected


def test_a_full_disk_while_qupath_saves_loses_nothing(qupath, template_of, tmp_path):
    project = PaquoWorld(tmp_path, template_of(qupath)).make_project()
    before = fake.files_of(project)
    with pytest.raises((ProjectError, OutputError)):
        annotate(project, ["1"], partial(on_a_full_disk, PaquoBackend, 1500))
    assert fake.files_of(project) == before
    annotate(project, ["1"], PaquoBackend)
    with ProjectProcess(project, write=False) as reader:
        assert len(reader.contents("1").results) == 2


def features(project, image, target):
    with ProjectProcess(project, write=False) as reader:
        reader.export_geojson(image, target)
    return {feature["id"]: feature for feature in json.loads(target.read_text())["features"]}


def test_a_killed_qupath_loses_nothing(qupath, template_of, tmp_path):
    undisturbed = PaquoWorld(tmp_path / "a", template_of(qupath)).make_project()
    before = features(undisturbed, "2", tmp_path / "before")
    annotate(undisturbed, ["1", "2"], PaquoBackend)
    disturbed = PaquoWorld(tmp_path / "b", template_of(qupath)).make_project()
    kill_and_resume(disturbed, ["1", "2"], PaquoBackend, seed=5, kills=4, steps=25)
    found = features(disturbed, "2", tmp_path / "found")
    assert found == features(undisturbed, "2", tmp_path / "expected")
    assert features(disturbed, "1", tmp_path / "found") == features(undisturbed, "1", tmp_path / "expected")
    assert {name: feature for name, feature in found.items() if name in before} == before
    assert len(found) == len(before) + 2
