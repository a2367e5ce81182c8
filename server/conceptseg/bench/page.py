"""What was measured, for people: a Markdown table and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conceptseg.bench.growth import SlideRun
from conceptseg.bench.line import Line
from conceptseg.domain.files import replacing


def markdown(machine: Mapping[str, Any], lines: Sequence[Line], runs: Sequence[SlideRun]) -> str:
    """The whole report as Markdown."""
    text = ["# ConceptSeg: benchmark", "", ", ".join(f"{key} {value}" for key, value in machine.items()), ""]
    if lines:
        text += ["| what | ours | baseline | ratio | |", "|---|---|---|---|---|"]
        for line in lines:
            detail = "; ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in line.detail.items())
            ours, baseline = (f"{_short(value)} {line.unit}" for value in (line.ours, line.baseline))
            text.append(f"| {line.name} | {ours} | {baseline} | {line.ratio:.3g} | {detail} |")
        text.append("")
    if runs:
        text += ["| slide | tissue | time | per mm² | peak memory | polygons |", "|---|---|---|---|---|---|"]
        text += [
            f"| {run.side_px:,}² px | {run.tissue_mm2:.1f} mm² | {run.seconds:.1f} s | {run.seconds_per_mm2:.3f} s | "
            f"{run.peak_gib:.2f} GiB | {run.polygons:,} |"
            for run in runs
        ]
        text.append("")
    return "\n".join(text)


def plot(path: Path, runs: Sequence[SlideRun], *, title: str) -> None:
    """Time and memory against tissue, one point per slide; needs matplotlib (extra ``bench``)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    tissue = [run.tissue_mm2 for run in runs]
    time_axes.plot(tissue, [run.seconds for run in runs], "o-", color="#0072B2", label="measured")
    slope = runs[0].seconds_per_mm2
    time_axes.plot(tissue, [slope * area for area in tissue], "--", color="#999999", label="as the first slide")
    time_axes.set(xlabel="tissue, mm²", ylabel="seconds, file to GeoJSON")
    time_axes.legend(frameon=False)
    memory_axes.plot(tissue, [run.peak_gib for run in runs], "o-", color="#D55E00")
    memory_axes.set(xlabel="tissue, mm²", ylabel="peak memory, GiB", ylim=(0, 1.15 * max(run.peak_gib for run in runs)))
    for axes in (time_axes, memory_axes):
        axes.spines[["top", "right"]].set_visible(False)
        for run in runs:
            values = run.seconds if axes is time_axes else run.peak_gib
            axes.annotate(f"{run.side_px // 1000}k²", (run.tissue_mm2, values), (4, -10), textcoords="offset points")
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
