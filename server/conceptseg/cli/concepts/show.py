"""``conceptseg concepts show``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.hierarchy import Family
from conceptseg.factorization.library import dictionary_paths


@click.command()
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
        **Family.other_facts(found.provenance),
    }
    family = Family.from_provenance(found.provenance)
    if as_json:
        hierarchy = {
            "coarser dictionary": family.coarser,
            "parents": list(family.parents),
            "finer dictionary": family.finer,
            "children": [list(each) for each in family.children],
        }
        click.echo(json.dumps(facts | (hierarchy if family != Family() else {}), ensure_ascii=False))
        return
    for key, value in facts.items():
        click.echo(f"{key:>28}: {', '.join(value) if isinstance(value, list) else value}")
    for line in _relatives(found, family):
        click.echo(line)


def _relatives(dictionary: ConceptDictionary, family: Family) -> Iterator[str]:
    """One line per concept: what it is part of, and what it is made of."""
    if family.parents:
        yield f"{'coarser dictionary':>28}: {family.coarser}"
    if family.children:
        yield f"{'finer dictionary':>28}: {family.finer}"
    for concept in dictionary.classes if family != Family() else ():
        told = []
        if family.parents:
            told.append(f"part of {family.parents[concept.concept]} of {family.coarser}")
        if family.children:
            parts = ", ".join(map(str, family.children[concept.concept]))
            told.append(f"made of {parts} of {family.finer}")
        yield f"{concept.name:>28}: {'; '.join(told)}"
