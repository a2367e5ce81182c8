"""Tables on a terminal."""

from __future__ import annotations

from rich.console import Console


def plain_console() -> Console:
    """A console that prints names as they are: rich would take ``[b]`` in one for markup, and end at ``[/b]``."""
    return Console(highlight=False, markup=False, emoji=False)
