"""AnnotateProject over a real channel; the project is written by a QuPath of our own making, and by a real one."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from tests.qupath.project import fake
from tests.rpc.conftest import tissue_pixels

from conceptseg.domain.errors import CancelledByCallerError, InvalidRequestError, ProjectError
from conceptseg.domain.progress import Progress
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.pipeline.batch import (
    Image,
    ImageProgress,
    ImageStarted,
    Job,
    Outcome,
    ProjectRun,
    RunEvent,
    RunStarted,
)
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.qupath.engine import Threads
from conceptseg.qupath.project.writer import ProjectWriter
from conceptseg.qupath.run import annotate_project
from conceptseg.qupath.writer_process import ProjectProcess
from conceptseg.rpc import convert
from conceptseg.rpc.client import Client
from conceptseg.rpc.errors import PathNotAllowedError
from conceptseg.rpc.limits import Limits
from conceptseg.rpc.outbox import Outbox
from conceptseg.rpc.paths import AllowedRoots
from conceptseg.rpc.projects import wish_from_proto
from conceptseg.rpc.server import Server, ServeSettings
from conceptseg.v1 import project_pb2

A, B = Image(identifier="1", name="a.svs"), Image(identifier="2", name="b.svs")
CALIBRATED: dict[str, Any] = {"image_pixel_size_um": 0.5, "dictionary": 8}


def annotate_without_qupath(request: ProjectRun, *, segment: Any, jobs: int = 1, **others: Any) -> Any:
    with closing(Threads(segment, jobs=jobs)) as engine:
        return annotate_project(request, engine=engine, backend=fake.FakeBackend, **others)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCEPTSEG_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # the writer's process imports the fake, too
    monkeypatch.setattr("conceptseg.qupath.running.running_qupaths", lambda: iter(()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def project(root: Path) -> Path:
    """Three images that look like tissue."""
    project = fake.make_project(root / "project")
    for number in (1, 2, 3):
        pixels = tissue_pixels(220, 260, seed=number)
        cv2.imwrite(str(project.parent / f"slide-{number}.png"), pixels[..., ::-1])
    return project


@pytest.fixture
def client(root: Path) -> Iterator[Client]:
    server = Server(ServeSettings(device="cpu", roots=(root,)), annotate=annotate_without_qupath)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with Client(server.endpoint.endpoint, server.endpoint.token) as client:
            yield client
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def drawn(project: Path) -> dict[str, list[str]]:
    """What every image holds, whatever run made it."""
    return {
        image: sorted(json.dumps([o["class"], o["wkb"], o["measurements"]]) for o in fake.objects_of(project, image))
        for image in "123"
    }


def test_the_server_writes_what_the_command_writes(client: Client, project: Path, encoder: Encoder) -> None:
    copy = Path(shutil.copytree(project.parent, project.parent.parent / "copy")) / "project.qpproj"
    told: list[RunEvent] = []
    outcomes = client.annotate_project(project, **CALIBRATED, jobs=2, tell=told.append)
    assert {outcome.image.identifier: outcome.state for outcome in outcomes} == dict.fromkeys("123", "done")
    dictionary = find_dictionary(encoder="default", name=None, k=8)
    job = Job(
        encoder="default",
        dictionary=dictionary.identifier,
        pixel_size_um=dictionary.pixel_size_um,
        image_pixel_size_um=0.5,
    )

    def segment_here(source: Any, **others: Any) -> Any:
        return segment(source, encoder=encoder, dictionary=dictionary, settings=job.settings, **others)

    here = annotate_without_qupath(ProjectRun(project=copy, job=job), segment=segment_here)
    assert {o.image: o.polygons for o in outcomes} == {o.image: o.polygons for o in here}
    assert min(outcome.polygons for outcome in outcomes) > 0
    assert drawn(project) == drawn(copy)
    assert isinstance(told[0], RunStarted)
    assert [image.identifier for image in told[0].images] == ["1", "2", "3"]
    for image in told[0].images:
        of_image = [event for event in told[1:] if event.image == image]
        assert isinstance(of_image[0], ImageStarted)
        assert isinstance(of_image[-1], Outcome)
        assert of_image[-1] in outcomes


def test_images_are_chosen_and_reruns_are_as_in_the_command(client: Client, project: Path) -> None:
    first = client.annotate_project(project, **CALIBRATED, images=["slide-1*"], ids=["3"])
    assert [(o.image.identifier, o.state) for o in first] == [("1", "done"), ("3", "done")]
    again = client.annotate_project(project, **CALIBRATED, rerun="skip")
    assert {o.image.identifier: o.state for o in again} == {"1": "skipped", "2": "done", "3": "skipped"}
    inside = client.annotate_project(project, **CALIBRATED, within="Nothing")
    assert [outcome.state for outcome in inside] == ["empty"] * 3


@pytest.mark.parametrize(("asked", "expected"), [({}, {1}), ({"z": 2}, {2})])
def test_the_slice_that_qupath_shows_is_segmented_or_the_one_asked_for(
    client: Client, project: Path, asked: dict[str, int], expected: set[int]
) -> None:
    slices = np.stack([tissue_pixels(220, 260, seed=z) for z in range(3)])
    stack = project.parent / "stack.ome.tif"
    tifffile.imwrite(stack, slices, photometric="rgb", metadata={"axes": "ZYXS"})
    document = json.loads(project.read_text())
    document["images"][0]["serverBuilder"]["uri"] = stack.as_uri()
    project.write_text(json.dumps(document))
    (outcome,) = client.annotate_project(project, **CALIBRATED, ids=["1"], **asked)
    assert outcome.polygons > 0
    assert {o["z"] for o in fake.objects_of(project, "1") if "run" in o} == expected


@pytest.mark.parametrize("wrong", [{"z": -1}, {"t": 0, "within": "Tumor"}])
def test_a_plane_that_cannot_be_meant_is_refused(client: Client, project: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        client.annotate_project(project, **CALIBRATED, **wrong)


def test_only_projects_and_slides_under_the_roots_are_opened(client: Client, project: Path, tmp_path: Path) -> None:
    outside = Path(shutil.copytree(project.parent, tmp_path / "outside")) / "project.qpproj"
    with pytest.raises(PathNotAllowedError, match="does not lie in a folder that this server may read"):
        client.annotate_project(outside, **CALIBRATED)
    linked = project.parent / "linked.qpproj"
    linked.symlink_to(outside)
    with pytest.raises(PathNotAllowedError):
        client.annotate_project(linked, **CALIBRATED)
    document = json.loads(project.read_text())
    document["images"][1]["serverBuilder"]["uri"] = (outside.parent / "slide-2.png").as_uri()
    project.write_text(json.dumps(document))
    before = fake.objects_of(project, "2")
    outcomes = {o.image.identifier: o for o in client.annotate_project(project, **CALIBRATED)}
    assert [outcomes[number].state for number in "123"] == ["done", "failed", "done"]
    assert "does not lie in a folder" in outcomes["2"].message
    assert fake.objects_of(project, "2") == before


def link_outside(project: Path, part: str) -> Path:
    """Move a part of a project out of its folder, or make one there, and leave a link; return where it is now."""
    outside = project.parents[2] / "outside"
    if (project.parent / part).exists():
        shutil.move(project.parent / part, outside)
    elif part.endswith(".json"):
        outside.write_text('{"version": 1, "dictionaries": {}}')
    else:
        outside.mkdir()
    (project.parent / part).symlink_to(outside)
    return outside


@pytest.mark.parametrize("part", ["data", "data/1", "classifiers"])
def test_an_image_that_a_link_leads_out_of_the_project_fails(client: Client, project: Path, part: str) -> None:
    outside = link_outside(project, part)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    (outcome,) = client.annotate_project(project, **CALIBRATED, ids=["1"])
    assert outcome.state == "failed"
    assert f"{part} is a link" in outcome.message
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("part", [".conceptseg", "conceptseg-labels.json"])
def test_a_project_that_a_link_leads_out_of_is_refused(client: Client, project: Path, part: str) -> None:
    outside = link_outside(project, part)
    with pytest.raises(ProjectError, match=f"{part} is a link"):
        client.annotate_project(project, **CALIBRATED, ids=["1"])
    assert list(outside.rglob("*")) == []


def test_a_project_whose_folder_becomes_a_link_is_left_alone(project: Path, root: Path, tmp_path: Path) -> None:
    message = project_pb2.AnnotateProjectRequest(project_path=str(project), dictionary={"name": "default-k8"})
    wish = wish_from_proto(message, roots=AllowedRoots([root]), limits=Limits())
    slide = root / "slide.png"
    slide.write_bytes(b"")
    wish.request.check_slide(slide)
    project.parent.rename(tmp_path / "outside")
    project.parent.symlink_to(tmp_path / "outside")
    with pytest.raises(PathNotAllowedError):
        wish.request.check_slide(slide)


def test_a_number_that_is_a_path_is_refused(client: Client, project: Path) -> None:
    document = json.loads(project.read_text())
    document["images"][0]["entryID"] = "../../victim"
    project.write_text(json.dumps(document))
    with pytest.raises(ProjectError, match=r"whole number as entryID of every image, got '\.\./\.\./victim'"):
        client.annotate_project(project, **CALIBRATED)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"rerun": "twice"}, "rerun to be one of replace, add, skip"),
        ({"jobs": 17}, "1 to 16 images at once"),
        ({"image_pixel_size_um": -1.0}, "pixel size > 0"),
        ({"settings": SegmentSettings(tile_px=100_000)}, "tile_px of at most"),
        ({"images": ["*.svs"]}, "No image of the project is called"),
    ],
)
def test_a_wish_that_cannot_be_done_is_refused(
    client: Client, project: Path, wish: dict[str, Any], message: str
) -> None:
    before = fake.files_of(project)
    with pytest.raises(InvalidRequestError, match=message):
        client.annotate_project(project, **(CALIBRATED | wish))
    assert fake.files_of(project) == before


def test_a_file_that_is_no_project_is_refused(client: Client, project: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"Expected the path of a project\.qpproj"):
        client.annotate_project(project.parent / "slide-1.png", **CALIBRATED)


def test_a_project_that_somebody_else_writes_is_said(client: Client, project: Path) -> None:
    with (
        ProjectWriter(project, backend=fake.FakeBackend()),
        pytest.raises(ProjectError, match="Another ConceptSeg process is writing"),
    ):
        client.annotate_project(project, **CALIBRATED)


def test_a_cancelled_call_leaves_every_image_whole_and_can_be_resumed(client: Client, project: Path) -> None:
    cancel = threading.Event()

    def stop_in_the_second(event: RunEvent) -> None:
        if isinstance(event, ImageStarted) and event.image.identifier == "2":
            cancel.set()

    with pytest.raises(CancelledByCallerError):
        client.annotate_project(project, **CALIBRATED, tell=stop_in_the_second, cancelled=cancel.is_set)
    for image in "123":
        assert {"Tumor"} <= {o["class"] for o in fake.objects_of(project, image)}
    while client.info().running_calls:
        cancel.wait(0.02)
    outcomes = client.annotate_project(project, **CALIBRATED, resume=True)
    assert {outcome.state for outcome in outcomes} <= {"done", "resumed"}
    runs = {o["run"] for image in "123" for o in fake.objects_of(project, image) if "run" in o}
    assert len(runs) == 1


@pytest.mark.parametrize(
    "event",
    [
        RunStarted(run="r", images=(A, B), warnings=("Look out.",)),
        ImageStarted(image=A, reviewed=2),
        ImageProgress(image=B, progress=Progress(stage="encode", done=1, total=4)),
        Outcome(image=A, state="failed", message="It is torn.", segment_seconds=1.25),
        Outcome(image=B, state="done", polygons=3, replaced=2, segment_seconds=0.5, write_seconds=0.25),
    ],
)
def test_events_round_trip(event: RunEvent) -> None:
    assert convert.run_event_from_proto(convert.run_event_to_proto(event)) == event


def test_a_slow_client_gets_the_latest_progress_and_every_other_event() -> None:
    outbox = Outbox()
    outbox.put(ImageStarted(image=A))
    for done in range(1000):
        outbox.put(ImageProgress(image=A, progress=Progress(stage="encode", done=done, total=1000)))
    started, progress = map(convert.run_event_from_proto, outbox.take())
    assert started == ImageStarted(image=A)
    assert isinstance(progress, ImageProgress)
    assert progress.progress.done == 999
    outbox.put(progress)
    outbox.put(Outcome(image=A, state="done"))
    assert [convert.run_event_from_proto(message) for message in outbox.take()] == [Outcome(image=A, state="done")]
    assert list(outbox.take()) == []


@pytest.mark.qupath
def test_a_server_process_writes_through_a_real_qupath(start_server: Callable[..., Any], root: Path) -> None:
    slide = root / "slide.png"
    cv2.imwrite(str(slide), tissue_pixels(220, 260)[..., ::-1])
    project = root / "project" / "project.qpproj"
    with ProjectProcess(project, write=False) as creator:
        assert creator.create([slide]) == {}
    with start_server("--root", str(root)).client() as client:
        (outcome,) = client.annotate_project(project, **CALIBRATED)
    assert outcome.state == "done"
    with ProjectProcess(project, write=False) as reader:
        assert len(reader.contents("1").results) == outcome.polygons > 0
