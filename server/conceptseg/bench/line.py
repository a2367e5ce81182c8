"""One line of a benchmark: ours beside a baseline, measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One comparison.

    Attributes:
        name: What is measured.
        ours: Our figure.
        baseline: The other's, of the same run.
        unit: Unit of both.
        better: Which figures are better.
        detail: What the figures depend on.
    """

    name: str
    ours: float
    baseline: float
    unit: str = "s"
    better: Better = "lower"
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Ours against the baseline; larger is better, whatever the unit."""
        return self.baseline / self.ours if self.better == "lower" else self.ours / self.baseline

    def as_json(self) -> dict[str, Any]:
        """The line and its ratio."""
        return {**asdict(self), "ratio": self.ratio}


def time_in_turn(calls: Sequence[Callable[[], Any]], *, runs: int, warm_up: bool = True) -> list[list[float]]:
    """Seconds of every call, (len(calls), runs): run in turn, each once before without counting."""
    if warm_up:
        for call in calls:
            call()
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for index, call in enumerate(calls):
            started = time.perf_counter()
            call()
            seconds[index].append(time.perf_counter() - started)
    return seconds


def medians(seconds: Sequence[Sequence[float]]) -> list[float]:
    """The median of every row."""
    return [statistics.median(row) for row in seconds]
