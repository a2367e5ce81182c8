"""``conceptseg labels``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from conceptseg.cli.console import plain_console
from conceptseg.cli.options import FILE
from conceptseg.domain.classes import Colour
from conceptseg.domain.errors import InvalidRequestError, ProjectError
from conceptseg.domain.per_file import PerFile
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths
from conceptseg.pipeline.settings import learned_identifier
from conceptseg.qupath.apply_labels import apply_labels
from conceptseg.qupath.project.classes import class_colours
from conceptseg.qupath.project.entries import choose, find_project
from conceptseg.qupath.project.inside import part_of
from conceptseg.qupath.project.journal import read_journal
from conceptseg.qupath.project.labels import LABELS_FILE, ConceptLabel, Labels
from conceptseg.qupath.project.labels_file import update_labels
from conceptseg.qupath.project.writer import JOURNAL, OWN_FOLDER
from conceptseg.qupath.running import require_closed
from conceptseg.qupath.writer_process import ProjectProcess


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """The labels of a project, and where they are."""

    project: Path
    labels: Labels

    @property
    def file(self) -> Path:
        return part_of(self.project, LABELS_FILE)

    def dictionary(self, chosen: str | None) -> str:
        """The dictionary that is meant: the chosen one, or the only one of this project."""
        if chosen:
            return chosen
        known = set(self.labels.dictionaries)
        try:
            past = read_journal(part_of(self.project, OWN_FOLDER, JOURNAL))
        except ProjectError as error:
            raise InvalidRequestError(f"Say which dictionary with --dictionary. {error}") from error
        if past:
            known |= _dictionary_of(past.settings)
        if len(known) != 1:
            there = f"there are labels or results of {', '.join(sorted(known))}" if known else "nothing is known yet"
            raise InvalidRequestError(f"Say which dictionary with --dictionary ({there}).")
        return known.pop()

    def dictionary_with(self, concepts: Sequence[int], chosen: str | None) -> str:
        """The same; refused if it is at hand and lacks one of ``concepts``. One that is elsewhere may be right."""
        identifier = self.dictionary(chosen)
        file = dictionary_paths().get(identifier)
        if file is not None:
            found = load_dictionary(file).n_concepts
            if max(concepts) >= found:
                raise InvalidRequestError(f"{identifier} has the concepts 0 to {found - 1}, not {max(concepts)}.")
        elif not identifier.startswith("learned-"):
            click.echo(f"There is no dictionary {identifier} on this computer: check its name.", err=True)
        return identifier


def _dictionary_of(settings: Mapping[str, Any]) -> set[str]:
    """The dictionary that a run used; none if its settings do not say."""
    match settings:
        case {"dictionary": str(identifier)}:
            return {identifier}
        case {"dictionary": None, "n_concepts": int(n_concepts), "seed": int(seed)}:
            return {learned_identifier(n_concepts=n_concepts, seed=seed)}
    return set()


class _ColourType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """``#rrggbb`` or ``red,green,blue``."""

    name = "colour"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Colour:
        """Parse the three channels."""
        text = str(value)
        try:
            parts = (
                [int(text[i : i + 2], 16) for i in (1, 3, 5)]
                if text.startswith("#") and len(text) == 7
                else list(map(int, text.split(",")))
            )
            red, green, blue = parts
        except ValueError:
            self.fail(f"expected #rrggbb or red,green,blue, got {text!r}", param, ctx)
        if not all(0 <= channel <= 255 for channel in parts):
            self.fail(f"expected red, green and blue from 0 to 255, got {text!r}", param, ctx)
        return red, green, blue


_concepts = click.argument("concepts", type=click.IntRange(0), nargs=-1, required=True)
_dictionary = click.option("--dictionary", help="Dictionary of the concepts; default: the only one of the project.")


@click.group()
@click.argument("project", type=FILE)
@click.pass_context
def labels(context: click.Context, project: Path) -> None:
    """Name, merge, colour and ignore the concepts of a QuPath project.

    Names are kept in conceptseg-labels.json in the project's folder, which later runs and the QuPath scripts use. Only
    `apply` changes what is in the project already.
    """
    project = find_project(project)
    context.obj = _Opened(project=project, labels=Labels.load(part_of(project, LABELS_FILE)))


@labels.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def list_labels(opened: _Opened, as_json: bool) -> None:
    """Show all labels."""
    rows = [
        (dictionary, concept, label)
        for dictionary in opened.labels.dictionaries
        for concept, label in sorted(opened.labels.of(dictionary).items())
    ]
    if as_json:
        click.echo(json.dumps([_plain(*row) for row in rows], ensure_ascii=False))
        return
    if not rows:
        command = shlex.join(["conceptseg", "labels", str(opened.project.parent), "set", "NUMBER", "NAME"])
        click.echo(f"There are no labels yet. Give one with: {command}")
        return
    table = Table()
    for column in ("Dictionary", "Concept", "Class", "Colour", "Review"):
        table.add_column(column)
    for dictionary, concept, label in rows:
        colour = ",".join(map(str, label.colour)) if label.colour else ""
        table.add_row(dictionary, str(concept), label.class_name or "", colour, label.review or "")
    plain_console().print(table)


@labels.command("set")
@click.argument("concept", type=click.IntRange(0))
@click.argument("name")
@click.option("--colour", type=_ColourType(), help="#rrggbb or red,green,blue; default: QuPath's own for the class.")
@_dictionary
@click.pass_obj
def set_label(opened: _Opened, concept: int, name: str, colour: Colour | None, dictionary: str | None) -> None:
    """Call a CONCEPT by NAME. A name that ends in * is one that QuPath ignores."""
    _name(opened, [concept], name, colour, dictionary)


