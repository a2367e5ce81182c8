"""Segments the images of a project, one after the other, and writes the results into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import shapely
from shapely import MultiPolygon, Polygon

from conceptseg.domain.errors import ConceptSegError, ImageError, ProjectError, RegionError
from conceptseg.domain.progress import ReportProgress, report_nothing
from conceptseg.domain.region import Region
from conceptseg.imaging.reader import ImageReader, open_image
from conceptseg.imaging.source import PixelSource, open_region
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.qupath.project.contents import Area, Changes, ClassStyle, ImageContents
from conceptseg.qupath.project.entries import ImageEntry
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.results import Drawn, results_of
from conceptseg.qupath.project.targets import Rerun, choose_targets
from conceptseg.qupath.writer_process import WriterDiedError

State = Literal["done", "skipped", "resumed", "empty", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a run does to every image.

    Attributes:
        encoder: Identifier of the encoder.
        dictionary: Identifier of the concept dictionary; None where concepts are learned.
        pixel_size_um: µm per px that the encoder is to see.
        image_pixel_size_um: µm per full-resolution px of all images; None to believe QuPath, then the file.
        settings: How regions are segmented.
        within: Class of the annotations to stay inside; None for whole images.
        rerun: What becomes of earlier results.
    """

    encoder: str
    dictionary: str | None
    pixel_size_um: float
    image_pixel_size_um: float | None = None
    settings: SegmentSettings = field(default_factory=SegmentSettings)
    within: str | None = None
    rerun: Rerun = "replace"

    def as_json(self) -> dict[str, Any]:
        """What makes two runs the same, as plain values."""
        values = asdict(self)
        settings = values.pop("settings")
        del settings["tile_px"]  # results do not depend on it
        return {**values, **settings}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of an image.

    Attributes:
        entry: The image.
        state: ``done``; ``skipped``, it had results; ``resumed``, the run that is resumed had done it; ``empty``, it
            has no annotation of the class; ``failed``.
        message: Why it failed.
        polygons: Results written.
        replaced: Earlier results removed.
        segment_seconds: Time spent on segmenting.
        write_seconds: Time spent on reading, writing and verifying the project.
    """

    entry: ImageEntry
    state: State
    message: str = ""
    polygons: int = 0
    replaced: int = 0
    segment_seconds: float = 0.0
    write_seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Nothing that was asked for is missing."""
        return self.state != "failed"


class SegmentRegion(Protocol):
    """Segments one region; `conceptseg.pipeline.segment.segment` with encoder, dictionary and settings filled in."""

    def __call__(
        self, source: PixelSource, *, clip: Polygon | MultiPolygon | None, progress: ReportProgress
    ) -> SegmentationResult:
        """Segment ``source`` inside ``clip``."""


class Writer(Protocol):
    """What a run needs of a `ProjectWriter`, here or in a process of its own."""

    def inspect(self, image: str) -> ImageContents:
        """What an image holds, remembered for `write`."""

    def write(self, image: str, changes: Changes, *, name: str, report: Mapping[str, Any] | None = None) -> None:
        """Change an image that was inspected before, and record it."""


def annotate(
    writer: Writer,
    entries: Sequence[ImageEntry],
    *,
    job: Job,
    run: str,
    labels: Labels,
    segment: SegmentRegion,
    done_before: Mapping[str, Any] | None = None,
    started: Callable[[ImageEntry], None] = lambda _: None,
    progress: ReportProgress = report_nothing,
) -> Iterator[Outcome]:
    """Segment images and write the results, image by image.

    Args:
        writer: Writes the project.
        entries: The images.
        job: What to do.
        run: Id of the run, which every object carries.
        labels: Names of the project.
        segment: Segments one region.
        done_before: Images that the run had done before it was resumed.
        started: Told before each image.
        progress: Told how far the current region is.

    Yields:
        What became of each image; a failed one does not stop the others.

    Raises:
        WriterDiedError: nothing can be written any more.
    """
    for entry in entries:
        started(entry)
        if done_before and entry.identifier in done_before:
            report = done_before[entry.identifier]
            yield Outcome(entry=entry, state="resumed", polygons=int(report.get("polygons", 0)))
            continue
        try:
            yield _annotate_image(writer, entry, job=job, run=run, labels=labels, segment=segment, progress=progress)
        except WriterDiedError:
            raise
        except ConceptSegError as error:
            yield Outcome(entry=entry, state="failed", message=str(error))


