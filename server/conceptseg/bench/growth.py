"""How time and memory grow with the slide."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from conceptseg.bench.line import Line
from conceptseg.bench.process import measured_apart
from conceptseg.bench.slides import synthetic_slide
from conceptseg.imaging.levels import Rgb


@dataclass(frozen=True, kw_only=True)
class SlideRun:
    """One slide in a process of its own.

    Attributes:
        side_px: Side of the slide.
        tissue_mm2: Labelled area.
        seconds: File to GeoJSON, start-up and loading excluded.
        peak_gib: Peak resident memory of the process.
        polygons: Polygons found.
    """

    side_px: int
    tissue_mm2: float
    seconds: float
    peak_gib: float
    polygons: int

    @property
    def seconds_per_mm2(self) -> float:
        """Seconds per mm² of tissue."""
        return self.seconds / self.tissue_mm2


def grow(
    texture: Rgb, *, sides_px: Sequence[int], share: float, encoder: str, device: str, k: int
) -> Iterator[SlideRun]:
    """Segment slides of growing size with the same share of tissue, each in a process of its own."""
    for side in sides_px:
        with tempfile.TemporaryDirectory(prefix="conceptseg-bench-") as folder:
            slide = Path(folder) / "slide.tif"
            synthetic_slide(slide, texture, side_px=side, tissue_share=share)
            yield SlideRun(side_px=side, **measured_apart("conceptseg.bench.one_slide", slide, encoder, device, k))


def linearity(runs: Sequence[SlideRun]) -> Line:
    """``wsi_linear``: time per mm² of the last slide against the first."""
    first, last = runs[0], runs[-1]
    return Line(
        name="wsi_linear",
        ours=last.seconds_per_mm2,
        baseline=first.seconds_per_mm2,
        unit="s/mm²",
        detail={
            "slides": f"{last.side_px}² against {first.side_px}² px",
            "peak_memory": f"{last.peak_gib:.2f} against {first.peak_gib:.2f} GiB",
            "times_the_memory": last.peak_gib / first.peak_gib,
        },
    )


def as_json(runs: Sequence[SlideRun]) -> list[dict[str, float]]:
    """The runs and what follows from them."""
    return [{**asdict(run), "seconds_per_mm2": run.seconds_per_mm2} for run in runs]
