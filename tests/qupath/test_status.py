"""The file that says how far a run is."""

import json

import pytest

from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.pipeline.batch import Image, ImageStarted, Job, Outcome, RunStarted
from conceptseg.qupath.status import StatusFile

JOB = Job(encoder="default", dictionary="demo-k2", pixel_size_um=0.5)
A, B, C = (Image(identifier=str(number), name=f"{name}.svs") for number, name in enumerate("abc", start=1))


@pytest.fixture
def open_status(tmp_path):
    def make(*, project=tmp_path / "project.qpproj", job=JOB):
        return StatusFile(tmp_path / "status.json", project=project, job=job)

    return make


@pytest.fixture
def read(tmp_path):
    return lambda: json.loads((tmp_path / "status.json").read_text(encoding="utf-8"))


def test_the_file_is_whole_after_every_event(open_status, read):
    with open_status() as status:
        status(RunStarted(run="r", images=(A, B)))
        assert [(image["id"], image["name"], image["state"]) for image in read()["images"]] == [
            ("1", "a.svs", "waiting"),
            ("2", "b.svs", "waiting"),
        ]
        status(ImageStarted(image=A))
        assert read()["counts"] == {"images": 2, "working": 1, "waiting": 1}
        status(Outcome(image=A, state="done", polygons=7, segment_seconds=1.5, write_seconds=0.25))
        status(Outcome(image=B, state="failed", message="It is torn."))
        assert (read()["run"], read()["state"]) == ("r", "running")
    found = read()
    assert found["state"] == "finished"
    assert found["counts"] == {"images": 2, "done": 1, "failed": 1}
    assert found["images"][0] | {"seconds": 1.75, "polygons": 7, "message": ""} == found["images"][0]
    assert found["images"][1]["message"] == "It is torn."


def test_a_run_that_was_stopped_says_so(open_status, read):
    status = open_status()

    def interrupted():
        with status:
            status(RunStarted(run="r", images=(A,)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read()["state"] == "stopped"


def test_a_later_run_does_what_is_missing_and_keeps_what_is_known(open_status, read):
    with open_status() as status:
        assert status.is_missing("1")
        status(RunStarted(run="first", images=(A, B, C)))
        status(Outcome(image=A, state="done", polygons=7))
        status(Outcome(image=B, state="failed", message="It is torn."))
    with open_status() as status:
        assert [status.is_missing(image.identifier) for image in (A, B, C)] == [False, True, True]
        status(RunStarted(run="second", images=(B, C)))
        for image in (B, C):
            status(Outcome(image=image, state="skipped"))
    assert read()["run"] == "second"
    assert [(image["state"], image["polygons"]) for image in read()["images"]] == [
        ("done", 7),
        ("skipped", 0),
        ("skipped", 0),
    ]


def test_a_file_of_another_run_is_refused_and_left_alone(open_status, tmp_path, read):
    with open_status() as status:
        status(RunStarted(run="r", images=(A,)))
    before = read()
    with pytest.raises(InvalidRequestError, match=r"another settings \(within\).*delete the file"):
        open_status(job=Job(encoder="default", dictionary="demo-k2", pixel_size_um=0.5, within="Tumor"))
    with pytest.raises(InvalidRequestError, match="another project"):
        open_status(project=tmp_path / "other" / "project.qpproj")
    assert read() == before


@pytest.mark.parametrize("content", ["", "[]", '{"version": 99, "project": "", "settings": {}, "images": []}'])
def test_some_other_file_is_not_overwritten(open_status, tmp_path, content):
    file = tmp_path / "status.json"
    file.write_text(content)
    with pytest.raises(InvalidRequestError, match=r"--status-file .*status\.json"):
        open_status()
    assert file.read_text() == content


def test_a_file_that_cannot_be_written_is_said_at_the_first_event(tmp_path):
    with (
        pytest.raises(OutputError),
        StatusFile(tmp_path / "no" / "status.json", project=tmp_path, job=JOB) as status,
    ):
        status(RunStarted(run="r", images=(A,)))
