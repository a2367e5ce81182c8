"""Segments the images of a project, several at a time, and writes the results into it, one after the other."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from conceptseg.domain.errors import ConceptSegError, WorkerLostError
from conceptseg.domain.progress import IsCancelled, Progress, never_cancelled, stop_if
from conceptseg.pipeline.batch import Image, ImageProgress, ImageStarted, Job, Outcome, Tell, tell_nobody
from conceptseg.qupath.engine import Engine
from conceptseg.qupath.project.contents import Changes, ImageContents
from conceptseg.qupath.project.entries import ImageEntry
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.targets import about_other_classes, choose_targets
from conceptseg.qupath.slide import Segmented, SlideTask, plane_of
from conceptseg.qupath.writer_process import WriterDiedError

_TRIES = 3
_POLL_SECONDS = 0.1


class Writer(Protocol):
    """What a run needs of a `ProjectWriter`, here or in a process of its own."""

    def inspect(self, image: str) -> ImageContents:
        """What an image holds, remembered for `write`."""

    def write(self, image: str, changes: Changes, *, name: str, report: Mapping[str, Any] | None = None) -> None:
        """Change an image that was inspected before, and record it."""


def image_of(entry: ImageEntry) -> Image:
    """An image as events name it."""
    return Image(identifier=entry.identifier, name=entry.name)


def annotate(
    writer: Writer,
    entries: Sequence[ImageEntry],
    *,
    job: Job,
    run: str,
    labels: Labels,
    engine: Engine,
    done_before: Mapping[str, Any] | None = None,
    check_slide: Callable[[Path], object] = lambda _: None,
    rest_seconds: float = 5.0,
    tell: Tell = tell_nobody,
    cancelled: IsCancelled = never_cancelled,
) -> Iterator[Outcome]:
    """Segment images and write the results, image by image.

    Args:
        writer: Writes the project.
        entries: The images.
        job: What to do.
        run: Id of the run, which every object carries.
        labels: Names of the project.
        engine: Segments the slides. A slide whose worker was lost is tried again, three times in all.
        done_before: Images that the run had done before it was resumed.
        check_slide: Raises a ConceptSegError for a slide that must not be opened.
        rest_seconds: How long no new work is given out after a worker was lost.
        tell: Told when an image begins and how far it is, in the thread of the caller.
        cancelled: Asked several times per second.

    Yields:
        What became of each image, in order of finishing; a failed one does not stop the others.

    Raises:
        WriterDiedError: nothing can be written any more.
        CancelledByCallerError: the caller asked to stop; every image is as it was or as it shall be.
    """
    waiting = deque(entries)
    again: deque[_Work] = deque()
    working: dict[Future[Segmented], _Work] = {}
    losses: Counter[str] = Counter()
    resting_until = 0.0
    inbox: SimpleQueue[Future[Segmented] | ImageProgress] = SimpleQueue()

    def submit(work: _Work) -> None:
        image = image_of(work.task.entry)

        def progress(step: Progress) -> None:
            inbox.put(ImageProgress(image=image, progress=step))

        tell(ImageStarted(image=image, reviewed=sum(target.reviewed for target in work.task.targets)))
        future = engine.submit(work.task, progress=progress)
        working[future] = work
        future.add_done_callback(inbox.put)

    def give_out() -> Iterator[Outcome]:
        """Keep the engine busy; yield the images that need no segmenting."""
        while (waiting or again) and len(working) < engine.slots and time.monotonic() >= resting_until:
            stop_if(cancelled)
            if again:
                submit(again.popleft())
                continue
            entry = waiting.popleft()
            if done_before is not None and entry.identifier in done_before:
                report = done_before[entry.identifier]
                yield Outcome(image=image_of(entry), state="resumed", polygons=int(report.get("polygons", 0)))
                continue
            try:
                if entry.slide is not None:
                    check_slide(entry.slide)
                work = _plan(writer, entry, job=job, run=run, labels=labels)
                if work.task.targets:
                    submit(work)
                else:
                    yield _leave(writer, work)
            except WriterDiedError:
                raise
            except ConceptSegError as error:
                yield _failed(entry, error)

    while waiting or again or working:
        yield from give_out()
        stop_if(cancelled)
        try:
            message = inbox.get(timeout=_POLL_SECONDS)
        except Empty:
            continue
        if isinstance(message, ImageProgress):
            tell(message)
            continue
        work = working.pop(message)
        entry = work.task.entry
        error = message.exception()
        if isinstance(error, WorkerLostError) and losses[entry.identifier] < _TRIES - 1:
            losses[entry.identifier] += 1
            resting_until = time.monotonic() + rest_seconds
            again.append(work)
            continue
        yield from give_out()  # the next slide is segmented while this one is written
        if error is not None:
            yield _failed(entry, error)
            continue
        try:
            yield _write(writer, work, message.result())
        except WriterDiedError:
            raise
        except ConceptSegError as failure:
            yield _failed(entry, failure)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """An image that was inspected."""

    task: SlideTask
    skipped: int
    others: str
    seconds: float


def _plan(writer: Writer, entry: ImageEntry, *, job: Job, run: str, labels: Labels) -> _Work:
    plane = plane_of(entry, job)  # says best what is wrong with the slide
    begun = time.perf_counter()
    contents = writer.inspect(entry.identifier)
    targets, skipped = choose_targets(contents, within=job.within, rerun=job.rerun, plane=plane)
    task = SlideTask(entry=entry, targets=targets, job=job, run=run, labels=labels)
    others = about_other_classes(contents, within=job.within)
    return _Work(task=task, skipped=skipped, others=others, seconds=time.perf_counter() - begun)


def _leave(writer: Writer, work: _Work) -> Outcome:
    entry = work.task.entry
    writer.write(entry.identifier, Changes(), name=entry.name, report={"polygons": 0, "replaced": 0})
    if work.skipped:
        return Outcome(image=image_of(entry), state="skipped", write_seconds=work.seconds)
    within = work.task.job.within
    reason = f"There is no annotation of class {within}. {work.others}".rstrip() if within is not None else ""
    return Outcome(image=image_of(entry), state="empty", message=reason, write_seconds=work.seconds)


def _write(writer: Writer, work: _Work, found: Segmented) -> Outcome:
    begun = time.perf_counter()
    entry = work.task.entry
    replaced: frozenset[str] = frozenset().union(*(target.replaces for target in work.task.targets))
    report = {"polygons": len(found.drawn), "replaced": len(replaced)}
    changes = Changes(remove=replaced, add=found.drawn, styles=found.styles)
    writer.write(entry.identifier, changes, name=entry.name, report=report)
    return Outcome(
        image=image_of(entry),
        state="done",
        message=work.others,
        polygons=len(found.drawn),
        replaced=len(replaced),
        segment_seconds=found.seconds,
        write_seconds=work.seconds + time.perf_counter() - begun,
        remarks=found.remarks,
    )


def _failed(entry: ImageEntry, error: BaseException) -> Outcome:
    message = str(error)
    if not isinstance(error, ConceptSegError):  # whatever a slide does to a library, the others go on
        message = f"{type(error).__name__}: {error}. Please report this."
    return Outcome(image=image_of(entry), state="failed", message=message)
