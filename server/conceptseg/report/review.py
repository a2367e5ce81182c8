"""What every concept is called, coloured and judged now: the part of a report that people change."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from conceptseg.domain.classes import Colour, default_classes
from conceptseg.report.evidence import Concept, Evidence, Label

_OWN_NAME = re.compile(r"Concept (\d+)")


def review_of(
    evidence: Evidence, concepts: Sequence[Concept], labels: Mapping[tuple[str, int], Label]
) -> list[dict[str, Any]]:
    """Name, colour and verdict of every concept, as plain values that JSON can hold.

    A label wins over the class of the results, which may not have been brought in line yet; without either, a concept
    has the name and colour of its dictionary.

    Args:
        evidence: What the report shows.
        concepts: Its concepts.
        labels: (dictionary, concept) -> what people said; those of ``evidence``, or newer ones.

    Returns:
        Per concept ``name`` (null until it is named), ``colour``, ``chosen`` (somebody chose the colour), ``ignored``
        and ``review``.
    """
    classes = _largest_classes(evidence)
    own_names = own_names_of(evidence, concepts)
    n_default = max((concept.members[0] for concept in concepts), default=0) + 1
    defaults = default_classes(n_default)
    rows = []
    for concept, own_name in zip(concepts, own_names, strict=True):
        said = [labels.get((concept.dictionary, member), Label()) for member in concept.members]
        name = next((label.name for label in said if label.name), None)
        ignored = any(label.ignored for label in said)
        if not any(label != Label() for label in said):
            name, ignored = _from_class(classes.get((concept.dictionary, concept.members[0])), concept)
        chosen = next((label.colour for label in said if label.colour), None)
        in_qupath = evidence.class_colours.get(_class_name(name, ignored=ignored) or own_name)
        dictionary = evidence.dictionaries.get(concept.dictionary)
        own = dictionary.classes if dictionary and concept.members[0] < dictionary.n_concepts else defaults
        colour: Colour = chosen or in_qupath or own[concept.members[0]].colour
        rows.append(
            {
                "name": name,
                "colour": list(colour),
                "chosen": chosen is not None,
                "ignored": ignored,
                "review": next((label.review for label in said if label.review), None),
            }
        )
    return rows


def own_names_of(evidence: Evidence, concepts: Sequence[Concept]) -> tuple[str, ...]:
    """What every concept is called until a person names it: as in its dictionary, and as results have it in QuPath."""
    digits = {item.identifier: len(str(item.n_concepts - 1)) for item in evidence.dictionaries.values()}
    for slide in evidence.slides:
        for piece in slide.pieces:
            own = _OWN_NAME.fullmatch(piece.class_name.rstrip("*"))
            digits[piece.dictionary] = max(digits.get(piece.dictionary, 2), len(own[1]) if own else 2)
    return tuple(
        " + ".join(f"Concept {member:0{max(digits.get(concept.dictionary, 2), 2)}d}" for member in concept.members)
        for concept in concepts
    )


def _largest_classes(evidence: Evidence) -> dict[tuple[str, int], str]:
    """(dictionary, concept) -> the class that most of its area has."""
    areas: dict[tuple[str, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for slide in evidence.slides:
        for piece in slide.pieces:
            for concept in piece.concepts:
                areas[piece.dictionary, concept][piece.class_name] += piece.outline.area
    return {key: max(by_class, key=lambda name: by_class[name]) for key, by_class in areas.items()}


def _from_class(class_name: str | None, concept: Concept) -> tuple[str | None, bool]:
    """Name and whether it is ignored, from what QuPath calls the results."""
    if not class_name:
        return None, False
    ignored = class_name.endswith("*")
    name = class_name.rstrip("*") or class_name
    own = _OWN_NAME.fullmatch(name)
    if own and int(own[1]) in concept.members:
        return None, ignored
    return (None if ignored and name == "Ignore" else name), ignored


def _class_name(name: str | None, *, ignored: bool) -> str | None:
    if not ignored:
        return name
    name = name or "Ignore"
    return name if name.endswith("*") else f"{name}*"
