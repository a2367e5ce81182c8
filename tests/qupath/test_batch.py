"""A run over the images of a project."""

import json
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image
from shapely import box
from tests.qupath.project import fake

from conceptseg.domain.errors import CancelledByCallerError, InvalidRequestError, WorkerLostError
from conceptseg.domain.progress import Progress, stop_if
from conceptseg.pipeline.batch import ImageProgress, ImageStarted, Job
from conceptseg.qupath.batch import annotate
from conceptseg.qupath.engine import Threads
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.writer import ProjectWriter
from conceptseg.qupath.writer_process import WriterDiedError

JOB = Job(encoder="default", dictionary="demo-k2", pixel_size_um=0.5, image_pixel_size_um=0.5)


@pytest.fixture
def project(tmp_path):
    """Three images of 100 × 80 px."""
    project = fake.make_project(tmp_path / "project")
    for number in (1, 2, 3):
        Image.fromarray(np.full((80, 100, 3), 128, np.uint8)).save(project.parent / f"slide-{number}.png")
    return project


@pytest.fixture
def run(project, make_result):
    """Run over all images; two rectangles are found in each region."""
    regions = []

    def found_in(source, *, clip, progress, cancelled):
        region = source.grid.region
        regions.append((str(region), None if clip is None else clip.bounds))
        left, top = region.x, region.y
        middle, right, bottom = left + region.width / 2, left + region.width, top + region.height
        return make_result([(0, box(left, top, middle, bottom)), (1, box(middle, top, right, bottom))])

    def go(job=JOB, *, labels=None, done_before=None, run_id="run-1", jobs=1, segment=found_in, **others):
        regions.clear()
        with ProjectWriter(project, backend=fake.FakeBackend()) as writer:
            entries = writer.entries()
            options = {"job": job, "run": run_id, "labels": labels or Labels(), "done_before": done_before} | others
            with closing(Threads(segment, jobs=jobs)) as engine:
                outcomes = annotate(writer, entries, engine=engine, rest_seconds=0.01, **options)
                return sorted(outcomes, key=lambda outcome: outcome.image.identifier)

    go.regions = regions
    return go


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def ours(project, image):
    return [o for o in fake.objects_of(project, image) if "run" in o]


def test_every_image_gets_its_results(project, run):
    outcomes = run()
    assert states(outcomes) == ["done"] * 3
    assert [outcome.polygons for outcome in outcomes] == [2] * 3
    for image in "123":
        assert [o["class"] for o in ours(project, image)] == ["Concept 00", "Concept 01"]
        assert {o["run"] for o in ours(project, image)} == {"run-1"}


def test_names_of_the_project_are_used(project, run):
    run(labels=Labels().named("demo-k2", [1], "Tumor"))
    assert [o["class"] for o in ours(project, "1")] == ["Concept 00", "Tumor"]


def test_results_go_into_the_annotations_they_were_asked_for(project, run):
    outcomes = run(replace(JOB, within="Tumor"))
    assert states(outcomes) == ["done"] * 3
    assert run.regions[0] == ("0,0,50,50", (0, 0, 50, 50))
    assert {o["parent"] for o in ours(project, "1")} == {"mine-1"}


def test_every_image_of_a_file_is_segmented_as_itself(project, run, seen, caplog):
    greys = (60, 120, 180)
    slide = project.parent / "several.ome.tif"
    with tifffile.TiffWriter(slide, ome=True) as file:
        for grey in greys:
            file.write(np.full((80, 100, 3), grey, np.uint8), photometric="rgb", metadata={"axes": "YXS"})
    document = json.loads(project.read_text())
    for number, image in enumerate(document["images"]):
        image["serverBuilder"] |= {"uri": slide.as_uri(), "args": ["--series", str(2 - number)]}
    project.write_text(json.dumps(document))
    assert states(run(segment=seen)) == ["done"] * 3
    assert [grey for _, _, grey in seen.seen] == [180, 120, 60]
    assert not caplog.messages  # each entry says which image it is


def test_an_image_that_cannot_be_read_from_its_file_is_sent_to_qupath(project, run):
    document = json.loads(project.read_text())
    document["images"][0]["serverBuilder"]["args"] = ["--series", "1"]
    project.write_text(json.dumps(document))
    outcomes = run()
    assert states(outcomes) == ["failed", "done", "done"]
    assert "there is no image 1. Or open it in QuPath and use Extensions > ConceptSeg" in outcomes[0].message


