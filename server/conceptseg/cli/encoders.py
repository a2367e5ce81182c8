"""``conceptseg encoders``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Table

from conceptseg.cli.console import plain_console
from conceptseg.encoders.registry import known_encoders


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def encoders(as_json: bool) -> None:
    """List the encoders: what they see, what they need, their licence."""
    if as_json:
        click.echo(json.dumps([{**asdict(spec), "arguments": str(spec.arguments)} for spec in known_encoders()]))
        return
    table = Table()
    for column in ("Encoder", "Channels", "Stride px", "Window px", "Halo px", "µm/px", "Licence", "Note"):
        table.add_column(column, overflow="fold")
    for spec in known_encoders():
        table.add_row(
            spec.identifier,
            str(spec.channels),
            str(spec.stride_px),
            str(spec.window_px or "any"),
            str(spec.halo_px),
            f"{spec.pixel_size_um:g}",
            spec.licence + (" (gated)" if spec.gated else ""),
            spec.note,
        )
    console = plain_console()
    console.print(table)
    console.print("Any other: timm:NAME or timm:NAME@LAYER, with --weights FILE for a local checkpoint.")
