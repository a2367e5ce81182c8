"""``conceptseg concepts``: one command per file."""

from __future__ import annotations

import click

from conceptseg.cli.concepts.fit import fit
from conceptseg.cli.concepts.importing import import_
from conceptseg.cli.concepts.listing import list_
from conceptseg.cli.concepts.refine import refine
from conceptseg.cli.concepts.show import show
from conceptseg.cli.concepts.suggest_k import suggest_k_
from conceptseg.cli.concepts.suggest_names import suggest_names_


@click.group()
def concepts() -> None:
    """List, show, fit, import, refine and name concept dictionaries."""


for _command in (list_, show, fit, import_, refine, suggest_k_, suggest_names_):
    concepts.add_command(_command)
