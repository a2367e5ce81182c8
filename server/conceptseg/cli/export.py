"""``conceptseg export``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from conceptseg.cli.options import FILE
from conceptseg.domain.errors import ConceptSegError, OutputError
from conceptseg.domain.per_file import PerFile
from conceptseg.qupath.project.entries import ImageEntry, choose, find_project
from conceptseg.qupath.project.table import require_table, rows_of, write_table
from conceptseg.qupath.writer_process import ProjectProcess, WriterDiedError

_LONGEST_NAME = 255
"""Bytes; file systems take no more."""

_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]) *\.", re.IGNORECASE)
"""Names of devices, whatever follows the first dot."""


@click.command()
@click.argument("project", type=FILE)
@click.option("--geojson", type=FILE, help="Folder for one GeoJSON file per image, with all its objects.")
@click.option("--csv", "table", type=FILE, help="Table per image, parent and class: .csv or .parquet.")
@click.option("--images", multiple=True, metavar="GLOB", help="Only images with such a name, e.g. '*.svs'.")
@click.option("--ids", multiple=True, metavar="NUMBER", help="Only images with this number (folder in data/).")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def export(
    project: Path,
    geojson: Path | None,
    table: Path | None,
    images: tuple[str, ...],
    ids: tuple[str, ...],
    as_json: bool,
) -> int:
    """Write what a QuPath project holds as GeoJSON, and as a table of its ConceptSeg results.

    The project is only read. Exit code 0 only if every image was exported.
    """
    if geojson is None and table is None:
        raise click.UsageError("Expected --geojson DIR, --csv FILE, or both.")
    project = find_project(project)
    if table is not None:
        require_table(table)
    if geojson is not None:
        try:
            geojson.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot create {geojson}: {error.strerror or error}. Choose another folder.") from error
    told = PerFile()
    rows = []
    written = []
    failed = 0
    with ProjectProcess(project, write=False) as reader:
        for entry in choose(reader.entries(), patterns=images, identifiers=ids):
            try:
                if geojson is not None:
                    target = geojson / _file_name(entry)
                    count = reader.export_geojson(entry.identifier, target)
                    written.append(str(target))
                    if not as_json:
                        click.echo(f"Wrote {target} ({count} objects)")
                if table is not None:
                    image = entry.identifier
                    rows += rows_of(entry, reader.contents(image), reader.outlines(image))
            except WriterDiedError:
                raise
            except ConceptSegError as error:
                failed += 1
                click.echo(told.line(entry.name, str(error), what="failed"), err=True)
    if table is not None:
        write_table(table, rows)
        written.append(str(table))
        if not as_json:
            click.echo(f"Wrote {table} ({len(rows)} rows)")
    if as_json:
        click.echo(json.dumps({"files": written, "rows": len(rows), "failed": failed}))
    return 1 if failed else 0


def _file_name(entry: ImageEntry) -> str:
    """The image's name, and its number, since names need not differ."""
    name = re.sub(r'[<>:"/\\|?*]', "_", entry.name)
    if _WINDOWS_DEVICE.match(name):
        name = f"_{name}"
    end = f"-{entry.identifier}.geojson"
    return name.encode()[: _LONGEST_NAME - len(end)].decode(errors="ignore") + end
