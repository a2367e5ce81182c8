"""Who calls, and how often at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from conceptseg.rpc.errors import BusyError


def client_of(peer: str) -> str:
    """Whose call it is: another computer's, or one connection of this computer's programs.

    Args:
        peer: What grpc calls the other end, such as ``ipv4:192.0.2.1:50412``.
    """
    address = peer.rpartition(":")[0]
    here = address.startswith("ipv4:127.") or address in ("ipv6:[::1]", "ipv6:%5B::1%5D")
    return address if address.startswith(("ipv4:", "ipv6:")) and not here else peer


class Callers:
    """Counts the calls of every client, so that one cannot take all threads of the server."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()

    @contextmanager
    def call(self, peer: str) -> Iterator[None]:
        """A call goes on.

        Raises:
            BusyError: its client has too many.
        """
        client = client_of(peer)
        with self._lock:
            if self._calls[client] >= self._most:
                raise BusyError(
                    f"This client has {self._most} calls open already. Wait until one of them has ended, or start the "
                    "server with a larger --max-per-client."
                )
            self._calls[client] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[client] -= 1
                if not self._calls[client]:
                    del self._calls[client]


class Requests:
    """Calls whose only message has not come."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._expected: dict[grpc.ServicerContext, float] = {}

    @contextmanager
    def expected(self, context: grpc.ServicerContext) -> Iterator[None]:
        """The message of a call is waited for within this block."""
        with self._lock:
            self._expected[context] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._expected.pop(context, None)

    def cancel_overdue(self) -> None:
        """Hang up on clients that have taken too long."""
        now = time.monotonic()
        with self._lock:
            overdue = [context for context, since in self._expected.items() if now - since > self._seconds]
            for context in overdue:
                del self._expected[context]
        for context in overdue:
            context.cancel()