@pytest.fixture
def stack(project, noise_free_stack):
    """The first image is a stack of three slices, with annotations of Tumor on z = 0 and z = 2."""
    document = json.loads(project.read_text())
    slide = project.parent / "stack.ome.tif"
    tifffile.imwrite(slide, noise_free_stack, photometric="rgb", metadata={"axes": "ZYXS"})
    document["images"] = document["images"][:1]
    document["images"][0]["serverBuilder"]["uri"] = slide.as_uri()
    project.write_text(json.dumps(document))
    objects = [fake.drawn_by_hand("low", "Tumor"), fake.drawn_by_hand("high", "Tumor") | {"z": 2}]
    (project.parent / "data" / "1" / "data.qpdata").write_text(json.dumps({"objects": objects}))
    return project


@pytest.fixture
def noise_free_stack():
    """(3, 80, 100, 3) of which every slice has its own grey."""
    return np.stack([np.full((80, 100, 3), 50 * z, np.uint8) for z in range(3)])


@pytest.fixture
def seen(make_result):
    """A segmenter that finds the whole region, and what it saw: z, t and a pixel."""
    seen = []

    def segment(source, *, clip, progress, cancelled):
        region = source.grid.region
        seen.append((region.z, region.t, int(source.read(x=0, y=0, width=1, height=1)[0, 0, 0])))
        return make_result([(0, box(0, 0, 10, 10))], region=region)

    segment.seen = seen
    return segment


def test_a_whole_image_is_the_slice_that_qupath_shows(stack, run, seen, caplog):
    run(segment=seen)
    assert seen.seen == [(1, 0, 50)]
    assert [(o["z"], o["t"]) for o in ours(stack, "1")] == [(1, 0)]
    assert caplog.messages == [
        "stack.ome.tif has 3 z-slices and 1 time point; z-slice 1 is taken (counted from 0), which QuPath shows first."
    ]


def test_another_slice_is_done_beside_the_first_and_replaced_alone(stack, run, seen):
    run(segment=seen)
    outcomes = run(replace(JOB, z=2), segment=seen, run_id="run-2")
    assert [outcome.replaced for outcome in outcomes] == [0]
    outcomes = run(replace(JOB, z=2), segment=seen, run_id="run-3")
    assert [outcome.replaced for outcome in outcomes] == [1]
    assert seen.seen == [(1, 0, 50), (2, 0, 100), (2, 0, 100)]
    assert sorted((o["z"], o["run"]) for o in ours(stack, "1")) == [(1, "run-1"), (2, "run-3")]


def test_a_slice_that_an_image_does_not_have_is_a_failure_of_that_image(stack, run, seen):
    (outcome,) = run(replace(JOB, z=3), segment=seen)
    assert outcome.state == "failed"
    assert "has no plane z=3, t=0" in outcome.message


def test_an_annotation_is_segmented_on_its_own_plane(stack, run, seen):
    run(replace(JOB, within="Tumor"), segment=seen)
    assert seen.seen == [(0, 0, 0), (2, 0, 100)]
    assert sorted((o["parent"], o["z"]) for o in ours(stack, "1")) == [("high", 2), ("low", 0)]


def test_a_run_that_knew_no_planes_can_be_resumed():
    assert not {"z", "t"} & JOB.as_json().keys()
    assert replace(JOB, z=1).as_json()["z"] == 1


def test_an_image_without_such_an_annotation_is_empty(run):
    assert states(run(replace(JOB, within="Nothing"))) == ["empty"] * 3
    assert run.regions == []


