"""One streaming call: waits for its turn, works, tells its client where it is, and stops when told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

import grpc

from conceptseg.domain.progress import Progress, stop_if
from conceptseg.rpc.admission import Admission
from conceptseg.rpc.errors import CallTimeError
from conceptseg.rpc.limits import Limits
from conceptseg.v1 import common_pb2

_Result = TypeVar("_Result")
_Event = TypeVar("_Event")

_PROGRESS_SECONDS = 0.25
"""At most four messages of progress a second …"""

_HEARTBEAT_SECONDS = 0.75
"""… and, with the step above, at least one, so that a client sees that the server lives."""

_OVERDUE_SECONDS = 5.0
"""Patience beyond the time limit, in which a call ends with a message that says why."""


class Call:
    """What the work of a call needs to know about its client."""

    def __init__(self, context: grpc.ServicerContext, *, limits: Limits) -> None:
        self._ended = threading.Event()
        self._limit = limits.call_seconds
        self._until = time.monotonic() + limits.call_seconds
        self._stage_started = time.monotonic()
        self._latest = Progress(stage="queued", done=0, total=0)
        if not context.add_callback(self._ended.set):
            self._ended.set()

    def cancelled(self) -> bool:
        """Whether the client is gone.

        Raises:
            CallTimeError: the call has taken too long.
        """
        if time.monotonic() > self._until:
            raise CallTimeError(
                f"The call took longer than the {self._limit:g} s that this server allows. Choose a smaller region, or "
                "start the server with a larger --call-timeout."
            )
        return self._ended.is_set()

    @property
    def overdue(self) -> bool:
        """Whether the call should have ended by itself some time ago."""
        return time.monotonic() > self._until + _OVERDUE_SECONDS

    def end(self) -> None:
        """Let the work stop."""
        self._ended.set()

    def report(self, progress: Progress) -> None:
        """Note where the work is."""
        if progress.stage != self._latest.stage:
            self._stage_started = time.monotonic()
        self._latest = progress

    @property
    def latest(self) -> Progress:
        """Where the work is."""
        return self._latest

    def progress(self, *, queue_position: int = 0) -> common_pb2.Progress:
        """Where the work is, for the client."""
        latest = self._latest
        message = common_pb2.Progress(
            stage=latest.stage,
            done=latest.done,
            total=latest.total,
            message=_words(latest, queue_position),
            queue_position=queue_position,
        )
        if 0 < latest.done < latest.total:
            elapsed = time.monotonic() - self._stage_started
            message.seconds_left = elapsed * (latest.total - latest.done) / latest.done
        return message


class Calls:
    """Runs the work of calls in a few threads that live as long as the server."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.admission = Admission(running=limits.running_calls, waiting=limits.waiting_calls)
        # As many threads as calls may run: none is ever waited for. Threads that stay keep their OpenMP helpers
        # and malloc arenas; new ones for every call would make and leave some each time.
        self._threads = ThreadPoolExecutor(limits.running_calls, thread_name_prefix="work")
        self._lock = threading.Lock()
        self._contexts: dict[Call, grpc.ServicerContext] = {}

    def events(
        self,
        context: grpc.ServicerContext,
        work: Callable[[Call], _Result],
        *,
        progress_event: Callable[[common_pb2.Progress], _Event],
        result_events: Callable[[_Result], Iterator[_Event]],
        told: Callable[[], Iterable[_Event]] = tuple,
    ) -> Iterator[_Event]:
        """Progress while ``work`` waits for its turn and runs, what it ``told`` meanwhile, the events of its result."""
        call = Call(context, limits=self.limits)
        with self.admission.enter() as turn, self._known(call, context):
            while ahead := turn.position(timeout=_HEARTBEAT_SECONDS):
                stop_if(call.cancelled)
                yield progress_event(call.progress(queue_position=ahead))
            future = self._threads.submit(copy_context().run, work, call)
            try:
                sent, sent_at = call.latest, time.monotonic()
                while not wait([future], timeout=_PROGRESS_SECONDS).done:
                    yield from told()
                    if call.latest is not sent or time.monotonic() - sent_at >= _HEARTBEAT_SECONDS:
                        sent, sent_at = call.latest, time.monotonic()
                        yield progress_event(call.progress())
                yield from told()
                yield from result_events(future.result())
            finally:
                # Also when the client went away: the place is free when the work has really stopped.
                call.end()
                wait([future])
                del future  # its error's traceback leads back here: a cycle that would keep the pixels alive

    def cancel_overdue(self) -> None:
        """Hang up on clients that do not take their results: sending to them would block for ever."""
        with self._lock:
            overdue = [context for call, context in self._contexts.items() if call.overdue]
        for context in overdue:
            context.cancel()

    @contextmanager
    def _known(self, call: Call, context: grpc.ServicerContext) -> Iterator[None]:
        with self._lock:
            self._contexts[call] = context
        try:
            yield
        finally:
            with self._lock:
                del self._contexts[call]

    def close(self) -> None:
        """End the threads after the work at hand."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _words(progress: Progress, queue_position: int) -> str:
    if queue_position:
        return f"Waiting for {queue_position} other {'calls' if queue_position > 1 else 'call'}"
    words = {
        "queued": "Starting",
        "load": "Loading the encoder",
        "encode": "Reading tissue",
        "learn": "Learning concepts",
        "label": "Labelling pixels",
        "polygons": "Drawing outlines",
        "measure": "Measuring",
        "fit": "Fitting dictionaries",
        "images": "Annotating images",
    }.get(progress.stage, progress.stage)
    return f"{words}: {progress.done} of {progress.total}" if progress.total > 1 else words
