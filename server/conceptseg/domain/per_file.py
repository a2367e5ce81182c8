"""Lines about one file each: every name once, and every remedy once."""

from __future__ import annotations

import re

_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def without_name(name: str, message: str) -> str:
    """A message that is told under a name, without the same name at its beginning.

    >>> without_name("a.png", "a.png: its slide is not there.")
    'Its slide is not there.'
    >>> without_name("a.png", "a.png carries no pixel size.")
    'It carries no pixel size.'
    """
    if message.startswith(f"{name}: "):
        rest = message[len(name) + 2 :]
        return rest[:1].upper() + rest[1:]
    return f"It {message[len(name) + 1 :]}" if message.startswith(f"{name} ") else message


class PerFile:
    """Makes the lines, and leaves out advice that a line about another file gave word for word."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def line(self, name: str, message: str, *, what: str = "") -> str:
        """One line.

        Args:
            name: The file, as people know it.
            message: What is the matter with it, and then what to do.
            what: What became of it.
        """
        fact, *advice = _BETWEEN_SENTENCES.split(without_name(name, message))
        new = [sentence for sentence in advice if sentence not in self._said]
        self._said.update(advice)
        return " ".join([f"{name}:", *([f"{what}."] if what else []), fact, *new]).rstrip()
