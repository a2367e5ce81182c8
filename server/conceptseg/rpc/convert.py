"""Results and domain types to messages (`x_to_proto`) and back (`x_from_proto`)."""

from __future__ import annotations

import math
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import cast

import numpy as np
import shapely

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import LabelMap, Labels, label_dtype
from conceptseg.domain.polygons import ConceptPolygon
from conceptseg.domain.progress import Progress
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.encoders.spec import EncoderSpec
from conceptseg.factorization.dictionary_file import save_dictionary
from conceptseg.imaging.glass import Colour, Overview
from conceptseg.imaging.tiles import Tile
from conceptseg.pipeline.batch import (
    Image,
    ImageProgress,
    ImageStarted,
    Outcome,
    RunEvent,
    RunStarted,
    State,
    is_complete,
)
from conceptseg.pipeline.result import ConceptSummary, SegmentationResult
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.pipeline.sheets import LabelCanvas
from conceptseg.rpc.errors import ServerError
from conceptseg.v1 import catalogue_pb2, common_pb2, project_pb2, segment_pb2

_BATCH_BYTES = 512 << 10
_BATCH_POLYGONS = 2000
_LABEL_BYTES = 1 << 20
_ZLIB_LEVEL = 1  # label maps are mostly runs: higher levels take longer and save little


def region_to_proto(region: Region) -> common_pb2.Region:
    """A region."""
    return common_pb2.Region(x=region.x, y=region.y, width=region.width, height=region.height, z=region.z, t=region.t)


def rect_to_proto(tile: Tile) -> common_pb2.OutputRect:
    """A rectangle of output px."""
    return common_pb2.OutputRect(x=tile.x, y=tile.y, width=tile.width, height=tile.height)


def rect_from_proto(message: common_pb2.OutputRect) -> Tile:
    """A rectangle of output px."""
    return Tile(x=message.x, y=message.y, width=message.width, height=message.height)


def grid_to_proto(grid: PixelGrid) -> common_pb2.PixelGrid:
    """A grid, with the size of its own pixels: nothing is lost by rounding."""
    return common_pb2.PixelGrid(
        region=region_to_proto(grid.region),
        width=grid.width,
        height=grid.height,
        grid_pixel_size_um=grid.pixel_size_um,
    )


def settings_to_proto(settings: SegmentSettings) -> common_pb2.SegmentSettings:
    """All settings, so that the server's defaults do not matter.

    Raises:
        InvalidRequestError: a number that does not fit the protocol.
    """
    try:
        return common_pb2.SegmentSettings(
            method=settings.method,
            n_concepts=settings.n_concepts,
            seed=settings.seed,
            tile_px=settings.tile_px,
            whole_region=settings.whole_region,
            min_area_um2=settings.min_area_um2,
            min_hole_area_um2=settings.min_hole_area_um2,
            tolerance_px=settings.tolerance_px,
            glass_colour_rgb=None if settings.glass_colour is None else rgb_to_proto(settings.glass_colour),
            tissue_strictness=settings.tissue_strictness,
        )
    except ValueError as error:
        raise InvalidRequestError(f"A setting cannot be sent to a server: {error}.") from error


def rgb_to_proto(colour: Colour) -> int:
    """A colour as 0xRRGGBB."""
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def rgb_from_proto(rgb: int) -> Colour:
    """Red, green and blue of 0xRRGGBB."""
    return rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255


def overview_to_proto(overview: Overview | None) -> segment_pb2.ImageOverview | None:
    """A whole image as a small picture; None for none."""
    if overview is None:
        return None
    return segment_pb2.ImageOverview(
        image_width=overview.width,
        image_height=overview.height,
        width=overview.columns,
        height=overview.rows,
        rgb=overview.pixels,
    )


