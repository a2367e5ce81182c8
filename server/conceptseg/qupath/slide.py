"""One image of a project, from its slide to results: the part of a run that any computer with the slide can do."""

from __future__ import annotations

import time
from dataclasses import dataclass

import shapely
from shapely import MultiPolygon, Polygon

from conceptseg.domain.errors import ImageError, ProjectError, RegionError
from conceptseg.domain.progress import IsCancelled, ReportProgress
from conceptseg.domain.region import Region
from conceptseg.imaging.reader import ImageReader, open_image
from conceptseg.imaging.source import PixelSource, open_region
from conceptseg.pipeline.batch import Job, SegmentRegion
from conceptseg.qupath.project.contents import Area, ClassStyle
from conceptseg.qupath.project.entries import ImageEntry
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.results import Drawn, results_of
from conceptseg.qupath.project.targets import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class SlideTask:
    """What to segment in an image; can be sent to another process.

    Attributes:
        entry: The image.
        targets: The parts to segment.
        job: How.
        run: Id of the run, which every object carries.
        labels: Names of the project.
    """

    entry: ImageEntry
    targets: tuple[Target, ...]
    job: Job
    run: str
    labels: Labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmented:
    """What was found in an image.

    Attributes:
        drawn: The results.
        styles: The classes of the project's concepts.
        seconds: Time it took.
        remarks: What the user should know about the slide.
    """

    drawn: tuple[Drawn, ...]
    styles: tuple[ClassStyle, ...]
    seconds: float
    remarks: tuple[str, ...] = ()


def segment_slide(
    task: SlideTask, segment: SegmentRegion, *, progress: ReportProgress, cancelled: IsCancelled
) -> Segmented:
    """Segment the targets of an image.

    Raises:
        ConceptSegError: its slide is missing or damaged, an annotation is no area of it, or segmenting failed.
    """
    started = time.perf_counter()
    drawn: list[Drawn] = []
    styles: dict[str, ClassStyle] = {}
    remarks: dict[str, None] = {}  # in order, and once for all annotations
    with open_slide(task.entry) as reader:
        for target in task.targets:
            clip = _shape(target.area, task.entry) if target.area else None
            found = segment(
                _source(reader, task.entry, target.area, clip, task.job),
                clip=clip,
                progress=progress,
                cancelled=cancelled,
            )
            new, used = results_of(
                found,
                run=task.run,
                scope=f"{task.entry.identifier}/{target.parent}",
                parent=target.parent,
                labels=task.labels,
            )
            drawn.extend(new)
            remarks |= dict.fromkeys(found.remarks)
            styles |= {style.name: style for style in used}
    return Segmented(
        drawn=tuple(drawn),
        styles=tuple(styles.values()),
        seconds=time.perf_counter() - started,
        remarks=tuple(remarks),
    )


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
    try:
        there = entry.slide.exists()
    except OSError as error:
        raise ImageError(
            f"{entry.name}: its slide {entry.slide} cannot be reached: {error.strerror or error}. Check its path in "
            "QuPath, and who may read it."
        ) from error
    if not there:
        raise ImageError(
            f"{entry.name}: its slide {entry.slide} is not there. If slides were moved, say from where to where with "
            "--rebase OLD NEW."
        )
    try:
        reader = open_image(entry.slide, series=entry.series)
    except ImageError as error:
        if not entry.series:
            raise
        raise ImageError(
            f"{entry.name}: {error} Or open it in QuPath and use Extensions > ConceptSeg, which works on what QuPath "
            "shows."
        ) from error
    known = (entry.width, entry.height)
    if None not in known and known != (reader.width, reader.height):
        size = f"{reader.width} × {reader.height}"
        reader.close()
        raise ProjectError(
            f"{entry.name}: QuPath shows {known[0]} × {known[1]} px, but {entry.slide} is {size} px here. Open it in "
            "QuPath and use Extensions > ConceptSeg, which works on what QuPath shows."
        )
    return reader


def plane_of(entry: ImageEntry, job: Job) -> tuple[int, int]:
    """The z-slice and time point of what a run segments of a whole image.

    Raises:
        ConceptSegError: the slide cannot be opened, or has no such plane.
    """
    with open_slide(entry) as reader:
        shown = _on_plane(reader, job)
        return shown.z, shown.t


def _on_plane(reader: ImageReader, job: Job) -> ImageReader:
    return reader.at(z=reader.z if job.z is None else job.z, t=reader.t if job.t is None else job.t)


def _source(
    reader: ImageReader, entry: ImageEntry, area: Area | None, clip: Polygon | MultiPolygon | None, job: Job
) -> PixelSource:
    region = _bounds(clip, area, reader, entry) if area and clip else None
    # QuPath lets people correct a slide's calibration: what they set there wins over the file.
    return open_region(
        reader if area else _on_plane(reader, job),
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
