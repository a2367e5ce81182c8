"""The messages of a streaming client, a few at a time."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

import grpc

from conceptseg.domain.errors import CancelledByCallerError, ConceptSegError
from conceptseg.domain.progress import IsCancelled, stop_if
from conceptseg.rpc.errors import CallTimeError

_Message = TypeVar("_Message")
_POLL_SECONDS = 0.1
_AHEAD = 4


class _End:
    """The client has sent everything."""


class Inbox(Generic[_Message]):
    """Takes messages from the wire in a thread of its own.

    At most `_AHEAD` wait here; beyond that HTTP/2 flow control stops the client, so memory stays bounded however
    fast it sends. Taking them by a thread lets the work give up on a client that says nothing.
    """

    def __init__(self, messages: Iterator[_Message], *, stall_seconds: float, cancelled: IsCancelled) -> None:
        self._messages, self._stall_seconds, self._cancelled = messages, stall_seconds, cancelled
        self._queue: queue.Queue[_Message | _End | Exception] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._ended = False
        threading.Thread(target=self._fill, name="inbox", daemon=True).start()

    def next(self) -> _Message | None:
        """The next message, or None when the client has sent everything.

        Raises:
            CallTimeError: the client fell silent.
            CancelledByCallerError: it went away.
            InvalidRequestError: the message is damaged.
        """
        if self._ended:
            return None
        until = time.monotonic() + self._stall_seconds
        while True:
            try:
                item = self._queue.get(timeout=_POLL_SECONDS)
                break
            except queue.Empty:
                stop_if(self._cancelled)
                if time.monotonic() > until:
                    raise CallTimeError(
                        f"The client sent nothing for {self._stall_seconds:g} s. Send the rest of the tiles and end "
                        "the stream, or start the server with a larger --stall-timeout."
                    ) from None
        if isinstance(item, Exception):
            try:
                raise item
            finally:
                del item  # or it would keep its own traceback, and so the messages, until the next garbage collection
        if isinstance(item, _End):
            self._ended = True
            return None
        return item

    def close(self) -> None:
        """Take no more, and forget what has come."""
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def _fill(self) -> None:
        end: _End | Exception = _End()
        try:
            for message in self._messages:
                if not self._put(message):
                    return
        except ConceptSegError as error:
            end = error.with_traceback(None)
        except grpc.RpcError as error:
            # grpc keeps this error for as long as the call, and its traceback would keep this frame.
            error.__traceback__ = None
            end = CancelledByCallerError("The client went away.")
        self._put(end)

    def _put(self, item: _Message | _End | Exception) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