def class_to_proto(item: ConceptClass) -> common_pb2.ConceptClass:
    """Name and colour of a concept."""
    red, green, blue = (int(channel) for channel in item.colour)
    return common_pb2.ConceptClass(concept=item.concept, name=item.name, colour_rgb=rgb_to_proto((red, green, blue)))


def class_from_proto(message: common_pb2.ConceptClass) -> ConceptClass:
    """Name and colour of a concept."""
    return ConceptClass(concept=message.concept, name=message.name, colour=rgb_from_proto(message.colour_rgb))


def encoder_to_proto(spec: EncoderSpec, *, loaded: bool) -> catalogue_pb2.EncoderInfo:
    """What clients may know about an encoder."""
    return catalogue_pb2.EncoderInfo(
        identifier=spec.identifier,
        note=spec.note,
        licence=spec.licence,
        gated=spec.gated,
        loaded=loaded,
        pixel_size_um=spec.pixel_size_um,
        stride_px=spec.stride_px,
        halo_px=spec.halo_px,
        window_px=spec.window_px or 0,
        channels=spec.channels,
        source=spec.source,
    )


def dictionary_to_proto(name: str, dictionary: ConceptDictionary) -> catalogue_pb2.DictionaryInfo:
    """A dictionary without its numbers."""
    return catalogue_pb2.DictionaryInfo(
        name=name,
        identifier=dictionary.identifier,
        encoder=dictionary.encoder,
        pixel_size_um=dictionary.pixel_size_um,
        classes=[class_to_proto(item) for item in dictionary.classes],
        provenance=dict(dictionary.provenance),
    )


def dictionary_to_bytes(dictionary: ConceptDictionary) -> bytes:
    """A dictionary as a file."""
    with tempfile.TemporaryDirectory(prefix="conceptseg-") as folder:
        path = Path(folder) / "dictionary.safetensors"
        save_dictionary(path, dictionary)
        return path.read_bytes()


def result_to_events(result: SegmentationResult, *, want_label_map: bool) -> Iterator[segment_pb2.SegmentEvent]:
    """The summary, the polygons in messages of moderate size, and the label map if wanted."""
    yield segment_pb2.SegmentEvent(summary=_summary_to_proto(result))
    for batch in polygons_to_proto(result.polygons):
        yield segment_pb2.SegmentEvent(polygons=batch)
    if want_label_map:
        for rows in labels_to_proto(result.label_map.labels):
            yield segment_pb2.SegmentEvent(label_map_rows=rows)


def result_from_events(events: Iterable[segment_pb2.SegmentEvent]) -> SegmentationResult:
    """The result that `result_to_events` sent with its label map.

    Raises:
        ServerError: something is missing.
    """
    summary: segment_pb2.SegmentSummary | None = None
    polygons: list[ConceptPolygon] = []
    rows: list[segment_pb2.LabelMapRows] = []
    for event in events:
        kind = event.WhichOneof("event")
        if kind == "summary":
            summary = event.summary
        elif kind == "polygons":
            polygons.extend(polygons_from_proto(event.polygons))
        elif kind == "label_map_rows":
            rows.append(event.label_map_rows)
    if summary is None or len(polygons) != summary.polygon_count:
        raise ServerError("The server ended the call without its results. Run it again; its log may say why.")
    grid = PixelGrid(
        region=_region_from_proto(summary.grid.region),
        width=summary.grid.width,
        height=summary.grid.height,
        pixel_size_um=summary.grid.grid_pixel_size_um,
    )
    n_concepts = len(summary.concepts)
    return SegmentationResult(
        run_id=summary.run_id,
        image=summary.image_name,
        label_map=LabelMap(
            labels=labels_from_proto(rows, grid=grid, n_concepts=n_concepts),
            grid=grid,
            n_concepts=n_concepts,
        ),
        polygons=tuple(polygons),
        concepts=tuple(
            ConceptSummary(
                concept_class=class_from_proto(item.concept_class),
                area_um2=item.area_um2,
                area_percent=item.area_percent,
                polygons=item.polygons,
                mean_activation=item.mean_activation,
            )
            for item in summary.concepts
        ),
        encoder=summary.encoder,
        dictionary=summary.dictionary,
        method=summary.method,
        relative_residual=summary.relative_residual if summary.HasField("relative_residual") else math.nan,
        seconds={item.stage: item.seconds for item in summary.stages},
        remarks=tuple(summary.remarks),
    )


