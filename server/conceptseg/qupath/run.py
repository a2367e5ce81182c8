"""A run over a project, from taking it to giving it back: what ``conceptseg annotate`` and AnnotateProject do."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from conceptseg.domain.progress import IsCancelled, never_cancelled
from conceptseg.pipeline.batch import Outcome, ProjectRun, RunStarted, SegmentRegion, Tell, tell_nobody
from conceptseg.qupath.batch import annotate, image_of
from conceptseg.qupath.engine import Engine, Threads
from conceptseg.qupath.project.contents import ProjectBackend
from conceptseg.qupath.project.entries import (
    ImageEntry,
    choose,
    entries_of,
    read_document,
    read_entries,
    require_rebase,
)
from conceptseg.qupath.project.inside import part_of
from conceptseg.qupath.project.labels import LABELS_FILE, Labels
from conceptseg.qupath.project_writer import PaquoBackend
from conceptseg.qupath.running import require_closed
from conceptseg.qupath.writer_process import ProjectProcess


def annotate_project(
    request: ProjectRun,
    *,
    engine: Engine,
    tell: Tell = tell_nobody,
    cancelled: IsCancelled = never_cancelled,
    prepare: Callable[[], object] = lambda: None,
    backend: Callable[[], ProjectBackend] = PaquoBackend,
) -> tuple[Outcome, ...]:
    """Segment the images of a project and write the results into it.

    Args:
        request: What to do.
        engine: Segments the slides.
        tell: Told what happens, in the thread of the caller.
        cancelled: Asked several times per second.
        prepare: Called while QuPath starts; raises what keeps the run from beginning.
        backend: Makes the QuPath to write with; importable by name.

    Returns:
        What became of every image, in order of finishing.

    Raises:
        ConceptSegError: the project cannot be opened, somebody else has it, there is nothing to resume, or the writer
            died; every image is as it was or as it shall be.
    """
    job = request.job
    labels = Labels.load(part_of(request.project, LABELS_FILE))
    with ProjectProcess(request.project, write=True, force=request.force, backend=backend) as writer:
        prepare()
        slides = [entry.slide for entry in writer.entries() if entry.slide]  # where they are said to be now
        chosen = choose(_entries(request), patterns=request.images, identifiers=request.ids)
        entries = [entry for entry in chosen if request.only(entry.identifier)]
        slides = [entry.slide for entry in entries if entry.slide] + (slides if request.rebase else [])
        warnings = require_closed(request.project, slides, force=request.force)
        run, done_before = str(uuid.uuid4()), dict[str, Any]()
        if request.resume:
            past = writer.resume_run(settings=job.as_json())
            run, done_before = past.run, past.done
        elif entries:
            writer.start_run(run=run, settings=job.as_json())
        # Only now: a run that is refused leaves the project as it was.
        moved = writer.rebase(old=request.rebase[0], new=request.rebase[1]) if request.rebase else 0
        warnings = [*moved_together(entries_of(read_document(request.project)), entries), *warnings]
        tell(RunStarted(run=run, images=tuple(map(image_of, entries)), moved=moved, warnings=tuple(warnings)))
        outcomes = []
        for outcome in annotate(
            writer,
            entries,
            job=job,
            run=run,
            labels=labels,
            engine=engine,
            done_before=done_before,
            check_slide=request.check_slide,
            tell=tell,
            cancelled=cancelled,
        ):
            outcomes.append(outcome)
            tell(outcome)
    return tuple(outcomes)


def _entries(request: ProjectRun) -> tuple[ImageEntry, ...]:
    """The images of the project, with their slides where they will be looked for."""
    if request.rebase:
        require_rebase(read_document(request.project), old=request.rebase[0], new=request.rebase[1])
    return read_entries(request.project, rebase=request.rebase)


def moved_together(listed: Sequence[ImageEntry], found: Sequence[ImageEntry]) -> list[str]:
    """A sentence about slides that are not where the project lists them, if there are any."""
    places = {entry.identifier: entry.slide for entry in listed}
    slides = [entry.slide for entry in found if entry.slide and entry.slide != places.get(entry.identifier)]
    if not slides:
        return []
    images = f"{len(slides)} slides are" if len(slides) > 1 else "1 slide is"
    return [
        f"{images} not where the project says, and taken from the same place relative to the project: "
        f"{slides[0].parent}."
    ]


def annotate_in_threads(
    request: ProjectRun,
    *,
    segment: SegmentRegion,
    jobs: int = 1,
    tell: Tell = tell_nobody,
    cancelled: IsCancelled = never_cancelled,
) -> tuple[Outcome, ...]:
    """`annotate_project` with the slides segmented in threads of this process, ``jobs`` at a time."""
    with closing(Threads(segment, jobs=jobs)) as engine:
        return annotate_project(request, engine=engine, tell=tell, cancelled=cancelled)
