"""Fonts."""

import pytest

from conceptseg.report import text as module
from conceptseg.report.text import covers, font_for, shortened


def test_plain_text_uses_pillows_own_font():
    assert font_for("Concept 07", size=20).getname()[0] == "Aileron"
    assert covers(font_for("Concept 07", size=20), "Concept 07")


def test_a_font_that_lacks_a_character_says_so():
    assert not covers(font_for("a", size=20), "µ")


def test_a_machine_without_fonts_still_draws_something(monkeypatch):
    monkeypatch.setattr(module, "_SYSTEM_FONTS", ("no-such-font.ttf",))
    assert font_for("µ 腫瘍", size=20).getname()[0] == "Aileron"


@pytest.mark.parametrize("name", ["x" * 200, "腫" * 200, "a b " * 50])
def test_a_long_text_is_cut_to_the_width_and_ends_with_an_ellipsis(name):
    cut = shortened(name, size=20, width=300)
    assert cut.endswith("…")
    assert font_for(name, size=20).getlength(cut) <= 300


def test_a_text_that_fits_stays_as_it_is():
    assert shortened("Tumor", size=20, width=300) == "Tumor"
