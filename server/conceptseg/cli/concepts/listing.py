"""``conceptseg concepts list``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.table import Table

from conceptseg.cli.console import plain_console
from conceptseg.domain.errors import DictionaryError
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths, shipped_folder


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_(as_json: bool) -> None:
    """List the dictionaries that --dictionary knows by name."""
    rows: list[tuple[str, str, int | None, float | None, str]] = []
    for name, path in dictionary_paths().items():
        try:
            found = load_dictionary(path)
            rows.append((name, found.encoder, found.n_concepts, found.pixel_size_um, str(path)))
        except DictionaryError as error:
            rows.append((name, "", None, None, f"damaged: {error}"))
    keys = ("dictionary", "encoder", "k", "pixel_size_um", "file")
    if as_json:
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    table = Table()
    for key in keys:
        table.add_column(key, overflow="fold", no_wrap=key != "file")  # the others are there to be typed
    for row in rows:
        *facts, file = row
        where = "shipped" if Path(file).parent == shipped_folder() else file
        table.add_row(*("" if fact is None else str(fact) for fact in facts), where)
    plain_console().print(table)
