"""Says before the work starts what would fail after it, or take something away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from conceptseg.domain.errors import InvalidRequestError, OutputError


def require_writable(option: str, path: Path) -> None:
    """Raise OutputError unless a file can be written at ``path``, which ``option`` names."""
    try:
        if not path.parent.is_dir():
            raise OutputError(f"{option} {path}: the folder {path.parent} does not exist. Create it first.")
        writable = not path.is_dir() and os.access(path.parent, os.W_OK)
    except OSError as error:
        raise OutputError(f"{option} {path} cannot be written: {error.strerror or error}.") from error
    if not writable:
        raise OutputError(f"{option} {path} cannot be written there. Choose another path.")


def require_apart(*, inputs: Mapping[str, Path | None], outputs: Mapping[str, Path | None]) -> None:
    """Raise InvalidRequestError if an output is one of the inputs, or another output; keys are words for messages."""
    taken: dict[str, str] = {}
    for name, path in {**inputs, **outputs}.items():
        if path is None:
            continue
        file = os.path.normcase(path.resolve())
        if name in outputs and file in taken:
            raise InvalidRequestError(f"{name} {path} is {taken[file]} as well. Choose another path.")
        taken.setdefault(file, name)
