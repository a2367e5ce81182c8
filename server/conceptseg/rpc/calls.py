"""One streaming call: waits for its turn, works, tells its client where it is, and stops when told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from conceptseg.domain.progress import Progress, stop_if
from conceptseg.rpc.admission import Admission, Turn
from conceptseg.rpc.callers import client_of
from conceptseg.rpc.errors import CallTimeError
from conceptseg.rpc.inbox import Inbox, Slot
from conceptseg.rpc.limits import Limits
from conceptseg.rpc.patience import Patience
from conceptseg.v1 import common_pb2

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_Event = TypeVar("_Event", bound=Message)

_PROGRESS_SECONDS = 0.25
"""At most four messages of progress a second …"""

_HEARTBEAT_SECONDS = 0.75
"""… and, with the step above, at least one, so that a client sees that the server lives."""

_AT_ONCE_SECONDS = 0.1
"""Who takes an event within this time does not let the server wait."""

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
        self._sending: float | None = None
        self._takes = Patience(limits.stall_seconds, rate=limits.least_px_per_second)
        self.inbox: Inbox[Any] | None = None
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
        """Whether the call should have ended by itself some time ago, or its client takes too little."""
        now, sending = time.monotonic(), self._sending
        takes_too_little = sending is not None and self._takes.left(now - sending) < 0
        return takes_too_little or now > self._until + _OVERDUE_SECONDS

    def sent(self, events: Iterable[_Event]) -> Iterator[_Event]:
        """The same events, while it is noted how long the client takes for each; bytes count like px."""
        for event in events:
            self._sending = started = time.monotonic()
            yield event
            self._sending, waited = None, time.monotonic() - started
            if waited > _AT_ONCE_SECONDS:
                self._takes.ended(waited, amount=event.ByteSize())

    def end(self) -> None:
        """Let the work stop."""
        self._ended.set()
        if self.inbox is not None:
            self.inbox.close()

    def messages(self) -> Inbox[Any]:
        """What the client sends, for a call to which it sends something."""
        assert self.inbox is not None
        return self.inbox

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
    """Runs the work of calls in threads that live as long as the server."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.admission = Admission(running=limits.running_calls, waiting=limits.waiting_calls)
        # Work that has begun keeps its thread while its client lets it wait, so there may be as many as calls; in
        # fact there are as many as have work at once. Threads that stay keep their OpenMP helpers and malloc arenas;
        # new ones for every call would make and leave some each time.
        self._threads = ThreadPoolExecutor(limits.running_calls + limits.waiting_calls, thread_name_prefix="work")
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
        messages: Iterator[Any] | None = None,
        pixels: Callable[[Any], int] = lambda _: 0,
    ) -> Iterator[_Event]:
        """Progress while ``work`` waits for its turn and runs, what it ``told`` meanwhile, the events of its result.

        The work has its slot only while it has something to do: it begins when ``messages`` have brought something,
        and others have the slot while it waits for more of them. Its slot is free before the result is sent, and no
        event that the client does not take holds the work up.

        Args:
            context: The call.
            work: What is done, in another thread.
            progress_event: Wraps progress.
            result_events: What is sent of the result.
            told: What the work has told since the last time.
            messages: What the client sends, for `Call.inbox`; None if it sends nothing more.
            pixels: Output px of a message.
        """
        call = Call(context, limits=self.limits)
        with self.admission.enter(client_of(context.peer())) as turn, self._known(call, context):
            done: Future[_Result] = Future()
            begin = partial(self._begin, _do, done, turn, partial(copy_context().run, work, call))
            try:
                if messages is None:
                    turn.when_free(begin)
                else:
                    call.inbox = self._inbox(messages, call, turn, begin=begin, pixels=pixels)
                    call.inbox.start()
                yield from call.sent(self._until_done(call, turn, done, told, progress_event))
                result = done.result()
            finally:
                # Also when the client went away: the place is free when the work has really stopped.
                call.end()
                if not done.cancel():
                    wait([done])
                del done, begin  # its error's traceback leads back here: a cycle that would keep the pixels alive
            yield from call.sent(result_events(result))

    def _begin(self, *work: Any) -> None:
        with suppress(RuntimeError):  # the server has ended: whoever waits for the work is told that its call has, too
            self._threads.submit(*work)

    def _until_done(
        self,
        call: Call,
        turn: Turn,
        done: Future[Any],
        told: Callable[[], Iterable[_Event]],
        progress_event: Callable[[common_pb2.Progress], _Event],
    ) -> Iterator[_Event]:
        sent, ahead, sent_at = call.latest, 0, time.monotonic()
        while not wait([done], timeout=_PROGRESS_SECONDS).done:
            yield from told()
            if call.inbox is not None:
                call.inbox.require_begun()
            before, ahead = ahead, turn.ahead
            if call.latest is not sent or ahead != before or time.monotonic() - sent_at >= _HEARTBEAT_SECONDS:
                stop_if(call.cancelled)
                sent, sent_at = call.latest, time.monotonic()
                yield progress_event(call.progress(queue_position=ahead))
        yield from told()

    def _inbox(
        self,
        messages: Iterator[Any],
        call: Call,
        turn: Turn,
        *,
        begin: Callable[[], None],
        pixels: Callable[[Any], int],
    ) -> Inbox[Any]:
        return Inbox(
            messages,
            stall_seconds=self.limits.stall_seconds,
            cancelled=call.cancelled,
            pixels=pixels,
            least_px_per_second=self.limits.least_px_per_second,
            slot=Slot(lend=turn.lend, take_back=partial(turn.take_back, cancelled=call.cancelled)),
            begin=partial(turn.when_free, begin),
        )

    def cancel_overdue(self) -> None:
        """Hang up on clients that do not take what they are sent: sending to them would block for ever."""
        with self._lock:
            overdue = [call for call in self._contexts if call.overdue]
            contexts = [self._contexts.pop(call) for call in overdue]
        for context in contexts:
            _log.info("Hung up on a client that took too long.", extra={"fields": {"peer": context.peer()}})
            context.cancel()

    @contextmanager
    def _known(self, call: Call, context: grpc.ServicerContext) -> Iterator[None]:
        with self._lock:
            self._contexts[call] = context
        try:
            yield
        finally:
            with self._lock:
                self._contexts.pop(call, None)

    def close(self) -> None:
        """End the threads after the work at hand."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _do(done: Future[_Result], turn: Turn, work: Callable[[], _Result]) -> None:
    """Do the work for ``done``, and free its slot before anybody knows."""
    try:
        if not done.set_running_or_notify_cancel():
            turn.lend()
            return
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
            turn.lend()
            done.set_exception(error)
        else:
            turn.lend()
            done.set_result(result)
    finally:
        del done, work  # an error's traceback leads back here: a cycle that would keep the pixels alive


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
