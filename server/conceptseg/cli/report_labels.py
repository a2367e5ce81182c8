"""The labels of a project while a page in a browser changes them, beside everybody else who does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from conceptseg.qupath.project.labels import ConceptLabel, Labels
from conceptseg.qupath.project.labels_file import update_labels
from conceptseg.report.serve import OutdatedError

_Concept = tuple[str, int]  # dictionary, number

_VERSIONS = 256
"""So many versions are remembered; a page that is older must be loaded again before it saves."""

_NAMED = 5
"""So many changed concepts are named in a message."""


class ServedLabels:
    """Tells a page what the labels are, and takes what it changes.

    A page sends the labels of the concepts that it changed, and the version that it showed. Whatever others changed
    since stays. If they changed one of the same concepts, nothing is saved and the page learns what they said.
    """

    def __init__(self, file: Path, *, review: Callable[[Labels], list[dict[str, Any]]]) -> None:
        """Serve a labels file.

        Args:
            file: The file.
            review: Name, colour and verdict of every concept of the page by such labels.
        """
        self._file, self._review = file, review
        self._lock = Lock()
        self._versions: dict[str, Labels] = {}

    def state(self) -> dict[str, Any]:
        """``review`` and ``version`` as they are now.

        Raises:
            InvalidRequestError: the file is damaged.
        """
        return self._state(Labels.load(self._file))

    def save(self, request: Any) -> dict[str, Any]:
        """Take what a page changed.

        Args:
            request: A labels document with the changed concepts, and the version it goes by as ``based_on``.

        Returns:
            ``message``, and ``review`` and ``version`` as they are now.

        Raises:
            InvalidRequestError: the request or the file is damaged.
            OutdatedError: others changed one of the same concepts meanwhile.
        """
        said = Labels.parse(request, name="What the page sent")
        with self._lock:
            shown = self._versions.get(str(request.get("based_on")))
        others: set[_Concept] = set()

        def change(now: Labels) -> Labels:
            others.clear()
            others.update(self._others(shown, now, said))
            return now.joined(said)

        saved = update_labels(self._file, change)
        message = f"Saved in {self._file.name}. Results that are in the project already change with Apply."
        if others:
            message += f" Somebody else changed other concepts: {_told(saved, others)}"
        return {"message": message, **self._state(saved)}

    def _others(self, shown: Labels | None, now: Labels, said: Labels) -> set[_Concept]:
        """What others changed since a page was shown; refused if it is what the page changed, too."""
        if shown is None:
            raise OutdatedError(
                "Nothing was saved: this page is too old to tell what others changed since. It shows the labels as "
                "they are now, except for the concepts that you changed. Look at them, and save again.",
                self._state(now),
            )
        before, after, wanted = shown.entries(), now.entries(), said.entries()
        others = {key for key in before.keys() | after.keys() if _label(before, key) != _label(after, key)}
        contested = {key for key in others & wanted.keys() if _label(after, key) != wanted[key]}
        if contested:
            raise OutdatedError(
                "Nothing was saved: somebody else changed the same concepts since this page was loaded. "
                f"{_told(now, contested)} Save again to put yours in its place, or reload the page to take it over.",
                self._state(now),
            )
        return others - wanted.keys()

    def _state(self, labels: Labels) -> dict[str, Any]:
        version = labels.version
        with self._lock:
            self._versions.pop(version, None)  # the newest are at the end
            self._versions[version] = labels
            while len(self._versions) > _VERSIONS:
                del self._versions[next(iter(self._versions))]
        return {"review": self._review(labels), "version": version}


def _label(labels: Mapping[_Concept, ConceptLabel], key: _Concept) -> ConceptLabel:
    return labels.get(key, ConceptLabel())


def _told(labels: Labels, changed: Iterable[_Concept]) -> str:
    """What concepts are called now."""
    keys, entries = sorted(changed), labels.entries()
    sentences = [f"Concept {key[1]} of {key[0]} {_is(_label(entries, key))}." for key in keys[:_NAMED]]
    if len(keys) > _NAMED:
        sentences.append(f"And {len(keys) - _NAMED} more.")
    return " ".join(sentences)


def _is(label: ConceptLabel) -> str:
    name = f"is {label.class_name} now" if label.class_name else "has no name now"
    return f"{name} and is {label.review}" if label.review else name
