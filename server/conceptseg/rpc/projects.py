"""AnnotateProject: what a client may ask, and the server's own part in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shapely import MultiPolygon, Polygon

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, Progress, ReportProgress
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.registry import default_pixel_size_um
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.batch import (
    RERUNS,
    AnnotateProject,
    Job,
    Outcome,
    ProjectRun,
    RunEvent,
    RunStarted,
    Tell,
)
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.segment import segment
from conceptseg.rpc import requests
from conceptseg.rpc.limits import MOST_IMAGES_AT_ONCE, Limits
from conceptseg.rpc.paths import AllowedRoots
from conceptseg.v1 import project_pb2

_SUFFIX = ".qpproj"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a client asks.

    Attributes:
        request: The run.
        encoder: Name of the encoder.
        dictionary: The concepts; None for method ``learned``.
        jobs: Images in work at once.
    """

    request: ProjectRun
    encoder: str
    dictionary: ConceptDictionary | None
    jobs: int


def wish_from_proto(message: project_pb2.AnnotateProjectRequest, *, roots: AllowedRoots, limits: Limits) -> Wish:
    """Check everything that can be checked without the project's content.

    Raises:
        PathNotAllowedError: the project does not lie under a root.
        InvalidRequestError: it is no project, or another value is out of range.
    """
    project = roots.resolve(message.project_path)
    if project.suffix != _SUFFIX:
        raise InvalidRequestError(f"Expected the path of a project.qpproj, got {message.project_path[:500]}.")
    rerun = message.rerun or "replace"
    if rerun not in RERUNS:
        raise InvalidRequestError(f"Expected rerun to be one of {', '.join(RERUNS)}, got {rerun[:100]!r}.")
    jobs = message.images_at_once or 1
    if not 1 <= jobs <= MOST_IMAGES_AT_ONCE:
        raise InvalidRequestError(f"Expected 1 to {MOST_IMAGES_AT_ONCE} images at once, got {jobs}.")
    encoder = message.encoder or "default"
    settings = requests.settings_from_proto(message.settings)
    limits.require_settings(settings)
    learned = settings.method == "learned"
    dictionary = None if learned else requests.dictionary_from_proto(message.dictionary, encoder=encoder)
    image_pixel_size_um = None
    if message.HasField("image_pixel_size_um"):
        image_pixel_size_um = requests.require_pixel_size(message.image_pixel_size_um)
    job = Job(
        encoder=encoder,
        dictionary=dictionary.identifier if dictionary else None,
        pixel_size_um=dictionary.pixel_size_um if dictionary else default_pixel_size_um(encoder),
        image_pixel_size_um=image_pixel_size_um,
        settings=settings.inside(message.within_class),
        within=message.within_class or None,
        rerun=rerun,
        z=_plane_index(message, "z"),
        t=_plane_index(message, "t"),
    )

    def check(slide: Path) -> None:
        roots.resolve(str(project))  # a folder above it may have become a link since
        roots.resolve(str(slide))

    request = ProjectRun(
        project=project,
        job=job,
        images=tuple(message.image_patterns),
        ids=tuple(message.image_ids),
        resume=message.resume,
        check_slide=check,
    )
    return Wish(request=request, encoder=encoder, dictionary=dictionary, jobs=jobs)


def _plane_index(message: project_pb2.AnnotateProjectRequest, name: Literal["z", "t"]) -> int | None:
    if not message.HasField(name):
        return None
    if message.within_class:
        raise InvalidRequestError(f"{name} cannot go with within_class: every annotation lies on a plane of its own.")
    value: int = getattr(message, name)
    if value < 0:
        raise InvalidRequestError(f"Expected {name} >= 0, got {value}.")
    return value


def annotate(
    wish: Wish,
    *,
    annotate: AnnotateProject,
    encoder: Encoder,
    limits: Limits,
    tell: Tell,
    report: ReportProgress,
    cancelled: IsCancelled,
) -> tuple[Outcome, ...]:
    """Do what a client asks.

    Args:
        wish: What it asks.
        annotate: Writes projects.
        encoder: The encoder, shared with other calls.
        limits: What one region may be.
        tell: Told what happens.
        report: Told how many images are done.
        cancelled: Asked before every batch of tiles, and several times per second.

    Raises:
        ConceptSegError: see `AnnotateProject`.
    """

    def segment_region(
        source: PixelSource, *, clip: Polygon | MultiPolygon | None, progress: ReportProgress, cancelled: IsCancelled
    ) -> SegmentationResult:
        requests.require_plausible(source.grid, encoder.spec)
        limits.require_read_px(source.grid)
        return segment(
            source,
            encoder=encoder,
            dictionary=wish.dictionary,
            settings=wish.request.job.settings,
            clip=clip,
            progress=progress,
            cancelled=cancelled,
        )

    total = done = 0

    def tell_and_count(event: RunEvent) -> None:
        nonlocal total, done
        if isinstance(event, RunStarted):
            total = len(event.images)
        elif isinstance(event, Outcome):
            done += 1
        report(Progress(stage="images", done=done, total=total))
        tell(event)

    return annotate(wish.request, segment=segment_region, jobs=wish.jobs, tell=tell_and_count, cancelled=cancelled)
