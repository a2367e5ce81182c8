"""Slides as tasks of a real Ray cluster on this machine, with two workers."""

import json
import os
import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.qupath.project import fake

from conceptseg.cli.segmenters import LocalSegmenter
from conceptseg.domain.errors import ImageError, InvalidRequestError
from conceptseg.factorization.library import find_dictionary
from conceptseg.pipeline.batch import Job, ProjectRun
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.qupath.batch import annotate
from conceptseg.qupath.engine import Threads
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.writer import ProjectWriter
from conceptseg.qupath.ray_engine import RayTasks
from conceptseg.qupath.run import annotate_project

# Ray's own start-up and end leave sockets and processes to the collector.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

DICTIONARY = find_dictionary(encoder="default", name=None, k=8)
JOB = Job(encoder="default", dictionary=DICTIONARY.identifier, pixel_size_um=0.5, image_pixel_size_um=0.5)
SEGMENT = LocalSegmenter(
    encoder="default", weights=None, device="cpu", dictionary=DICTIONARY, settings=SegmentSettings()
)


@dataclass(frozen=True)
class Mishaps:
    """Segments like the local one, but kills its worker at the first try of slide 1, and always fails at slide 2."""

    folder: Path

    def __call__(self, source, **others):
        if source.name == "slide-2.png":
            raise ImageError("It is torn.")
        first = self.folder / source.name
        if source.name == "slide-1.png" and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return SEGMENT(source, **others)


@pytest.fixture(autouse=True)
def _workers_find_the_tests(monkeypatch):
    root = str(Path(__file__).parents[2])
    monkeypatch.syspath_prepend(root)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("conceptseg.qupath.running.running_qupaths", lambda: iter(()))


@pytest.fixture
def make_project(tmp_path):
    from skimage.data import immunohistochemistry

    pixels = np.asarray(immunohistochemistry())

    def make(name):
        project = fake.make_project(tmp_path / name / "project")
        for number in (1, 2, 3):
            part = pixels[40 * number : 40 * number + 260, 60 * number : 60 * number + 300]
            Image.fromarray(part).save(project.parent / f"slide-{number}.png")
        return project

    return make


def written(project, engine):
    """The files of a project after a run with a fixed id, and what became of the images."""
    with closing(engine), ProjectWriter(project, backend=fake.FakeBackend()) as writer:
        outcomes = list(
            annotate(writer, writer.entries(), job=JOB, run="run-1", labels=Labels(), engine=engine, rest_seconds=0.1)
        )
    files = fake.files_of(project)
    del files["project.qpproj"]  # its slides lie elsewhere
    return files, {outcome.image.identifier: outcome for outcome in outcomes}


def test_the_project_is_the_same_file_for_file(make_project):
    here, _ = written(make_project("threads"), Threads(SEGMENT, jobs=2))
    there, outcomes = written(make_project("ray"), RayTasks(SEGMENT, jobs=2))
    assert there == here
    assert all(outcome.state == "done" and outcome.polygons for outcome in outcomes.values())


def test_a_dead_worker_and_a_failing_slide_cost_the_others_nothing(make_project, tmp_path):
    here, _ = written(make_project("threads"), Threads(SEGMENT))
    there, outcomes = written(make_project("ray"), RayTasks(Mishaps(tmp_path), jobs=2))
    assert [outcomes[number].state for number in "123"] == ["done", "failed", "done"]
    assert outcomes["2"].message == "It is torn."
    changed = {name for name in here if there[name] != here[name]}
    assert changed == {"data/2/data.qpdata", "data/2/summary.json"}


def test_a_slide_that_always_kills_its_worker_is_given_up(make_project, tmp_path):
    class Deadly(Mishaps):
        def __call__(self, source, **others):
            os.kill(os.getpid(), signal.SIGKILL)

    _, outcomes = written(make_project("ray"), RayTasks(Deadly(tmp_path), jobs=2))
    assert {outcome.state for outcome in outcomes.values()} == {"failed"}
    assert "worker that segmented it was lost" in outcomes["1"].message


def test_one_process_writes(make_project):
    project = make_project("ray")
    lock = project.parent / ".conceptseg" / "lock"
    owners = set()

    def look(_):
        if lock.is_file() and lock.read_text():
            owners.add(json.loads(lock.read_text())["pid"])

    with closing(RayTasks(SEGMENT, jobs=2)) as engine:
        annotate_project(ProjectRun(project=project, job=JOB), engine=engine, tell=look, backend=fake.FakeBackend)
    assert len(owners) == 1


def test_a_cluster_that_is_too_small_is_said_at_once():
    with pytest.raises(InvalidRequestError, match=r"has \d+ CPUs and \d+ GPUs, a slide would need 10000"):
        RayTasks(SEGMENT, cpus=10_000)


def test_a_cluster_that_is_not_there_is_said_at_once():
    with pytest.raises(InvalidRequestError, match=r"No Ray cluster at 127\.0\.0\.1:1"):
        RayTasks(SEGMENT, address="127.0.0.1:1")