def _summary_to_proto(result: SegmentationResult) -> segment_pb2.SegmentSummary:
    return segment_pb2.SegmentSummary(
        run_id=result.run_id,
        image_name=result.image,
        grid=grid_to_proto(result.label_map.grid),
        encoder=result.encoder,
        dictionary=result.dictionary,
        method=result.method,
        relative_residual=None if math.isnan(result.relative_residual) else result.relative_residual,
        stages=[segment_pb2.StageSeconds(stage=stage, seconds=seconds) for stage, seconds in result.seconds.items()],
        concepts=[
            segment_pb2.ConceptSummary(
                concept_class=class_to_proto(item.concept_class),
                area_um2=item.area_um2,
                area_percent=item.area_percent,
                polygons=item.polygons,
                mean_activation=item.mean_activation,
            )
            for item in result.concepts
        ],
        polygon_count=len(result.polygons),
        remarks=result.remarks,
    )


def polygons_to_proto(polygons: Sequence[ConceptPolygon]) -> Iterator[segment_pb2.PolygonBatch]:
    """Batches of polygons that share the names of their measurements, in order."""
    for names, group in groupby(polygons, key=lambda item: tuple(item.measurements)):
        batch, size = segment_pb2.PolygonBatch(measurement_names=names), 0
        for item, wkb in _with_wkb(list(group)):
            batch.polygons.add(concept=item.concept, wkb=wkb, measurements=item.measurements.values())
            size += len(wkb)
            if size >= _BATCH_BYTES:
                yield batch
                batch, size = segment_pb2.PolygonBatch(measurement_names=names), 0
        if batch.polygons:
            yield batch


def _with_wkb(polygons: Sequence[ConceptPolygon]) -> Iterator[tuple[ConceptPolygon, bytes]]:
    for start in range(0, len(polygons), _BATCH_POLYGONS):
        part = polygons[start : start + _BATCH_POLYGONS]
        yield from zip(part, shapely.to_wkb(np.array([item.polygon for item in part], object)), strict=True)


def polygons_from_proto(batch: segment_pb2.PolygonBatch) -> Iterator[ConceptPolygon]:
    """The polygons of a batch."""
    outlines = shapely.from_wkb(np.array([item.wkb for item in batch.polygons], object))
    for item, outline in zip(batch.polygons, outlines, strict=True):
        yield ConceptPolygon(
            concept=item.concept,
            polygon=outline,
            measurements=dict(zip(batch.measurement_names, item.measurements, strict=True)),
        )


