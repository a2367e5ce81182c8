"""A run over the images of a project."""

import json
from dataclasses import replace

import numpy as np
import pytest
import shapely
from PIL import Image
from shapely import box
from tests.qupath.project import fake

from conceptseg.qupath.batch import Job, annotate
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

    def segment(source, *, clip, progress):
        region = source.grid.region
        regions.append((str(region), None if clip is None else clip.bounds))
        left, top = region.x, region.y
        middle, right, bottom = left + region.width / 2, left + region.width, top + region.height
        return make_result([(0, box(left, top, middle, bottom)), (1, box(middle, top, right, bottom))])

    def go(job=JOB, *, labels=None, done_before=None, run_id="run-1", **others):
        regions.clear()
        with ProjectWriter(project, backend=fake.FakeBackend()) as writer:
            entries = writer.entries()
            options = {"segment": segment} | others
            return list(
                annotate(
                    writer, entries, job=job, run=run_id, labels=labels or Labels(), done_before=done_before, **options
                )
            )

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


def test_an_image_without_such_an_annotation_is_empty(run):
    assert states(run(replace(JOB, within="Nothing"))) == ["empty"] * 3
    assert run.regions == []


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


def test_without_a_writer_a_run_ends(run):
    def killed(source, *, clip, progress):
        raise WriterDiedError("killed")

    with pytest.raises(WriterDiedError):
        run(segment=killed)


def test_settings_that_do_not_change_results_do_not_make_another_run():
    tiled = replace(JOB, settings=replace(JOB.settings, tile_px=256))
    assert tiled.as_json() == JOB.as_json()
    assert replace(JOB, within="Tumor").as_json() != JOB.as_json()
    assert json.loads(json.dumps(JOB.as_json())) == JOB.as_json()
