"""Fonts that can draw a text on any machine."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

# Pillow's own font has ASCII and little else: not even µ. These are on most Linux, Windows, macOS machines.
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial.ttf",
    "Helvetica.ttc",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "seguiemj.ttf",
)


def font_for(text: str, *, size: int) -> ImageFont.FreeTypeFont:
    """The first font that has every character of ``text``: Pillow's own, else one of the system's.

    Args:
        text: What will be drawn.
        size: Height of a line in px.

    Returns:
        Pillow's own font if none has every character; it draws boxes for those it lacks.
    """
    own = _own_font(size)
    if text.isascii():
        return own
    fonts = (own, *(font for name in _SYSTEM_FONTS if (font := _system_font(name, size)) is not None))
    return next((font for font in fonts if covers(font, text)), own)


def covers(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether ``font`` has a glyph for every character of ``text``."""
    missing = _picture(font, "\U0010ffff")  # never a character, so this is the box for those that are missing
    return all(character.isascii() or _picture(font, character) != missing for character in text)


def shortened(text: str, *, size: int, width: float) -> str:
    """``text``, cut and ended with an ellipsis if it is wider than ``width`` px."""
    font = font_for(text, size=size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _picture(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@cache
def _own_font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, so no text can be drawn. Install Pillow's wheel.")
    return font


@cache
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
