"""What a run over the images of a project is asked, and what it tells: the words of commands, servers and writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from shapely import MultiPolygon, Polygon

from conceptseg.domain.progress import IsCancelled, Progress, ReportProgress, never_cancelled
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.settings import SegmentSettings

Rerun = Literal["replace", "add", "skip"]
RERUNS: tuple[Rerun, ...] = get_args(Rerun)

State = Literal["done", "skipped", "resumed", "empty", "failed"]
STATES: tuple[State, ...] = get_args(State)


class SegmentRegion(Protocol):
    """Segments one region; `conceptseg.pipeline.segment.segment` with encoder, dictionary and settings filled in.

    A run calls it from several threads at once.
    """

    def __call__(
        self,
        source: PixelSource,
        *,
        clip: Polygon | MultiPolygon | None,
        progress: ReportProgress,
        cancelled: IsCancelled,
    ) -> SegmentationResult:
        """Segment ``source`` inside ``clip``."""


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
        z: The z-slice of whole images; None for the one that QuPath shows first.
        t: The time point of whole images; None likewise.
    """

    encoder: str
    dictionary: str | None
    pixel_size_um: float
    image_pixel_size_um: float | None = None
    settings: SegmentSettings = field(default_factory=SegmentSettings)
    within: str | None = None
    rerun: Rerun = "replace"
    z: int | None = None
    t: int | None = None

    def as_json(self) -> dict[str, Any]:
        """What makes two runs the same, as plain values."""
        values = asdict(self)
        settings = values.pop("settings")
        del settings["tile_px"]  # results do not depend on it
        for plane in ("z", "t"):  # runs of versions that knew no planes can be resumed
            if values[plane] is None:
                del values[plane]
        for name in ("glass_colour", "tissue_strictness"):  # runs of versions that did not know them go on
            if settings[name] == getattr(SegmentSettings(), name):
                del settings[name]
        if "glass_colour" in settings:
            settings["glass_colour"] = list(settings["glass_colour"])  # as JSON brings it back
        return {**values, **settings}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectRun:
    """A run over a project.

    Attributes:
        project: The project file.
        job: What to do to every image.
        images: Patterns (``*.svs``) of the names of the images to do; all without patterns and ids.
        ids: Numbers of images to do.
        only: Asked last whether an image, by its number, is to be done.
        resume: Go on with the project's last run.
        rebase: Slides were moved from the first folder to the second.
        force: Write although a QuPath has the project open, or another computer its lock.
        check_slide: Raises a ConceptSegError for a slide that must not be opened.
    """

    project: Path
    job: Job
    images: Sequence[str] = ()
    ids: Sequence[str] = ()
    only: Callable[[str], bool] = lambda _: True
    resume: bool = False
    rebase: tuple[str, Path] | None = None
    force: bool = False
    check_slide: Callable[[Path], object] = lambda _: None


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image of the project.

    Attributes:
        identifier: Its number in the project.
        name: What QuPath calls it.
    """

    identifier: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """The project is open, and these images will be done.

    Attributes:
        run: Id of the run, which every object carries.
        images: The images, in the project's order.
        moved: Slides that are now looked for elsewhere.
        warnings: What the user should know.
    """

    run: str
    images: tuple[Image, ...]
    moved: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageStarted:
    """Work on an image begins, again if whoever segmented it was lost.

    Attributes:
        image: The image.
        reviewed: Earlier results that a person reassigned, accepted or rejected, and that will be replaced.
    """

    image: Image
    reviewed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageProgress:
    """Where the segmentation of an image is."""

    image: Image
    progress: Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of an image.

    Attributes:
        image: The image.
        state: ``done``; ``skipped``, it had results; ``resumed``, the run that is resumed had done it; ``empty``, it
            has no annotation of the class; ``failed``.
        message: Why it failed, or is empty; of one that is done, what was left out.
        polygons: Results written.
        replaced: Earlier results removed.
        segment_seconds: Time spent on segmenting.
        write_seconds: Time spent on reading, writing and verifying the project.
        remarks: What the user should know about its slide.
    """

    image: Image
    state: State
    message: str = ""
    polygons: int = 0
    replaced: int = 0
    segment_seconds: float = 0.0
    write_seconds: float = 0.0
    remarks: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Nothing that was asked for is missing."""
        return self.state != "failed"


RunEvent = RunStarted | ImageStarted | ImageProgress | Outcome
"""In this order; those of different images mix. `ImageProgress` comes from other threads than the others."""

Tell = Callable[[RunEvent], None]


def tell_nobody(_: RunEvent) -> None:
    """Ignore events."""


def is_complete(outcomes: Sequence[Outcome]) -> bool:
    """Whether a run did what it was asked: not one annotation of a class anywhere is a misspelt class, no success."""
    return all(outcome.is_good for outcome in outcomes) and not (
        outcomes and all(outcome.state == "empty" for outcome in outcomes)
    )


class AnnotateProject(Protocol):
    """Segments the images of a project and writes the results into it: `conceptseg.qupath.run.annotate_project`."""

    def __call__(
        self,
        request: ProjectRun,
        *,
        segment: SegmentRegion,
        jobs: int = 1,
        tell: Tell = tell_nobody,
        cancelled: IsCancelled = never_cancelled,
    ) -> tuple[Outcome, ...]:
        """Do it; return what became of every image."""
