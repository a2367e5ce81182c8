"""Where commands put the dictionaries they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from conceptseg.cli.options import FILE
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.factorization.dictionary_file import save_dictionary
from conceptseg.factorization.library import SUFFIX, dictionary_paths, user_folder

folder_option = click.option("--folder", type=FILE, help="Where to write; default: the user's dictionary folder.")


overwrite_option = click.option("--overwrite", is_flag=True, help="Replace dictionaries of the same name.")


def require_new(folder: Path | None, identifiers: Iterable[str], *, overwrite: bool) -> None:
    """Raise InvalidRequestError where results could no longer be told from those of an earlier dictionary."""
    for identifier in identifiers:
        if Path(identifier).name != identifier or "\\" in identifier:
            raise InvalidRequestError(
                f"{identifier!r} is no name for a dictionary: leave out folders, or use --folder."
            )
        known = dictionary_paths().get(identifier) if folder is None else folder / f"{identifier}{SUFFIX}"
        if known is not None and known.exists() and not overwrite:
            raise InvalidRequestError(
                f"There is a dictionary {identifier}: {known}. Labels and results would take the new one for it. "
                "Choose another --name or --folder, or --overwrite."
            )


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