@labels.command()
@_concepts
@click.option("--into", "name", required=True, help="Name of the class they become.")
@click.option("--colour", type=_ColourType(), help="#rrggbb or red,green,blue; default: QuPath's own for the class.")
@_dictionary
@click.pass_obj
def merge(opened: _Opened, concepts: tuple[int, ...], name: str, colour: Colour | None, dictionary: str | None) -> None:
    """Make one class of several CONCEPTS; where they touch, `apply` makes one annotation of them."""
    _name(opened, concepts, name, colour, dictionary)


@labels.command()
@_concepts
@click.argument("colour", type=_ColourType())
@_dictionary
@click.pass_obj
def colour(opened: _Opened, concepts: tuple[int, ...], colour: Colour, dictionary: str | None) -> None:
    """Give CONCEPTS a COLOUR, as #rrggbb or red,green,blue."""
    identifier = opened.dictionary_with(concepts, dictionary)
    _save(opened, lambda labels: labels.coloured(identifier, concepts, colour))


@labels.command()
@_concepts
@click.option("--not", "undo", is_flag=True, help="No longer ignore them.")
@_dictionary
@click.pass_obj
def ignore(opened: _Opened, concepts: tuple[int, ...], undo: bool, dictionary: str | None) -> None:
    """Have QuPath ignore CONCEPTS: glass, folds, blood."""
    identifier = opened.dictionary_with(concepts, dictionary)
    _save(opened, lambda labels: labels.ignoring(identifier, concepts, ignored=not undo))


@labels.command()
@_concepts
@_dictionary
@click.pass_obj
def remove(opened: _Opened, concepts: tuple[int, ...], dictionary: str | None) -> None:
    """Take away the names, colours and verdicts of CONCEPTS."""
    identifier = opened.dictionary(dictionary)
    _save(opened, lambda labels: labels.without(identifier, concepts))


@labels.command("export")
@click.argument("file", type=FILE)
@click.pass_obj
def export_labels(opened: _Opened, file: Path) -> None:
    """Write the labels to FILE, for another project."""
    if file.suffix.lower() != ".json":
        raise InvalidRequestError(f"{file}: expected a name that ends in .json.")
    opened.labels.save(file)
    click.echo(f"Wrote {file}")


@labels.command("import")
@click.argument("file", type=FILE)
@click.pass_obj
def import_labels(opened: _Opened, file: Path) -> None:
    """Add the labels in FILE; they win over those of this project."""
    if not file.is_file():
        raise InvalidRequestError(f"There is no file {file}. Expected labels that `labels PROJECT export` wrote.")
    imported = Labels.load(file)
    _save(opened, lambda labels: labels.joined(imported))


@labels.command("apply")
@click.option("--images", multiple=True, metavar="GLOB", help="Only images with such a name, e.g. '*.svs'.")
@click.option(
    "--force", is_flag=True, help="Write although a QuPath has the project open, or another computer its lock."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
@click.pass_obj
def apply(opened: _Opened, images: tuple[str, ...], force: bool, as_json: bool) -> int:
    """Give the results that are in the project the names, colours and merges of the labels.

    Exit code 0 only if every image was done.
    """
    failed, told = 0, PerFile()
    with ProjectProcess(opened.project, write=True, force=force) as writer:
        entries = choose(writer.entries(), patterns=images)
        for warning in require_closed(opened.project, [e.slide for e in entries if e.slide], force=force):
            click.echo(warning, err=True)
        for applied in apply_labels(writer, entries, opened.labels, colours=class_colours(opened.project)):
            entry, change = applied.entry, applied.change
            if change is None:
                failed += 1
                click.echo(told.line(entry.name, applied.message, what="failed"), err=True)
                continue
            if as_json:
                facts = {"renamed": change.renamed, "joined": change.joined, "ambiguous": change.ambiguous}
                click.echo(json.dumps({"image": entry.name, **facts}, ensure_ascii=False))
                continue
            click.echo(f"{entry.name}: {change.renamed} annotations renamed, {change.joined} joined to neighbours")
            if change.ambiguous:
                click.echo(
                    f"{entry.name}: {change.ambiguous} annotations were joined from concepts that have different names "
                    "now, and stay as they are. Annotate again to separate them.",
                    err=True,
                )
    return 1 if failed else 0


def _name(opened: _Opened, concepts: Sequence[int], name: str, colour: Colour | None, dictionary: str | None) -> None:
    identifier = opened.dictionary_with(concepts, dictionary)

    def change(labels: Labels) -> Labels:
        named = labels.named(identifier, concepts, name)
        return named.coloured(identifier, concepts, colour) if colour else named

    _save(opened, change)


def _save(opened: _Opened, change: Callable[[Labels], Labels]) -> None:
    update_labels(opened.file, change)
    command = shlex.join(["conceptseg", "labels", str(opened.project.parent), "apply"])
    click.echo(f"Wrote {opened.file}. `{command}` renames what is there already.")


def _plain(dictionary: str, concept: int, label: ConceptLabel) -> dict[str, object]:
    return {
        "dictionary": dictionary,
        "concept": concept,
        "name": label.name,
        "class": label.class_name,
        "colour": list(label.colour) if label.colour else None,
        "ignored": label.ignored,
        "review": label.review,
    }
