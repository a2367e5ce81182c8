"""What all benchmarks share: real pixels, side-by-side timing, one form of result."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conceptseg.imaging.reader import open_image

SHARED = Path(os.environ.get("CONCEPTSEG_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def tissue(height: int, width: int) -> tuple[np.ndarray, str]:
    """Real tissue of any size: a slide crop where the development data is, else scikit-image's picture, mirrored.

    Returns the pixels uint8 (height, width, 3), and what they are.
    """
    slide = SHARED / "wsi" / "CMU-1-Small-Region.svs"
    if slide.exists():
        with open_image(slide) as reader:
            crop = reader.read(x=700, y=1400, width=1024, height=1024, scale_x=1, scale_y=1)
        source = "H&E, 1024² px of CMU-1-Small-Region.svs"
    else:
        from skimage.data import immunohistochemistry

        crop = immunohistochemistry()
        source = "skimage.data.immunohistochemistry()"
    pad = ((0, max(0, height - crop.shape[0])), (0, max(0, width - crop.shape[1])), (0, 0))
    mirrored = np.ascontiguousarray(np.pad(crop, pad, mode="symmetric")[:height, :width])
    return mirrored, source if mirrored.shape == crop.shape else f"{source}, mirrored to {width} × {height}"


def side_by_side(ours: Callable[[], Any], baseline: Callable[[], Any], *, runs: int = 5) -> tuple[float, float]:
    """Median seconds of both, run in turn; each once before, uncounted (compilation, caches)."""
    pairs = time_in_turn([ours, baseline], runs=runs)
    return statistics.median(pairs[0]), statistics.median(pairs[1])


def time_in_turn(calls: Sequence[Callable[[], Any]], *, runs: int, warm_up: bool = True) -> list[list[float]]:
    """Seconds of every call, (len(calls), runs), run in turn."""
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


def result(
    name: str, *, ours: float, baseline: float, unit: str = "s", better: str = "lower", **detail: Any
) -> dict[str, Any]:
    """One line of the bench: ``ratio`` is ours against the baseline, larger is better."""
    ratio = baseline / ours if better == "lower" else ours / baseline
    return {
        "name": name,
        "ours": ours,
        "baseline": baseline,
        "ratio": ratio,
        "unit": unit,
        "better": better,
        "detail": detail,
    }
