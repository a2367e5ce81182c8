import pytest

from conceptseg.domain.per_file import PerFile, without_name


@pytest.mark.parametrize(
    ("message", "without"),
    [
        ("a.png: its slide is not there.", "Its slide is not there."),
        ("a.png carries no pixel size.", "It carries no pixel size."),
        ("There is no file a.png.", "There is no file a.png."),
        ("a.pngx is damaged.", "a.pngx is damaged."),
        ("", ""),
    ],
)
def test_a_name_is_not_told_twice(message, without):
    assert without_name("a.png", message) == without


def test_advice_is_given_once_and_facts_always():
    told = PerFile()
    lines = [
        told.line(name, f"{name} is damaged. Copy {name} again. Or export it anew.", what="failed") for name in "ab"
    ]
    assert lines == [
        "a: failed. It is damaged. Copy a again. Or export it anew.",
        "b: failed. It is damaged. Copy b again.",
    ]
    assert told.line("c", "It is damaged. Or export it anew.") == "c: It is damaged."
    assert told.line("d", "", what="empty") == "d: empty."
