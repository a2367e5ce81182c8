"""The messages of a streaming client, a few at a time."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from conceptseg.domain.errors import ConceptSegError
from conceptseg.domain.progress import IsCancelled, stop_if
from conceptseg.rpc.errors import CallTimeError
from conceptseg.rpc.patience import Patience

_Message = TypeVar("_Message")
_POLL_SECONDS = 0.1
_AHEAD = 4
_ENOUGH_TO_BEGIN = 2
"""A header, and something to work on."""

_SLOT_SECONDS = 2.0
"""A client that sends too slowly keeps its call's slot for so long, all its pauses together …"""

_SLOT_RATE = 100_000
"""… and earns a second of it with so many px: less than a slide's reader or a network gives, more than a trickle."""


class _End:
    """The client has sent everything."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What the inbox does with the slot of its call.

    Attributes:
        lend: Let others have it.
        take_back: Wait for it.
    """

    lend: Callable[[], None]
    take_back: Callable[[], None]


class Inbox(Generic[_Message]):
    """Takes messages from the wire in a thread of its own.

    At most `_AHEAD` wait here; beyond that HTTP/2 flow control stops the client, so memory stays bounded however
    fast it sends. Taking them by a thread lets the work give up on a client that says nothing, and lend its slot to
    others while it waits for a slow one.
    """

    def __init__(
        self,
        messages: Iterator[_Message],
        *,
        stall_seconds: float,
        cancelled: IsCancelled,
        pixels: Callable[[_Message], int] = lambda _: 0,
        least_px_per_second: float = 0.0,
        slot: Slot | None = None,
        begin: Callable[[], None] | None = None,
    ) -> None:
        """Make an inbox, which takes messages from `start` on.

        Args:
            messages: Of the client.
            stall_seconds: How long the client may let the server wait; it earns that again with what it sends.
            cancelled: Asked several times per second.
            pixels: Output px of a message.
            least_px_per_second: What the client must send for every second that it lets the server wait, once
                ``stall_seconds`` are used up; 0 if any message will do.
            slot: The slot of the call; None if it keeps it.
            begin: Called once when there is something to work on, or nothing will come; must not block.
        """
        self._messages, self._stall_seconds, self._cancelled = messages, stall_seconds, cancelled
        self._pixels, self._least, self._slot = pixels, least_px_per_second, slot
        self._patience = Patience(stall_seconds, rate=least_px_per_second)
        self._keeps_slot = Patience(_SLOT_SECONDS, rate=_SLOT_RATE, at_first=0.0)
        self._queue: queue.Queue[_Message | _End | Exception] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._ended = False
        self._begin = begin
        self._made = time.monotonic()

    def start(self) -> Self:
        """Begin to take messages."""
        threading.Thread(target=self._fill, name="inbox", daemon=True).start()
        return self

    def next(self) -> _Message | None:
        """The next message, or None when the client has sent everything.

        Raises:
            CallTimeError: the client fell silent, or sends too slowly.
            CancelledByCallerError: it went away.
            InvalidRequestError: the message is damaged.
        """
        if self._ended:
            return None
        item = self._waited_for()
        if isinstance(item, Exception):
            try:
                raise item
            finally:
                del item  # or it would keep its own traceback, and so the messages, until the next garbage collection
        if isinstance(item, _End):
            self._ended = True
            return None
        return item

    def require_begun(self) -> None:
        """Raise CallTimeError if the client has long sent nothing to work on."""
        if self._begin is not None and time.monotonic() - self._made > self._stall_seconds:
            raise self._silent()

    def _waited_for(self) -> _Message | _End | Exception:
        """What comes next. The slot is lent to others while a client lets it wait that has used up its time."""
        started = time.monotonic()
        lent = False
        while True:
            waited = time.monotonic() - started
            keeps_slot = self._keeps_slot.left(waited)
            if self._slot is not None and not lent and keeps_slot <= 0 and self._queue.empty():
                self._slot.lend()
                lent = True
            try:
                item = self._queue.get(timeout=_POLL_SECONDS if lent else max(0.001, min(_POLL_SECONDS, keeps_slot)))
                break
            except queue.Empty:
                stop_if(self._cancelled)
                if self._patience.left(waited) < 0:
                    raise self._silent() if waited > self._stall_seconds else self._too_slow() from None
        waited = time.monotonic() - started
        px = 0 if isinstance(item, _End | Exception) else self._pixels(item)
        self._patience.ended(waited, amount=px)
        self._keeps_slot.ended(waited, amount=px)
        if self._slot is not None and lent:
            self._slot.take_back()
        return item

    def _silent(self) -> CallTimeError:
        return CallTimeError(
            f"The client sent nothing for {self._stall_seconds:g} s. Send the rest of the tiles and end the stream, or "
            "start the server with a larger --stall-timeout."
        )

    def _too_slow(self) -> CallTimeError:
        return CallTimeError(
            f"The client let the server wait for {self._stall_seconds:g} s and longer, and sends less than "
            f"{self._least:g} px per second. Send larger tiles, or start the server with a smaller --min-pixel-rate."
        )

    def close(self) -> None:
        """Take no more, and forget what has come."""
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def _fill(self) -> None:
        end: _End | Exception = _End()
        try:
            for number, message in enumerate(self._messages, start=1):
                if not self._put(message):
                    return
                if number == _ENOUGH_TO_BEGIN:
                    self._let_work_begin()
        except ConceptSegError as error:
            end = error.with_traceback(None)
        self._put(end)
        self._let_work_begin()

    def _let_work_begin(self) -> None:
        begin, self._begin = self._begin, None
        if begin is not None and not self._closed.is_set():
            begin()

    def _put(self, item: _Message | _End | Exception) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
