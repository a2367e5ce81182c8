"""Scores of methods on data sets as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MASK_COLUMNS = ("miou", "boundary_f1", "pixel_accuracy", "hungarian_miou", "nmi", "ari")
TILE_COLUMNS = ("accuracy", "purity", "nmi", "ari")


def score_table(report: Mapping[str, Any]) -> str:
    """One table for data sets with masks and one for tiles, where there are any.

    Args:
        report: What `conceptseg evaluate --json` writes.
    """
    sets = report["datasets"]
    masked = {name: data for name, data in sets.items() if "images" in data}
    tiled = {name: data for name, data in sets.items() if "tiles" in data}
    tables = []
    if masked:
        rows = [row for name, data in masked.items() for row in _rows(name, data, MASK_COLUMNS)]
        if "mean" in report:
            rows += _rows(f"mean of {len(masked)}", report["mean"], MASK_COLUMNS)
        tables.append(_table(MASK_COLUMNS, rows))
    if tiled:
        rows = [row for name, data in tiled.items() for row in _rows(name, data, TILE_COLUMNS)]
        tables.append(_table(TILE_COLUMNS, rows))
    return "\n".join(tables)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    header = ["data set", "method", *columns, "off optimum", "seconds"]
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _rows(name: str, data: Mapping[str, Any], columns: Sequence[str]) -> list[list[str]]:
    rows = []
    for method, values in data["methods"].items():
        off = f"{100 * values['inexactness']['other_labels']:.2f} %" if "inexactness" in values else ""
        rows.append([name, method, *_scores(values, columns), off, f"{values['seconds']:.1f}"])
    if "chance" in data:
        rows.append([name, "chance", *_scores(data["chance"], columns), "", ""])
    return rows


def _scores(values: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [
        f"{values[column]['mean']:.3f}" + (f" ± {values[column]['sd']:.3f}" if "sd" in values[column] else "")
        for column in columns
    ]