@pytest.mark.parametrize(
    ("within", "drawn", "state", "message"),
    [
        (
            "Stroma",
            ["Tumor: Stroma", "Tumor"],
            "empty",
            "There is no annotation of class Stroma. Left out: annotations of class Tumor: Stroma. --within takes the "
            "whole name of one class.",
        ),
        (
            "Tumor",
            ["Tumor", "Tumor: Stroma", "tumor"],
            "done",
            "Left out: annotations of class Tumor: Stroma, tumor. --within takes the whole name of one class.",
        ),
        ("Fat", ["Tumor"], "empty", "There is no annotation of class Fat. There are annotations of class Tumor."),
        ("Fat", [], "empty", "There is no annotation of class Fat."),
        ("Tumor: Stroma", ["Tumor", "Tumor: Stroma", "Stroma"], "done", ""),
    ],
)
def test_annotations_of_a_class_that_sounds_like_it_are_named(project, run, within, drawn, state, message):
    objects = [fake.drawn_by_hand(f"mine-{number}", name) for number, name in enumerate(drawn)]
    (project.parent / "data" / "1" / "data.qpdata").write_text(json.dumps({"objects": objects}))
    outcome = run(replace(JOB, within=within))[0]
    assert (outcome.state, outcome.message) == (state, message)


@pytest.mark.parametrize(
    ("rerun", "expected", "state"), [("replace", 2, "done"), ("add", 4, "done"), ("skip", 2, "skipped")]
)
def test_a_second_run_replaces_adds_or_skips(project, run, rerun, expected, state):
    run()
    outcomes = run(replace(JOB, rerun=rerun), run_id="run-2")
    assert states(outcomes) == [state] * 3
    assert len(ours(project, "1")) == expected


def test_a_failed_slide_does_not_stop_the_others(project, run):
    (project.parent / "slide-1.png").unlink()
    (project.parent / "slide-2.png").write_bytes(b"no picture")
    before = [(project.parent / "data" / image / "data.qpdata").read_bytes() for image in "12"]
    outcomes = run()
    assert states(outcomes) == ["failed", "failed", "done"]
    assert "slide-1.png is not there" in outcomes[0].message
    assert "--rebase OLD NEW" in outcomes[0].message
    assert "slide-2.png" in outcomes[1].message
    assert [(project.parent / "data" / image / "data.qpdata").read_bytes() for image in "12"] == before


def test_a_slide_that_is_not_what_qupath_shows_is_refused(project, run):
    document = json.loads(project.read_text())
    document["images"][0]["serverBuilder"]["metadata"] = {"width": 80, "height": 100}
    document["images"][1]["serverBuilder"] = {
        "builderType": "rotated",
        "builder": document["images"][1]["serverBuilder"],
    }
    project.write_text(json.dumps(document))
    outcomes = run()
    assert states(outcomes) == ["failed", "failed", "done"]
    assert "QuPath shows 80 × 100 px, but" in outcomes[0].message
    assert "rotated" in outcomes[1].message


def test_an_image_without_pixel_size_says_how_to_give_it(run):
    outcomes = run(replace(JOB, image_pixel_size_um=None))
    assert states(outcomes) == ["failed"] * 3
    assert "--pixel-size-um" in outcomes[0].message


def test_the_pixel_size_that_qupath_shows_is_used(project, run):
    document = json.loads(project.read_text())
    for image in document["images"]:
        side = {"value": 0.25, "unit": "µm"}
        image["serverBuilder"]["metadata"] = {"pixelCalibration": {"pixelWidth": side, "pixelHeight": side}}
    project.write_text(json.dumps(document))
    assert states(run(replace(JOB, image_pixel_size_um=None))) == ["done"] * 3


def test_an_annotation_outside_the_image_is_named(project, run):
    data = project.parent / "data" / "1" / "data.qpdata"
    outside = fake.drawn_by_hand("far-away", "Tumor", outline=shapely.box(500, 500, 600, 600))
    data.write_text(json.dumps({"objects": [outside]}))
    outcomes = run(replace(JOB, within="Tumor"))
    assert states(outcomes) == ["failed", "done", "done"]
    assert "far-away" in outcomes[0].message


def test_what_a_resumed_run_had_done_is_left_alone(project, run):
    outcomes = run(done_before={"2": {"polygons": 5}})
    assert states(outcomes) == ["done", "resumed", "done"]
    assert outcomes[1].polygons == 5
    assert ours(project, "2") == []


def test_without_a_writer_a_run_ends(project, run, monkeypatch):
    def die(*arguments, **keywords):
        raise WriterDiedError("killed")

    monkeypatch.setattr(ProjectWriter, "write", die)
    with pytest.raises(WriterDiedError):
        run()