def labels_to_proto(labels: Labels) -> Iterator[segment_pb2.LabelMapRows]:
    """The label map in bands of rows, each compressed on its own."""
    little_endian = labels.astype(labels.dtype.newbyteorder("<"), copy=False)
    rows = max(1, _LABEL_BYTES // (labels.shape[1] * labels.itemsize))
    for first in range(0, len(labels), rows):
        band = little_endian[first : first + rows]
        yield segment_pb2.LabelMapRows(
            first_row=first,
            rows=len(band),
            bytes_per_label=labels.itemsize,
            zlib_labels=zlib.compress(np.ascontiguousarray(band).data, _ZLIB_LEVEL),
        )


def labels_from_proto(bands: Sequence[segment_pb2.LabelMapRows], *, grid: PixelGrid, n_concepts: int) -> Labels:
    """The label map, (grid.height, grid.width); a large one is in a temporary file, as in a local run.

    Raises:
        ServerError: rows are missing.
        OutputError: the disk is full.
    """
    if sum(band.rows for band in bands) != grid.height:
        raise ServerError("The server sent an incomplete label map. Run it again; its log may say why.")
    dtype = np.dtype(label_dtype(n_concepts))
    canvas = LabelCanvas(grid, n_concepts=n_concepts)
    for band in bands:
        stored = np.frombuffer(zlib.decompress(band.zlib_labels), dtype.newbyteorder("<")).astype(dtype, copy=False)
        rows = Tile(x=0, y=band.first_row, width=grid.width, height=band.rows)
        canvas.put(stored.reshape(rows.height, rows.width), rows)
    return canvas.labels()


def _region_from_proto(message: common_pb2.Region) -> Region:
    return Region(x=message.x, y=message.y, width=message.width, height=message.height, z=message.z, t=message.t)


def run_event_to_proto(event: RunEvent) -> project_pb2.AnnotateProjectEvent:
    """What a run over a project tells."""
    if isinstance(event, RunStarted):
        started = project_pb2.ProjectStarted(
            run_id=event.run, images=map(_image_to_proto, event.images), warnings=event.warnings
        )
        return project_pb2.AnnotateProjectEvent(started=started)
    image = _image_to_proto(event.image)
    if isinstance(event, ImageStarted):
        begun = project_pb2.ImageStarted(image=image, reviewed_count=event.reviewed)
        return project_pb2.AnnotateProjectEvent(image_started=begun)
    if isinstance(event, ImageProgress):
        step = common_pb2.Progress(stage=event.progress.stage, done=event.progress.done, total=event.progress.total)
        return project_pb2.AnnotateProjectEvent(image_progress=project_pb2.ImageProgress(image=image, progress=step))
    finished = project_pb2.ImageFinished(
        image=image,
        state=event.state,
        message=event.message,
        polygon_count=event.polygons,
        replaced_count=event.replaced,
        segment_seconds=event.segment_seconds,
        write_seconds=event.write_seconds,
        remarks=event.remarks,
    )
    return project_pb2.AnnotateProjectEvent(image_finished=finished)


def run_event_from_proto(message: project_pb2.AnnotateProjectEvent) -> RunEvent | None:
    """What a run over a project tells; None for progress of the call itself and its summary."""
    if message.HasField("started"):
        started = message.started
        return RunStarted(
            run=started.run_id,
            images=tuple(map(_image_from_proto, started.images)),
            warnings=tuple(started.warnings),
        )
    if message.HasField("image_started"):
        begun = message.image_started
        return ImageStarted(image=_image_from_proto(begun.image), reviewed=begun.reviewed_count)
    if message.HasField("image_progress"):
        step = message.image_progress.progress
        return ImageProgress(
            image=_image_from_proto(message.image_progress.image),
            progress=Progress(stage=step.stage, done=step.done, total=step.total),
        )
    if message.HasField("image_finished"):
        finished = message.image_finished
        return Outcome(
            image=_image_from_proto(finished.image),
            state=cast("State", finished.state),
            message=finished.message,
            polygons=finished.polygon_count,
            replaced=finished.replaced_count,
            segment_seconds=finished.segment_seconds,
            write_seconds=finished.write_seconds,
            remarks=tuple(finished.remarks),
        )
    return None


def run_summary_to_proto(outcomes: Sequence[Outcome]) -> project_pb2.AnnotateProjectEvent:
    """The end of a run over a project."""
    counts = Counter(str(outcome.state) for outcome in outcomes)
    summary = project_pb2.ProjectSummary(image_count_by_state=counts, complete=is_complete(outcomes))
    return project_pb2.AnnotateProjectEvent(summary=summary)


def _image_to_proto(image: Image) -> project_pb2.ProjectImage:
    return project_pb2.ProjectImage(id=image.identifier, name=image.name)


def _image_from_proto(message: project_pb2.ProjectImage) -> Image:
    return Image(identifier=message.id, name=message.name)
