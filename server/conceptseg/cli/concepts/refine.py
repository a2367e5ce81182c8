"""``conceptseg concepts refine``."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import fields
from pathlib import Path

import click

from conceptseg.cli.corrections import corrected_images, named_by_project
from conceptseg.cli.options import FILE, device_option
from conceptseg.cli.progress import progress_bar
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.dictionary_file import load_dictionary, save_dictionary
from conceptseg.factorization.library import SUFFIX, dictionary_paths
from conceptseg.pipeline.refine import refine as refine_rows


@click.command()
@click.argument("dictionary")
@click.option("--from", "project", type=FILE, required=True, help="QuPath project with reassigned polygons.")
@click.option("-o", "--output", type=FILE, required=True, help="The new version (.safetensors); it must not exist.")
@click.option("--images", "patterns", multiple=True, metavar="GLOB", help="Only images with such a name.")
@click.option("--weights", type=FILE, help="Local checkpoint of the encoder.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print what became better or worse as JSON.")
def refine(
    dictionary: str,
    project: Path,
    output: Path,
    patterns: tuple[str, ...],
    weights: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Make a new version of DICTIONARY that learned from the polygons that were reassigned in a project.

    DICTIONARY (name or file) stays as it is. The new version has the names that the project gave to its concepts.
    """
    if output.suffix != SUFFIX:
        raise InvalidRequestError(f"Cannot write a dictionary to {output}: expected a name in {SUFFIX}.")
    if output.exists():
        raise InvalidRequestError(f"{output} exists. Versions are kept: choose another name.")
    parent = load_dictionary(dictionary_paths().get(dictionary, Path(dictionary)))
    images = corrected_images(project, dictionary=parent.identifier, patterns=patterns)
    loaded = load_encoder(parent.encoder, device=device, weights=weights)
    with progress_bar() as progress:
        made = refine_rows(
            images.opened(),
            dictionary=parent,
            encoder=loaded,
            identifier=output.stem,
            provenance={"command": shlex.join(["conceptseg", *sys.argv[1:]])},
            total=len(images),
            progress=progress,
        )
    save_dictionary(output, named_by_project(made.dictionary, project, parent=parent.identifier))
    if as_json:
        facts = {field.name: getattr(made, field.name) for field in fields(made) if field.name != "dictionary"}
        click.echo(json.dumps({"file": str(output), **facts}))
        return
    click.echo(f"Wrote {output}, learned from {made.polygons} reassigned polygons ({made.tokens} tokens).")
    for what, before, now in (
        ("Reassigned tokens with their new concept", made.corrected_before, made.corrected_after),
        ("Other tokens of these concepts with theirs", made.kept_before, made.kept_after),
    ):
        click.echo(f"{what}: {before:.0%} before, {now:.0%} now")
    click.echo(f"Use it with --dictionary {output}")
