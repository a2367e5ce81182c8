"""Writers that are killed at random moments lose nothing."""

import json
import os
import random
import signal
import threading
import time
from contextlib import suppress

import pytest
from tests.qupath.project import fake
from tests.qupath.project.worlds import PaquoWorld, result, style

from conceptseg.qupath.project.contents import Changes
from conceptseg.qupath.writer_process import PaquoBackend, ProjectProcess, WriterDiedError

STYLES = (style("Concept 00"),)


def annotate(project, images, backend, *, kill_after=None):
    """Add two results to every image, as a run does; resume if there is one to resume; return the seconds it took."""
    with ProjectProcess(project, write=True, backend=backend) as writer:
        names = {entry.identifier for entry in writer.entries()}  # from here on it can be killed
        if kill_after is not None:
            threading.Timer(kill_after, lambda: _kill(writer.pid)).start()
        started = time.perf_counter()
        done = {}
        if (project.parent / ".conceptseg" / "annotate.jsonl").exists():
            done = writer.resume_run(settings={}).done
        else:
            writer.start_run(run="run-1", settings={})
        assert names == set(images)
        for image in images:
            if image not in done:
                writer.inspect(image)
                drawn = (result(1), result(2, class_name="Concept 00"))
                writer.write(image, Changes(add=drawn, styles=STYLES), name=image)
        return time.perf_counter() - started


def _kill(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_and_resume(project, images, backend, *, seed, kills, longest):
    """Run with up to ``kills`` kills, then to the end; return how many of them hit."""
    moments = random.Random(seed)
    hits = 0
    for _ in range(kills):
        with suppress(WriterDiedError):
            annotate(project, images, backend, kill_after=moments.uniform(0, longest))
            break
        hits += 1
    annotate(project, images, backend)
    return hits


@pytest.mark.parametrize("seed", range(3))
def test_after_resuming_the_project_equals_that_of_an_undisturbed_run(tmp_path, seed):
    images = [str(number) for number in range(1, 7)]
    undisturbed = fake.make_project(tmp_path / "undisturbed", len(images))
    seconds = annotate(undisturbed, images, fake.SlowBackend)
    disturbed = fake.make_project(tmp_path / "disturbed", len(images))
    hits = kill_and_resume(disturbed, images, fake.SlowBackend, seed=seed, kills=6, longest=seconds / 2)
    assert hits >= 2
    expected, found = fake.files_of(undisturbed), fake.files_of(disturbed)
    del expected["project.qpproj"], found["project.qpproj"]  # its slides lie elsewhere
    assert found == expected


def features(project, image, target):
    with ProjectProcess(project, write=False) as reader:
        reader.export_geojson(image, target)
    return {feature["id"]: feature for feature in json.loads(target.read_text())["features"]}


def test_a_killed_qupath_loses_nothing(qupath, template_of, tmp_path):
    undisturbed = PaquoWorld(tmp_path / "a", template_of(qupath)).make_project()
    before = {image: features(undisturbed, image, tmp_path / "before") for image in "12"}
    seconds = annotate(undisturbed, ["1", "2"], PaquoBackend)
    disturbed = PaquoWorld(tmp_path / "b", template_of(qupath)).make_project()
    kill_and_resume(disturbed, ["1", "2"], PaquoBackend, seed=5, kills=4, longest=seconds)
    for image in "12":
        found = features(disturbed, image, tmp_path / "found")
        assert found == features(undisturbed, image, tmp_path / "expected")
        assert {name: feature for name, feature in found.items() if name in before[image]} == before[image]
        assert len(found) == len(before[image]) + 2
