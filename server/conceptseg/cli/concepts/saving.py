"""Where commands put the dictionaries they make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from conceptseg.cli.options import FILE
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import OutputError
from conceptseg.factorization.dictionary_file import save_dictionary
from conceptseg.factorization.library import SUFFIX, user_folder

folder_option = click.option("--folder", type=FILE, help="Where to write; default: the user's dictionary folder.")


def save_into(folder: Path | None, dictionaries: Sequence[ConceptDictionary]) -> None:
    """Write dictionaries under their identifiers, and say where; None for the user's folder."""
    folder = folder or user_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create {folder}: {error.strerror}. Choose another --folder.") from error
    for dictionary in dictionaries:
        path = folder / f"{dictionary.identifier}{SUFFIX}"
        save_dictionary(path, dictionary)
        click.echo(f"Wrote {path}")
