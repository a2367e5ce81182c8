"""Where slides are segmented, several at a time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Event
from typing import Protocol

from conceptseg.domain.progress import ReportProgress
from conceptseg.pipeline.batch import SegmentRegion
from conceptseg.qupath.slide import Segmented, SlideTask, segment_slide


class Engine(Protocol):
    """Segments slides. What it finds does not depend on how many are in work."""

    slots: int
    """Slides in work at the same time."""

    def submit(self, task: SlideTask, *, progress: ReportProgress) -> Future[Segmented]:
        """Segment a slide. WorkerLostError says that it may well work the next time."""

    def close(self) -> None:
        """Stop whatever is still in work, and wait until it has stopped."""


class Threads:
    """Threads of this process that share its encoder: one copy of the weights, and every batch as if it were alone."""

    def __init__(self, segment: SegmentRegion, *, jobs: int = 1) -> None:
        """Segment ``jobs`` slides at a time with ``segment``."""
        self.slots = jobs
        self._segment = segment
        self._closing = Event()
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="slide")

    def submit(self, task: SlideTask, *, progress: ReportProgress) -> Future[Segmented]:
        """See `Engine.submit`."""
        return self._threads.submit(
            copy_context().run, segment_slide, task, self._segment, progress=progress, cancelled=self._closing.is_set
        )

    def close(self) -> None:
        """See `Engine.close`; takes until the end of a batch of tiles."""
        self._closing.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