def open_slide(entry: ImageEntry) -> ImageReader:
    """The slide of an image, checked to be what QuPath shows.

    Raises:
        ProjectError: QuPath shows something else than the file holds.
        ImageError: the file is missing or damaged.
    """
    if entry.problem or entry.slide is None:
        raise ProjectError(
            f"{entry.name}: {entry.problem or 'it has no file'}. Open it in QuPath and use Extensions > ConceptSeg, "
            "which works on what QuPath shows."
        )
    if not entry.slide.exists():
        raise ImageError(
            f"{entry.name}: its slide {entry.slide} is not there. If slides were moved, say from where to where with "
            "--rebase OLD NEW."
        )
    reader = open_image(entry.slide)
    known = (entry.width, entry.height)
    if None not in known and known != (reader.width, reader.height):
        size = f"{reader.width} × {reader.height}"
        reader.close()
        raise ProjectError(
            f"{entry.name}: QuPath shows {known[0]} × {known[1]} px, but {entry.slide} is {size} px here. Open it in "
            "QuPath and use Extensions > ConceptSeg, which works on what QuPath shows."
        )
    return reader


def _annotate_image(
    writer: Writer,
    entry: ImageEntry,
    *,
    job: Job,
    run: str,
    labels: Labels,
    segment: SegmentRegion,
    progress: ReportProgress,
) -> Outcome:
    with open_slide(entry) as reader:
        begun = time.perf_counter()
        contents = writer.inspect(entry.identifier)
        targets, skipped = choose_targets(contents, within=job.within, rerun=job.rerun)
        inspected = time.perf_counter()
        drawn: list[Drawn] = []
        styles: dict[str, ClassStyle] = {}
        for target in targets:
            clip = _shape(target.area, entry) if target.area else None
            found = segment(_source(reader, entry, target.area, clip, job), clip=clip, progress=progress)
            new, used = results_of(
                found,
                run=run,
                scope=f"{entry.identifier}/{target.parent}",
                parent=target.parent,
                labels=labels,
            )
            drawn.extend(new)
            styles |= {style.name: style for style in used}
    segmented = time.perf_counter()
    replaced = frozenset().union(*(target.replaces for target in targets))
    changes = Changes(remove=replaced, add=tuple(drawn), styles=tuple(styles.values()))
    report = {"polygons": len(drawn), "replaced": len(replaced)}
    writer.write(entry.identifier, changes, name=entry.name, report=report)
    written = time.perf_counter()
    state: State = "done" if targets else "skipped" if skipped else "empty"
    return Outcome(
        entry=entry,
        state=state,
        polygons=len(drawn),
        replaced=len(replaced),
        segment_seconds=segmented - inspected,
        write_seconds=(inspected - begun) + (written - segmented),
    )


def _source(
    reader: ImageReader, entry: ImageEntry, area: Area | None, clip: Polygon | MultiPolygon | None, job: Job
) -> PixelSource:
    region = _bounds(clip, area, reader, entry) if area and clip else None
    # QuPath lets people correct a slide's calibration: what they set there wins over the file.
    return open_region(
        reader,
        region=region,
        pixel_size_um=job.pixel_size_um,
        image_pixel_size_um=job.image_pixel_size_um or entry.pixel_size_um,
    )


def _shape(area: Area, entry: ImageEntry) -> Polygon | MultiPolygon:
    shape = shapely.from_wkb(area.wkb)
    if not isinstance(shape, Polygon | MultiPolygon):
        raise RegionError(f"{entry.name}: the annotation {area.identifier} is no area. Draw an area in QuPath.")
    return shape


def _bounds(shape: Polygon | MultiPolygon, area: Area, reader: ImageReader, entry: ImageEntry) -> Region:
    """The part of the image that holds a shape."""
    whole = Region(x=0, y=0, width=reader.width, height=reader.height, z=area.z, t=area.t)
    around = whole.around(shape.bounds)
    if around is None:
        left, top, right, bottom = shape.bounds
        raise RegionError(
            f"{entry.name}: the annotation {area.identifier} (x {left:g} to {right:g}, y {top:g} to {bottom:g} px) "
            "lies outside the image. Move or delete it in QuPath."
        )
    return around
