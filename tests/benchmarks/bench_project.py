"""What writing into a QuPath project costs of a whole run, and how long many polygons into one image take.

Needs a real QuPath; the first that is found is used (``PAQUO_QUPATH_DIR`` chooses another).
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from common import result, tissue
from PIL import Image

from conceptseg.cli.segmenters import LocalSegmenter
from conceptseg.factorization.library import find_dictionary
from conceptseg.pipeline.batch import Job, ProjectRun
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.qupath.engine import Threads
from conceptseg.qupath.locate import find_qupath_installations
from conceptseg.qupath.project.contents import Changes, ClassStyle, Outline, Result
from conceptseg.qupath.run import annotate_project
from conceptseg.qupath.writer_process import ProjectProcess

IMAGES = 100
SIDE_PX = 1280
"""Of an image; that is about 190 polygons each."""

POLYGONS = 10_000
VERTICES = 40


def measure(*, images: int = IMAGES, polygons: int = POLYGONS) -> Iterator[dict[str, Any]]:
    """Yield the share of writing in a run over many images, and the seconds for many polygons in one image."""
    with tempfile.TemporaryDirectory() as folder:
        yield _share(Path(folder), images)
    with tempfile.TemporaryDirectory() as folder:
        yield _many(Path(folder), polygons)


def _share(folder: Path, images: int) -> dict[str, Any]:
    """Seconds that a run waits for the project, against the seconds of the run."""
    slides, source = _slides(folder, images)
    project = _project(folder, slides)
    if hasattr(os, "sync"):
        os.sync()  # slides that are still on their way to the disk would be waited for when results are written
    dictionary = find_dictionary(encoder="default", name=None, k=16)
    settings = SegmentSettings()
    segment = LocalSegmenter(encoder="default", weights=None, device="auto", dictionary=dictionary, settings=settings)
    job = Job(
        encoder="default",
        dictionary=dictionary.identifier,
        pixel_size_um=dictionary.pixel_size_um,
        image_pixel_size_um=0.5,
        settings=settings,
    )
    with closing(Threads(segment)) as engine:
        started = time.perf_counter()
        request = ProjectRun(project=project, job=job, force=True)
        outcomes = annotate_project(request, engine=engine, prepare=segment.prepare)
        seconds = time.perf_counter() - started
    assert all(outcome.state == "done" for outcome in outcomes)
    writing = sum(outcome.write_seconds for outcome in outcomes)
    return result(
        "project_write_share",
        ours=writing,
        baseline=seconds,
        share=writing / seconds,
        images=images,
        polygons_per_image=sum(outcome.polygons for outcome in outcomes) / images,
        segment_seconds=sum(outcome.segment_seconds for outcome in outcomes),
        pixels=f"{SIDE_PX}² px each of {source}",
        **_qupath(),
    )


def _many(folder: Path, count: int) -> dict[str, Any]:
    """Seconds for many polygons in one image, saved and verified, against the ten that are allowed."""
    slides, _ = _slides(folder, 1)
    drawn = _blobs(count)
    styles = tuple(ClassStyle(name=f"Concept {number:02d}", colour=(number, 99, 199)) for number in range(16))
    with ProjectProcess(_project(folder, slides), write=True) as writer:
        writer.entries()  # QuPath has started
        started = time.perf_counter()
        writer.inspect("1")
        writer.write("1", Changes(add=drawn, styles=styles), name="slide")
        seconds = time.perf_counter() - started
        assert len(writer.contents("1").results) == count
    return result("project_write_many", ours=seconds, baseline=10.0, polygons=count, vertices=VERTICES, **_qupath())


def _slides(folder: Path, count: int) -> tuple[list[Path], str]:
    """Real tissue, cut at another place for every image."""
    pixels, source = tissue(2 * SIDE_PX, 2 * SIDE_PX)
    slides = []
    for number in range(count):
        x, y = 97 * number % SIDE_PX, 61 * number % SIDE_PX
        slides.append(folder / f"slide-{number:03d}.png")
        Image.fromarray(pixels[y : y + SIDE_PX, x : x + SIDE_PX]).save(slides[-1], compress_level=1)
    return slides, source


def _project(folder: Path, slides: list[Path]) -> Path:
    project = folder / "project" / "project.qpproj"
    with ProjectProcess(project, write=False) as creator:
        assert not creator.create(slides)
    return project


def _blobs(count: int) -> tuple[tuple[Result, Outline], ...]:
    """Outlines on a lattice."""
    random = np.random.default_rng(0)
    columns = int(np.ceil(count**0.5))
    spacing = SIDE_PX / columns
    index = np.arange(count)
    angle = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    radius = spacing * random.uniform(0.3, 0.45, (count, 1)) * np.ones(VERTICES)
    x = spacing * (index % columns + 0.5)[:, None] + radius * np.cos(angle)
    y = spacing * (index // columns + 0.5)[:, None] + radius * np.sin(angle)
    drawn = []
    for number, polygon in enumerate(shapely.polygons(np.stack([x, y], axis=-1))):
        concept = number % 16
        made = Result(
            identifier=str(uuid.UUID(int=number + 1)),
            parent=None,
            class_name=f"Concept {concept:02d}",
            run="bench",
            dictionary="bench-k16",
            found=(concept,),
            area_px=polygon.area,
            length_px=polygon.length,
        )
        drawn.append((made, Outline(wkb=shapely.to_wkb(polygon), measurements={"Area µm^2": 1.0, "Area %": 0.01})))
    return tuple(drawn)


def _qupath() -> dict[str, str]:
    return {"qupath": find_qupath_installations()[0].version}
