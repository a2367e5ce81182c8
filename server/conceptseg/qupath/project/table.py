"""How much of which concept every part of a project has, for statistics programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conceptseg.domain.csv_file import write_csv
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.files import replacing
from conceptseg.qupath.project.contents import ACCEPTED, REJECTED, ImageContents, Outline, Result
from conceptseg.qupath.project.entries import ImageEntry

COLUMNS = {
    "image": "string",
    "image_id": "string",
    "parent_id": "string",
    "parent_class": "string",
    "run": "string",
    "dictionary": "string",
    "class": "string",
    "concepts": "string",
    "polygons": "int64",
    "area_um2": "float64",
    "area_percent": "float64",
    "perimeter_um": "float64",
    "mean_activation": "float64",
    "accepted": "int64",
    "rejected": "int64",
    "reassigned": "int64",
}
"""Names and types; one row per image, parent, run and class."""


def rows_of(entry: ImageEntry, contents: ImageContents, outlines: Mapping[str, Outline]) -> list[dict[str, Any]]:
    """The rows of an image.

    ``area_percent`` is the share of what the run labelled inside the same parent; ``mean_activation`` is weighted by
    area. A number that no result has is None. ``accepted``, ``rejected`` and ``reassigned`` count what a person said;
    reassigned ones are counted where they are now.
    """
    parent_classes = {area.identifier: area.class_name or "" for area in contents.areas}
    groups: dict[tuple[str, str, str, str], list[Result]] = defaultdict(list)
    for result in contents.results:
        groups[result.parent or "", result.run, result.dictionary, result.class_name].append(result)
    labelled: dict[tuple[str, str], float] = defaultdict(float)
    for result in contents.results:
        labelled[result.parent or "", result.run] += result.area_px
    rows = []
    for (parent, run, dictionary, class_name), members in sorted(groups.items()):
        measured = [(result, outlines[result.identifier].measurements) for result in members]
        rows.append(
            {
                "image": entry.name,
                "image_id": entry.identifier,
                "parent_id": parent,
                "parent_class": parent_classes.get(parent, ""),
                "run": run,
                "dictionary": dictionary,
                "class": class_name,
                "concepts": ",".join(map(str, sorted({number for result in members for number in result.concepts}))),
                "polygons": len(members),
                "area_um2": _sum(measured, "Area µm^2"),
                "area_percent": 100 * sum(result.area_px for result in members) / (labelled[parent, run] or 1),
                "perimeter_um": _sum(measured, "Perimeter µm"),
                "mean_activation": _mean(measured, "Mean activation"),
                "accepted": sum(result.review == ACCEPTED for result in members),
                "rejected": sum(result.review == REJECTED for result in members),
                "reassigned": sum(result.reassigned is not None for result in members),
            }
        )
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as ``.csv`` or ``.parquet``.

    Raises:
        InvalidRequestError: another suffix, or Parquet without pyarrow.
        OutputError: the file cannot be written; an existing file stays as it was.
    """
    require_table(path)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".csv":
            write_csv(temporary, list(COLUMNS), rows)
        else:
            import pyarrow
            import pyarrow.parquet

            # With types of their own: a table of no results, or without a number, fits to the others.
            schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), temporary)


def require_table(path: Path) -> None:
    """Raise InvalidRequestError unless `write_table` can write ``path``."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise InvalidRequestError(f"Cannot write a table to {path}: expected a name in .csv or .parquet.")
    if suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise InvalidRequestError(
                f"Cannot write {path}: Parquet needs pyarrow. Install it with `pip install 'conceptseg[parquet]'`, or "
                "write .csv."
            ) from error


_Measured = Iterable[tuple[Result, Mapping[str, float]]]


def _sum(measured: _Measured, name: str) -> float | None:
    values = [numbers[name] for _, numbers in measured if name in numbers]
    return sum(values) if values else None


def _mean(measured: _Measured, name: str) -> float | None:
    weighted = [(numbers[name], result.area_px) for result, numbers in measured if name in numbers]
    area = sum(weight for _, weight in weighted)
    return sum(value * weight for value, weight in weighted) / area if area else None
