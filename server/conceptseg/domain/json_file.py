"""JSON from files that anybody may have written: damaged, nested without end, with numbers that no program holds."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from conceptseg.domain.errors import ConceptSegError, InvalidRequestError

_DEEPEST = 100
"""Levels of nesting. No format that we read has 20; what walks through a document later may be recursive."""

_LARGEST_BYTES = 1 << 28
"""A project of 10,000 images has 20 MB."""


def read_json(
    path: Path, *, name: str = "", error: type[ConceptSegError] = InvalidRequestError, remedy: str = ""
) -> Any:
    """Read a JSON file of at most 256 MiB; see `parse_json`.

    Raises:
        FileNotFoundError: there is none.
        ConceptSegError: of type ``error``: the file cannot be read, is too large, or is no sound JSON.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise error(f"Cannot read {name}: {problem.strerror or problem}. Check its permissions.") from problem
    if len(content) > _LARGEST_BYTES:
        raise error(
            f"{name} is damaged: expected JSON of at most {_LARGEST_BYTES >> 20} MiB, got more. {remedy}".strip()
        )
    return parse_json(content, name=name, error=error, remedy=remedy)


def parse_json(
    content: bytes | str, *, name: str, error: type[ConceptSegError] = InvalidRequestError, remedy: str = ""
) -> Any:
    """What JSON stands for.

    Args:
        content: The JSON.
        name: What messages call it.
        error: What is raised if it is no sound JSON.
        remedy: What the user can do then, as a sentence.

    Returns:
        Plain values: integers fit 64 bits, other numbers are finite, text can be encoded, and lists and objects are
        nested at most 100 levels deep.

    Raises:
        ConceptSegError: of type ``error``.
    """
    try:
        document = json.loads(content, parse_int=_integer, parse_float=_finite, parse_constant=_refused)
        _require_text(document, content)
    except RecursionError:
        deep = True
    except ValueError as problem:
        # Python's own sentences are whole ones; ours name what came.
        got = str(problem) if type(problem) is ValueError else f"something else ({problem})"
        raise error(f"{name} is damaged: expected JSON, got {got}. {remedy}".strip()) from problem
    else:
        deep = _is_deep(document)
    if deep:
        raise error(f"{name} is damaged: it is nested more than {_DEEPEST} levels deep. {remedy}".strip())
    return document


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"the number {text[:20]}… of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]}, which is too large")
    return number


def _refused(constant: str) -> float:
    raise ValueError(f"{constant}, which is not a JSON number")


def _require_text(document: object, content: bytes | str) -> None:
    """Raise UnicodeEncodeError where an escape stands for half a character: such text cannot be written again."""
    encoded = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if re.search(rb"\\u[dD]|\xed", encoded):
        json.dumps(document, ensure_ascii=False).encode("utf-8")


def _is_deep(document: object) -> bool:
    level = [document]
    for _ in range(_DEEPEST + 1):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
