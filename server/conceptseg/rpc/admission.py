"""Who may work, and who waits for how many."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from conceptseg.rpc.errors import BusyError


class Admission:
    """Lets a few calls work at the same time and the others wait in order of arrival."""

    def __init__(self, *, running: int, waiting: int) -> None:
        self._running, self._waiting = running, waiting
        self._order: list[Turn] = []
        self._changed = threading.Condition()

    @contextmanager
    def enter(self) -> Iterator[Turn]:
        """Take a place; it is free again when the block ends.

        Raises:
            BusyError: too many are waiting.
        """
        turn = Turn(self)
        with self._changed:
            if len(self._order) >= self._running + self._waiting:
                raise BusyError(f"{self._waiting} calls are waiting already. Try again later.")
            self._order.append(turn)
        try:
            yield turn
        finally:
            with self._changed:
                self._order.remove(turn)
                self._changed.notify_all()

    def position(self, turn: Turn, *, timeout: float) -> int:
        """How many calls ``turn`` still waits for, 0 as soon as it may work; returns after ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._order.index(turn) < self._running, timeout)
            return max(0, self._order.index(turn) - self._running + 1)

    @property
    def counts(self) -> tuple[int, int]:
        """Calls at work, and calls that wait."""
        with self._changed:
            running = min(len(self._order), self._running)
            return running, len(self._order) - running


class Turn:
    """A place in the order."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def position(self, *, timeout: float) -> int:
        """See `Admission.position`."""
        return self._admission.position(self, timeout=timeout)
