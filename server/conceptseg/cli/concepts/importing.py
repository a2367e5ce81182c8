"""``conceptseg concepts import``."""

from __future__ import annotations

from pathlib import Path

import click

from conceptseg.cli.concepts.saving import folder_option, overwrite_option, require_new, save_into
from conceptseg.cli.options import FILE
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DictionaryError
from conceptseg.encoders.registry import get_spec, is_timm_name, known_encoders
from conceptseg.factorization.published import read_published


@click.command("import")
@click.argument("file", type=FILE)
@click.option("--encoder", required=True, help="Encoder the centres belong to: resnet50, uni, prov-gigapath, …")
@click.option("--k", "ks", type=int, multiple=True, help="Only these k; default: all in the file.")
@folder_option
@overwrite_option
def import_(file: Path, encoder: str, ks: tuple[int, ...], folder: Path | None, overwrite: bool) -> None:
    """Convert the published joblib FILE. Nothing in it is executed."""
    if is_timm_name(encoder):
        raise DictionaryError(f"No published dictionary is for {encoder}. {_encoders()}")
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
        if dictionary.channels != spec.channels:
            fitting = _encoders(channels=dictionary.channels)
            raise DictionaryError(
                f"The centres in {file} have {dictionary.channels} channels, and {encoder} has {spec.channels}. "
                f"{fitting}"
            )
    require_new(folder, (dictionary.identifier for dictionary in made), overwrite=overwrite)
    save_into(folder, made)


def _encoders(*, channels: int | None = None) -> str:
    """Which encoders the file can be for, as a sentence."""
    names = [spec.identifier for spec in known_encoders() if channels in (None, spec.channels)]
    if not names:
        return f"No encoder here has {channels} channels, so the file cannot be used. `conceptseg encoders` lists them."
    return f"Choose the --encoder that it was made with: {' or '.join(names)}."
