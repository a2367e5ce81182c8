"""How long work tells its caller where it is, and learns that it is no longer wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conceptseg.domain.errors import CancelledByCallerError


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A step of the work.

    Attributes:
        stage: One word a user understands: ``encode``, ``label``, ``polygons``, ``fit``.
        done: Steps of this stage that are finished.
        total: Steps of this stage.
    """

    stage: str
    done: int
    total: int


ReportProgress = Callable[[Progress], None]
IsCancelled = Callable[[], bool]


def report_nothing(_: Progress) -> None:
    """Ignore progress."""


def never_cancelled() -> bool:
    """Never ask to stop."""
    return False


def stop_if(cancelled: IsCancelled) -> None:
    """Raise CancelledByCallerError once the caller has asked to stop."""
    if cancelled():
        raise CancelledByCallerError("The caller stopped the work; nothing was written.")
