"""CSV for statistics programs and spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table as UTF-8 with a header.

    Names come from users, and a spreadsheet takes text that begins like a formula for one: such text gets an apostrophe
    before it, as spreadsheets themselves write text. Numbers stay as they are.

    Args:
        path: Where to.
        columns: Names of the columns, in their order.
        rows: Values by column; None is an empty cell.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
