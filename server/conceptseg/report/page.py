"""A document as one HTML file that needs nothing else: no network, no fonts, no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from conceptseg.domain.files import replacing

_SCRIPTS = (
    "base.js",
    "polygons.js",
    "review.js",
    "tables.js",
    "cards.js",
    "composition.js",
    "viewer.js",
    "provenance.js",
    "keys.js",
    "start.js",
)
"""In the order in which they are joined; each is one part of the page."""


def render(content: Mapping[str, Any]) -> str:
    """The page.

    Names and file names come from users: they travel as JSON, which the page only ever turns into text. The page's
    policy allows its own script and style, and no request to anywhere but the server it came from.

    Args:
        content: What the page shows: `Document.content`, and under ``server`` what `ReviewServer` adds.
    """
    # Inside a script element only "<" could end it; inside JSON it can be written otherwise.
    data = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    script = '"use strict";\n' + "\n".join(_asset(name) for name in _SCRIPTS)
    style = _asset("style.css")
    policy = (
        "default-src 'none'; img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    )
    parts = {
        "TITLE": html.escape(str(content["title"])),
        "POLICY": html.escape(policy),
        "STYLE": style,
        "DATA": data,
        "SCRIPT": script,
    }
    pieces = _asset("page.html").split("@@")
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def write_page(path: Path, content: Mapping[str, Any]) -> None:
    """Write the page of ``content``; it appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        # Half of a character's pair, which file names can hold, cannot be written as UTF-8.
        temporary.write_text(render(content), encoding="utf-8", errors="replace")


@cache
def _asset(name: str) -> str:
    return (resources.files("conceptseg.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
