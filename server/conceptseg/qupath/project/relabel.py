"""Brings the results of an image in line with the labels of the project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from conceptseg.domain.classes import Colour
from conceptseg.qupath.project.contents import Changes, ClassStyle, ImageContents, Outline
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.project.results import join_touching


@dataclass(frozen=True, kw_only=True, slots=True)
class Relabelling:
    """What shall change in an image.

    Attributes:
        changes: Classes to set, results to join.
        renamed: Results that get another class.
        joined: Results that become part of others.
        ambiguous: Results of several concepts that have different names now; they stay as they are.
    """

    changes: Changes
    renamed: int
    joined: int
    ambiguous: int


def relabel(
    contents: ImageContents,
    outlines: Mapping[str, Outline],
    labels: Labels,
    *,
    colours: Mapping[str, Colour | None],
) -> Relabelling:
    """What to change so that every result has the class that the labels give its concepts.

    Results without a label stay as they are. Touching results of the same class become one, except those that a person
    corrected one by one. A new class for which nobody chose a colour gets that of the class it replaces, unless that is
    still the name of another concept.

    Args:
        contents: What the image holds.
        outlines: Shape and numbers of its results.
        labels: Labels of the project.
        colours: Classes of the project.
    """
    rename: dict[str, str] = {}
    styles: dict[str, ClassStyle] = {}
    ambiguous = 0
    drawn = []
    for result in contents.results:
        style = labels.style(result.dictionary, result.concepts)
        if style is None:
            known = labels.of(result.dictionary)
            ambiguous += len(result.concepts) > 1 and any(concept in known for concept in result.concepts)
            continue
        if style.colour is None and not labels.names(result.dictionary, result.class_name):
            style = replace(style, colour=colours.get(result.class_name))
        if style.name not in styles or style.chosen:
            styles[style.name] = style
        if style.name != result.class_name:
            rename[result.identifier] = style.name
        renamed = result if style.name == result.class_name else result.with_class(style.name)
        drawn.append((renamed, outlines[result.identifier]))
    before = {result.identifier for result, _ in drawn}
    after = join_touching(drawn)
    kept = {result.identifier for result, _ in after}
    removed = frozenset(before - kept)
    changes = Changes(
        remove=removed,
        add=tuple(item for item in after if item[0].identifier not in before),
        rename={identifier: name for identifier, name in rename.items() if identifier not in removed},
        styles=tuple(styles.values()),
    )
    return Relabelling(changes=changes, renamed=len(rename), joined=len(removed), ambiguous=ambiguous)
