"""What all benchmarks share: real pixels, side-by-side timing, one form of result."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from conceptseg.bench.line import Better, Line, medians, time_in_turn
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
    mine, theirs = medians(time_in_turn([ours, baseline], runs=runs))
    return mine, theirs


def result(
    name: str, *, ours: float, baseline: float, unit: str = "s", better: Better = "lower", **detail: Any
) -> dict[str, Any]:
    """One line of the bench, see `Line`."""
    return Line(name=name, ours=ours, baseline=baseline, unit=unit, better=better, detail=detail).as_json()
