"""What people call the concepts of a project: ``conceptseg-labels.json`` in its folder.

The QuPath scripts read and write the same file. Fields that this version does not know are kept.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from conceptseg.domain.classes import Colour, ConceptClass, require_class_name
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.files import replacing
from conceptseg.domain.json_file import read_json
from conceptseg.qupath.project.contents import ClassStyle

LABELS_FILE = "conceptseg-labels.json"
_VERSION = 1
_MEND = "Choose another file, repair this one, or move it away."


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptLabel:
    """What a person said about a concept.

    Attributes:
        name: Its name; None without one.
        colour: Its colour; None to leave it to QuPath.
        ignored: QuPath's own commands shall leave it out.
        review: ``accepted`` or ``rejected``; None without a verdict.
    """

    name: str | None = None
    colour: Colour | None = None
    ignored: bool = False
    review: str | None = None

    @property
    def class_name(self) -> str | None:
        """The QuPath class; that of an ignored concept ends in ``*``, which is QuPath's sign for it."""
        if not self.ignored:
            return self.name
        name = self.name or "Ignore"
        return name if name.endswith("*") else f"{name}*"


class Labels:
    """The labels of a project. Immutable: every change gives a new object."""

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        """Labels of a file's content; none when None."""
        self._document: dict[str, Any] = copy.deepcopy(dict(document or {"version": _VERSION, "dictionaries": {}}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a labels file; no labels if there is none.

        Raises:
            InvalidRequestError: the file cannot be read, is damaged, or of another version.
        """
        try:
            document = read_json(path, remedy=_MEND)
        except FileNotFoundError:
            return cls()
        return cls.parse(document, name=str(path))

    @classmethod
    def parse(cls, document: object, *, name: str) -> Self:
        """The labels that the JSON of a labels file holds.

        Args:
            document: Its content.
            name: What messages call it.

        Raises:
            InvalidRequestError: it is damaged, or of another version.
        """
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            raise InvalidRequestError(f"{name} holds no labels, or those of a newer ConceptSeg. {_MEND}")
        try:
            for entry in document["dictionaries"].values():
                for number, fields in entry.get("concepts", {}).items():
                    _require_number(number)
                    _label(fields)
            return cls(document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidRequestError(
                f'{name} is damaged: expected {{"version":1,"dictionaries":{{ID:{{"concepts":{{NUMBER:{{"name",'
                f'"colour":[r,g,b],"ignored"}}}}}}}}}}, got something else ({error}). {_MEND}'
            ) from error
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{name}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the file; it appears whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        with replacing(path) as temporary:
            text = json.dumps(self._document, indent=2, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    @property
    def version(self) -> str:
        """The same for equal labels, and another one for others."""
        return hashlib.sha256(json.dumps(self._document, sort_keys=True).encode()).hexdigest()

    def entries(self) -> dict[tuple[str, int], ConceptLabel]:
        """(dictionary, concept) -> its label."""
        return {(name, concept): label for name in self.dictionaries for concept, label in self.of(name).items()}

    @property
    def dictionaries(self) -> tuple[str, ...]:
        """Identifiers of the dictionaries that have labels."""
        return tuple(self._document["dictionaries"])

    def of(self, dictionary: str) -> dict[int, ConceptLabel]:
        """Labels of a dictionary by concept."""
        entry = self._document["dictionaries"].get(dictionary) or {}
        return {int(number): _label(fields) for number, fields in (entry.get("concepts") or {}).items()}

    def names(self, dictionary: str, class_name: str) -> bool:
        """Whether a concept of the dictionary is called that."""
        return any(label.class_name == class_name for label in self.of(dictionary).values())

    def named(self, dictionary: str, concepts: Iterable[int], name: str) -> Labels:
        """The same labels with these concepts called ``name``; several then make one class."""
        require_class_name(name)
        changed = self
        for concept in concepts:
            # Another name is another class: a colour that was chosen for the old one does not go with it.
            fields = {"name": name, "ignored": name.endswith("*")}
            changed = changed._changed(dictionary, concept, fields, drop="colour")
        return changed

    def coloured(self, dictionary: str, concepts: Iterable[int], colour: Colour) -> Labels:
        """The same labels with these concepts in this colour."""
        changed = self
        for concept in concepts:
            changed = changed._changed(dictionary, concept, {"colour": list(colour)})
        return changed

    def ignoring(self, dictionary: str, concepts: Iterable[int], *, ignored: bool) -> Labels:
        """The same labels with these concepts ignored, or no longer."""
        changed = self
        for concept in concepts:
            fields: dict[str, Any] = {"ignored": ignored}
            name = self.of(dictionary).get(concept, ConceptLabel()).name
            if name and not ignored:
                fields["name"] = name.rstrip("*") or name
            changed = changed._changed(dictionary, concept, fields)
        return changed

    def without(self, dictionary: str, concepts: Iterable[int]) -> Labels:
        """The same labels without those of these concepts, and without the dictionary after the last of its."""
        changed = Labels(self._document)
        known = changed._document["dictionaries"].get(dictionary, {}).get("concepts", {})
        for concept in concepts:
            known.pop(str(concept), None)
        if not known:
            changed._document["dictionaries"].pop(dictionary, None)
        return changed

    def joined(self, other: Labels) -> Labels:
        """The same labels with those of ``other``, which win; a field that is null there is taken away."""
        changed = self
        for dictionary, entry in other._document["dictionaries"].items():
            for concept, fields in (entry.get("concepts") or {}).items():
                changed = changed._changed(dictionary, int(concept), fields)
        return changed

    def style(self, dictionary: str, concepts: Iterable[int], own: ConceptClass | None = None) -> ClassStyle | None:
        """The class of a result with these concepts.

        Args:
            dictionary: Its dictionary.
            concepts: Its concepts; several after merging.
            own: Name and colour of the dictionary for concepts without a label.

        Returns:
            None if there is neither a label nor ``own``, or if the concepts have different labels.
        """
        labels = self.of(dictionary)
        found = [labels.get(concept, ConceptLabel()) for concept in concepts]
        names = {label.class_name for label in found}
        if len(names) != 1:
            return None
        name = names.pop() or (own.name if own else None)
        if name is None:
            return None
        chosen = next((label.colour for label in found if label.colour), None)
        if chosen:
            return ClassStyle(name=name, colour=chosen, chosen=True)
        return ClassStyle(name=name, colour=own.colour if own else None)

    def _changed(self, dictionary: str, concept: int, fields: Mapping[str, Any], *, drop: str = "") -> Labels:
        changed = Labels(self._document)
        entry = changed._document["dictionaries"].setdefault(dictionary, {})
        concepts = entry.setdefault("concepts", {})
        merged = {**concepts.get(str(concept), {}), **fields}
        # The QuPath scripts refuse a null, which is the only way a file can say that something is gone.
        concepts[str(concept)] = {key: value for key, value in merged.items() if value is not None and key != drop}
        return changed


def _require_number(text: str) -> None:
    """Raise ValueError unless ``text`` is a concept's number as `Labels` writes it: one concept has one name."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and text == str(int(text))):
        raise ValueError(f"the concept {text[:20]!r}")


def _label(fields: Mapping[str, Any]) -> ConceptLabel:
    colour = fields.get("colour")
    if colour is not None:
        red, green, blue = (int(channel) for channel in colour)
        colour = (red, green, blue)
        if not all(0 <= channel <= 255 for channel in colour):
            raise InvalidRequestError(f"expected a colour of three numbers from 0 to 255, got {list(colour)}.")
    name = fields.get("name") or None
    if name is not None:
        require_class_name(name)
    review = fields.get("review")
    if review not in (None, "accepted", "rejected"):
        raise InvalidRequestError(f"expected the review accepted or rejected, got {review!r}.")
    return ConceptLabel(name=name, colour=colour, ignored=bool(fields.get("ignored", False)), review=review)