@pytest.mark.parametrize("jobs", [2, 5])
def test_results_do_not_depend_on_how_many_images_are_in_work(tmp_path, run, project, jobs):
    run()
    alone = fake.files_of(project)
    for image in "123":
        data = project.parent / "data" / image / "data.qpdata"
        data.write_text(json.dumps({"objects": [fake.drawn_by_hand(f"mine-{image}", "Tumor")]}))
    assert states(run(jobs=jobs)) == ["done"] * 3
    assert fake.files_of(project) == alone


def test_so_many_images_are_in_work_at_once(run, make_result):
    together = threading.Barrier(3, timeout=30)

    def wait_for_the_others(source, **_):
        together.wait()
        return make_result()

    assert states(run(jobs=3, segment=wait_for_the_others)) == ["done"] * 3


def test_while_an_image_is_written_the_next_one_is_segmented(run, make_result, monkeypatch):
    begun, written = [threading.Event() for _ in range(3)], []
    write = ProjectWriter.write

    def segment(source, **_):
        next(event for event in begun if not event.is_set()).set()
        return make_result()

    def write_late(writer, image, *arguments, **keywords):
        assert all(event.wait(30) for event in begun[: len(written) + 2])
        written.append(image)
        write(writer, image, *arguments, **keywords)

    monkeypatch.setattr(ProjectWriter, "write", write_late)
    assert states(run(segment=segment)) == ["done"] * 3


def test_a_slide_whose_worker_was_lost_is_tried_again_but_not_for_ever(project, run, make_result):
    tries = Counter()

    def lost(source, **_):
        tries[source.name] += 1
        if source.name == "slide-2.png" or tries[source.name] == 1:
            raise WorkerLostError("the worker was killed")
        return make_result()

    outcomes = run(segment=lost, jobs=2)
    assert states(outcomes) == ["done", "failed", "done"]
    assert outcomes[1].message == "the worker was killed"
    assert tries == {"slide-1.png": 2, "slide-2.png": 3, "slide-3.png": 2}
    assert len(ours(project, "1")) == 2


def test_what_nobody_thought_of_fails_one_slide_alone(run, make_result):
    def break_down(source, **_):
        if source.name == "slide-2.png":
            raise ZeroDivisionError("by zero")
        return make_result()

    outcomes = run(segment=break_down)
    assert states(outcomes) == ["done", "failed", "done"]
    assert outcomes[1].message == "ZeroDivisionError: by zero. Please report this."


def test_a_cancelled_run_leaves_every_image_whole(project, run, make_result):
    cancel = threading.Event()

    def cancelled_inside_the_second(source, *, clip, progress, cancelled):
        if source.name == "slide-2.png":
            cancel.set()
            while not cancelled():
                time.sleep(0.01)
            stop_if(cancelled)
        return make_result()

    with pytest.raises(CancelledByCallerError):
        run(segment=cancelled_inside_the_second, cancelled=cancel.is_set)
    assert ours(project, "2") == ours(project, "3") == []
    assert len(ours(project, "1")) in (0, 2)


def test_it_tells_what_it_does(run, make_result):
    told = []

    def segment(source, *, clip, progress, cancelled):
        progress(Progress(stage="encode", done=1, total=2))
        return make_result()

    run(segment=segment, tell=told.append)
    images = [event.image.identifier for event in told if isinstance(event, ImageStarted)]
    assert images == ["1", "2", "3"]
    steps = [event for event in told if isinstance(event, ImageProgress)]
    assert {(step.image.name, step.progress.total) for step in steps} == {(f"slide-{n}.png", 2) for n in (1, 2, 3)}


def test_a_slide_that_must_not_be_opened_is_not(run):
    def refuse(slide):
        if slide.name == "slide-2.png":
            raise InvalidRequestError("Hands off.")

    outcomes = run(check_slide=refuse)
    assert states(outcomes) == ["done", "failed", "done"]
    assert outcomes[1].message == "Hands off."


def test_settings_that_do_not_change_results_do_not_make_another_run():
    tiled = replace(JOB, settings=replace(JOB.settings, tile_px=256))
    assert tiled.as_json() == JOB.as_json()
    assert replace(JOB, within="Tumor").as_json() != JOB.as_json()
    assert json.loads(json.dumps(JOB.as_json())) == JOB.as_json()
