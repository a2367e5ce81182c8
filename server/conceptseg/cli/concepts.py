"""``conceptseg concepts``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from conceptseg.cli.corrections import corrected_images, named_by_project
from conceptseg.cli.options import FILE, encoder_options
from conceptseg.cli.progress import progress_bar
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DictionaryError, InvalidRequestError, OutputError
from conceptseg.encoders.load import load_encoder
from conceptseg.encoders.registry import get_spec
from conceptseg.factorization.dictionary_file import load_dictionary, save_dictionary
from conceptseg.factorization.library import SUFFIX, dictionary_paths, user_folder
from conceptseg.factorization.published import read_published
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import RegionSource, open_region
from conceptseg.pipeline.fit import fit_concepts
from conceptseg.pipeline.refine import refine as refine_rows

_IMAGES = {".svs", ".ndpi", ".mrxs", ".scn", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".vms", ".bif"}


@click.group()
def concepts() -> None:
    """List, show, fit, import and refine concept dictionaries."""


@concepts.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_(as_json: bool) -> None:
    """List the dictionaries that --dictionary knows by name."""
    rows = []
    for name, path in dictionary_paths().items():
        try:
            found = load_dictionary(path)
            rows.append((name, found.encoder, str(found.n_concepts), f"{found.pixel_size_um:g}", str(path)))
        except DictionaryError as error:
            rows.append((name, "", "", "", f"damaged: {error}"))
    keys = ("dictionary", "encoder", "k", "pixel_size_um", "file")
    if as_json:
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    table = Table(*keys)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@concepts.command()
@click.argument("dictionary")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(dictionary: str, as_json: bool) -> None:
    """Show what DICTIONARY (name or file) is and how it came about."""
    found = load_dictionary(dictionary_paths().get(dictionary, Path(dictionary)))
    unit = found.concepts / np.maximum(np.linalg.norm(found.concepts, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, 0)
    facts = {
        "identifier": found.identifier,
        "encoder": found.encoder,
        "n_concepts": found.n_concepts,
        "channels": found.channels,
        "pixel_size_um": found.pixel_size_um,
        "most similar pair (cosine)": round(float(similarity.max()), 4),
        "names": [item.name for item in found.classes],
        **found.provenance,
    }
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for key, value in facts.items():
        click.echo(f"{key:>28}: {', '.join(value) if isinstance(value, list) else value}")


@concepts.command("import")
@click.argument("file", type=FILE)
@click.option("--encoder", required=True, help="Encoder the centres belong to: resnet50, uni, prov-gigapath, …")
@click.option("--k", "ks", type=int, multiple=True, help="Only these k; default: all in the file.")
@click.option("--folder", type=FILE, help="Where to write; default: the user's dictionary folder.")
def import_(file: Path, encoder: str, ks: tuple[int, ...], folder: Path | None) -> None:
    """Convert the published joblib FILE. Nothing in it is executed."""
    spec = get_spec(encoder)
    published = read_published(file)
    missing = set(ks) - set(published)
    if missing:
        raise DictionaryError(f"{file} has k = {', '.join(map(str, published))}, not {', '.join(map(str, missing))}.")
    made = [
        ConceptDictionary(
            identifier=f"{encoder}-k{k}",
            concepts=centres,
            encoder=encoder,
            pixel_size_um=spec.pixel_size_um,
            provenance={
                "source": f"published F-SEG dictionary (arXiv 2409.05697, Apache-2.0), file {file.name}, k = {k}",
                "layer": spec.layer,
            },
        )
        for k, centres in published.items()
        if not ks or k in ks
    ]
    for dictionary in made:
        dictionary.require_encoder(encoder, channels=spec.channels)
    _save(made, folder)


@concepts.command()
@click.argument("images", type=FILE, nargs=-1, required=True)
@click.option("--k", "ks", type=int, multiple=True, required=True, help="Number of concepts; repeat for several.")
@encoder_options
@click.option("--name", help="Dictionary name, with k appended; default: the encoder's name.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--tokens-per-image", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--folder", type=FILE, help="Where to write; default: the user's dictionary folder.")
def fit(
    images: tuple[Path, ...],
    ks: tuple[int, ...],
    encoder: str,
    weights: Path | None,
    device: str,
    pixel_size_um: float | None,
    name: str | None,
    seed: int,
    tokens_per_image: int,
    folder: Path | None,
) -> None:
    """Fit dictionaries on IMAGES (files, or folders that are searched for images).

    Tissue tokens are sampled evenly over the images; the same images, seed and encoder give the same result.
    --pixel-size-um is used for images that carry no calibration.
    """
    if any(k < 1 for k in ks):
        raise InvalidRequestError(f"Expected every --k >= 1, got {min(ks)}.")
    files = _image_files(images)
    loaded = load_encoder(encoder, device=device, weights=weights)

    def regions() -> Iterator[RegionSource]:
        for file in files:
            with open_image(file) as reader:
                yield open_region(
                    reader,
                    region=None,
                    pixel_size_um=loaded.spec.pixel_size_um,
                    image_pixel_size_um=pixel_size_um if reader.pixel_size_um is None else None,
                )

    with progress_bar() as progress:
        made = fit_concepts(
            regions(),
            encoder=loaded,
            ks=sorted(set(ks)),
            seed=seed,
            tokens_per_source=tokens_per_image,
            provenance={"command": shlex.join(["conceptseg", *sys.argv[1:]]), "images": str(len(files))},
            total=len(files),
            progress=progress,
        )
    if name:
        made = tuple(replace(item, identifier=f"{name}-k{item.n_concepts}") for item in made)
    _save(made, folder)


@concepts.command()
@click.argument("dictionary")
@click.option("--from", "project", type=FILE, required=True, help="QuPath project with reassigned polygons.")
@click.option("-o", "--output", type=FILE, required=True, help="The new version (.safetensors); it must not exist.")
@click.option("--images", "patterns", multiple=True, metavar="GLOB", help="Only images with such a name.")
@click.option("--weights", type=FILE, help="Local checkpoint of the encoder.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
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


def _image_files(paths: tuple[Path, ...]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = sorted(item for item in path.rglob("*") if item.suffix.lower() in _IMAGES) if path.is_dir() else [path]
        if not found:
            raise InvalidRequestError(f"{path} holds no image. Expected files ending in {', '.join(sorted(_IMAGES))}.")
        files.extend(found)
    return files


def _save(dictionaries: tuple[ConceptDictionary, ...] | list[ConceptDictionary], folder: Path | None) -> None:
    folder = folder or user_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create {folder}: {error.strerror}. Choose another --folder.") from error
    for dictionary in dictionaries:
        path = folder / f"{dictionary.identifier}{SUFFIX}"
        save_dictionary(path, dictionary)
        click.echo(f"Wrote {path}")
