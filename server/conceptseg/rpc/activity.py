"""Whether anybody uses the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Activity:
    """Counts calls, for the idle timeout and for giving memory back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._cut_short = False
        self._last = time.monotonic()

    @contextmanager
    def call(self, *, counts: bool) -> Iterator[None]:
        """A call is going on; a health check does not count, or a monitor would keep the server alive."""
        if not counts:
            yield
            return
        with self._lock:
            self._calls += 1
        cut_short = True
        try:
            yield
            cut_short = False
        finally:
            with self._lock:
                self._calls -= 1
                self._last = time.monotonic()
                self._cut_short = cut_short

    @property
    def idle_seconds(self) -> float:
        """Seconds since the last call ended; 0 while there is one."""
        with self._lock:
            return 0.0 if self._calls else time.monotonic() - self._last

    @property
    def cut_short(self) -> bool:
        """Whether the last call was cancelled or failed."""
        return self._cut_short
