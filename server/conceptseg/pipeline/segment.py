"""A region in, concept polygons out: the main job."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Semaphore

import torch
from shapely import MultiPolygon, Polygon

from conceptseg.domain.classes import ConceptClass, default_classes
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.labels import LabelMap
from conceptseg.domain.progress import (
    IsCancelled,
    Progress,
    ReportProgress,
    never_cancelled,
    report_nothing,
    stop_if,
)
from conceptseg.encoders.allocator import give_back_free_memory
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.activations import ActivationMap
from conceptseg.geometry.join import on_lines
from conceptseg.geometry.place import require_clip
from conceptseg.imaging.source import PixelSource
from conceptseg.imaging.tiles import Tile
from conceptseg.pipeline.activate import Activation
from conceptseg.pipeline.finish import Placed, finished, place
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.settings import SegmentSettings, learned_identifier
from conceptseg.pipeline.sheets import LabelCanvas, Outlines, SheetPlan, join_outlines, outline_sheet

_TIDY_SECONDS = 30.0
"""Time between two tidyings of memory; each costs page faults for what the encoder uses again."""


def segment(
    source: PixelSource,
    *,
    encoder: Encoder,
    dictionary: ConceptDictionary | None,
    settings: SegmentSettings | None = None,
    clip: Polygon | MultiPolygon | None = None,
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> SegmentationResult:
    """Segment a region into concept polygons.

    Args:
        source: The region's pixels on its analysis grid.
        encoder: The frozen encoder.
        dictionary: The concepts; None for method ``learned``.
        settings: How; the defaults when None.
        clip: Shape of the parent annotation in full-resolution px; None for the whole region.
        progress: Told after every tile and stage.
        cancelled: Asked before every batch of tiles and every stage.

    Returns:
        Polygons that form one planar coverage of the labelled tissue, label map, and a summary per concept. A
        region without tissue gives a result without polygons.

    Raises:
        ConceptSegError: see the error tree; there is no partial result.
    """
    settings = settings or SegmentSettings()
    if clip is not None:
        require_clip(clip)
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        stop_if(cancelled)
        progress(Progress(stage=name, done=0, total=1))
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started
        progress(Progress(stage=name, done=1, total=1))

    stop_if(cancelled)
    grid, stride = source.grid, encoder.spec.stride_px
    plan = SheetPlan(grid, stride_px=stride, settings=settings)
    activation = Activation(
        source,
        encoder=encoder,
        dictionary=dictionary,
        settings=settings,
        progress=progress,
        cancelled=cancelled,
    )
    n_concepts = len(activation.concepts)
    learned = learned_identifier(n_concepts=n_concepts, seed=settings.seed)
    canvas = LabelCanvas(grid, n_concepts=n_concepts)
    outline = partial(
        outline_sheet,
        plan=plan,
        grid=grid,
        tissue=None if settings.whole_region else activation.tissue,
        relabel=activation.relabel,
        n_concepts=n_concepts,
        settings=settings,
        stride_px=stride,
        clip=clip,
        canvas=canvas,
    )
    finish = partial(place, grid=grid, clip=clip, n_concepts=n_concepts)
    cores = os.cpu_count() or 1
    workers = _sheet_workers(cores, encoder.device)
    at_work = Semaphore(workers)

    def outline_and_finish(strip: ActivationMap, *, first_row: int, sheet: Tile) -> tuple[Outlines, Placed | None]:
        """What may go on in other sheets, and what is finished."""
        with at_work:
            found = outline(strip, first_row=first_row, sheet=sheet)
            if clip is not None:  # cuts all at once
                return found, None
            goes_on = on_lines(found.polygons, columns=plan.columns, rows=plan.lines)
            return found.take(goes_on), finish(found.take(~goes_on))

    with ThreadPoolExecutor(cores, thread_name_prefix="sheet") as pool:
        sheets: list[Future[tuple[Outlines, Placed | None]]] = []
        tidied = time.perf_counter()
        try:
            for (first_row, _), row, strip in zip(plan.bands, plan.rows, activation.strips(plan.bands), strict=True):
                sheets += [pool.submit(outline_and_finish, strip, first_row=first_row, sheet=sheet) for sheet in row]
                # Strips wait in memory for their sheets: not more of them than there are at work, and one row.
                for future in sheets[: -len(row) - workers]:
                    future.result()
                stop_if(cancelled)
                if time.perf_counter() - tidied > _TIDY_SECONDS:
                    give_back_free_memory()
                    tidied = time.perf_counter()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        at_work.release(cores)  # the encoder has left the processor to the last row of sheets
        with stage("label"):
            parts = [future.result() for future in sheets]
            del sheets
    seconds["encode"] = activation.encode_seconds
    seconds["factorize"] = activation.factorize_seconds
    with stage("polygons"):
        joined = finish(join_outlines([unfinished for unfinished, _ in parts], plan))
    with stage("measure"):
        classes = _classes(dictionary, n_concepts)
        polygons, summaries = finished([*(placed for _, placed in parts if placed is not None), joined], classes)
    return SegmentationResult(
        run_id=str(uuid.uuid4()),
        image=source.name,
        label_map=LabelMap(labels=canvas.labels(), grid=grid, n_concepts=n_concepts),
        polygons=polygons,
        concepts=summaries,
        encoder=encoder.spec.identifier,
        dictionary=dictionary.identifier if dictionary else learned,
        method=settings.method,
        relative_residual=activation.relative_residual,
        seconds=seconds,
        remarks=activation.look.remarks,
    )


def _sheet_workers(cores: int, device: torch.device) -> int:
    """Sheets outlined at once beside the encoder: a GPU leaves the processor to them."""
    return max(1, cores // 2 if device.type != "cpu" else cores // 4)


def _classes(dictionary: ConceptDictionary | None, n_concepts: int) -> tuple[ConceptClass, ...]:
    return dictionary.classes if dictionary is not None else default_classes(n_concepts)
