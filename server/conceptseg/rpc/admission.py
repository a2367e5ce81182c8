"""Who may work, and who waits for how many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

from conceptseg.domain.progress import IsCancelled, stop_if
from conceptseg.rpc.errors import BusyError

_POLL_SECONDS = 0.1


class _State(Enum):
    IDLE = auto()  # has nothing to do: waits for its client, or has finished
    WAITS = auto()  # for a slot
    WORKS = auto()


class Admission:
    """Lets a few calls work at the same time; those that could work wait in order of arrival.

    A call that waits for its client has no slot, so clients that send nothing keep nobody waiting. One client does not
    get the last slot: another one need not wait until its calls have ended.
    """

    def __init__(self, *, running: int, waiting: int) -> None:
        self._running, self._waiting = running, waiting
        self._share = max(1, running - 1)
        self._order: list[Turn] = []
        self._changed = threading.Condition()

    @contextmanager
    def enter(self, client: str) -> Iterator[Turn]:
        """Take a place in the order for a call of ``client``; it is free again when the block ends.

        Raises:
            BusyError: too many calls are there.
        """
        turn = Turn(self, client)
        with self._changed:
            if len(self._order) >= self._running + self._waiting:
                raise BusyError(f"{self._waiting} calls are waiting already. Try again later.")
            self._order.append(turn)
        try:
            yield turn
        finally:
            with self._changed:
                self._order.remove(turn)
                self._grant()

    @property
    def counts(self) -> tuple[int, int]:
        """Calls at work, and calls that wait for a slot or for their clients."""
        with self._changed:
            running = len(self._at_work())
            return running, len(self._order) - running

    def _at_work(self) -> list[Turn]:
        return [turn for turn in self._order if turn.state is _State.WORKS]

    def _grant(self) -> None:
        """Give free slots to those that waited longest. The condition is held."""
        at_work = self._at_work()
        for turn in self._order:
            if len(at_work) >= self._running:
                break
            if turn.state is _State.WAITS and sum(one.client == turn.client for one in at_work) < self._share:
                turn.state = _State.WORKS
                at_work.append(turn)
                if (begin := turn.begin) is not None:
                    turn.begin = None
                    begin()
        self._changed.notify_all()

    def set(self, turn: Turn, state: _State) -> None:
        """Let ``turn`` be in another state, and give its slot to others or one to it."""
        with self._changed:
            turn.state = state
            self._grant()

    def wait_for_slot(self, turn: Turn, *, cancelled: IsCancelled) -> None:
        """Return when ``turn`` may work."""
        with self._changed:
            while not self._changed.wait_for(lambda: turn.state is _State.WORKS, _POLL_SECONDS):
                stop_if(cancelled)

    def ahead_of(self, turn: Turn) -> int:
        """How many calls ``turn`` waits for, 0 if it does not wait for a slot."""
        with self._changed:
            if turn.state is not _State.WAITS:
                return 0
            waiting = [one for one in self._order if one.state is _State.WAITS]
            return waiting.index(turn) + 1


class Turn:
    """A place in the order."""

    def __init__(self, admission: Admission, client: str) -> None:
        self._admission = admission
        self.client = client
        self.state = _State.IDLE
        self.begin: Callable[[], None] | None = None

    def when_free(self, begin: Callable[[], None]) -> None:
        """Wait for a slot; ``begin``, which must not block, is called once with it."""
        self.begin = begin
        self._admission.set(self, _State.WAITS)

    def lend(self) -> None:
        """Let others have the slot, because there is nothing to do."""
        self._admission.set(self, _State.IDLE)

    def take_back(self, *, cancelled: IsCancelled) -> None:
        """Go on when there is a slot.

        Raises:
            CancelledByCallerError: the client went away before.
        """
        self._admission.set(self, _State.WAITS)
        self._admission.wait_for_slot(self, cancelled=cancelled)

    @property
    def ahead(self) -> int:
        """How many calls this one waits for, 0 if it does not wait for a slot."""
        return self._admission.ahead_of(self)
