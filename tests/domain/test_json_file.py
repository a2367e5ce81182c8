"""JSON that nobody can rely on."""

import json

import pytest

from conceptseg.domain import json_file
from conceptseg.domain.errors import InvalidRequestError, ProjectError
from conceptseg.domain.json_file import parse_json, read_json

UNSOUND = {
    "cut short": '{"a": [1, 2',
    "nested beyond Python's stack": "[" * 100_000 + "]" * 100_000,
    "nested so that only a later walk overflows": '{"a":' * 900 + "1" + "}" * 900,
    "a number of 5,000 digits": "[" + "9" * 5000 + "]",
    "a number of 400 digits": "[" + "9" * 400 + "]",
    "a number of more than 64 bits": f"[{2**63}]",
    "an exponent that no float has": "[1e400]",
    "no number": "[NaN]",
    "infinite": "[-Infinity]",
    "half a character": r'{"\ud800": 1}',
    "half a character, in capitals": r'["\uDFFF"]',
    "nothing": "",
}


@pytest.mark.parametrize("content", UNSOUND.values(), ids=UNSOUND)
@pytest.mark.parametrize("encode", [str, str.encode], ids=["text", "bytes"])
def test_unsound_json_is_named_with_the_way_out(content, encode):
    with pytest.raises(ProjectError, match=r"^a\.json is damaged: .*\. Move it away\.$"):
        parse_json(encode(content), name="a.json", error=ProjectError, remedy="Move it away.")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "something else (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("[1e400]", "the number 1e400, which is too large"),
    ],
)
def test_what_came_is_named_in_one_sentence(content, what):
    with pytest.raises(InvalidRequestError) as refused:
        parse_json(content, name="a.json")
    assert str(refused.value) == f"a.json is damaged: expected JSON, got {what}."


def test_bytes_that_are_no_text_are_named():
    with pytest.raises(InvalidRequestError, match=r"a\.json is damaged"):
        parse_json(b'{"a": "\xff"}', name="a.json")


def test_sound_json_is_read_as_it_is(tmp_path):
    document = {
        "a": [1, -(2**63), 2**63 - 1, 0.1, 1e300, None, True],
        "𝒳": "\n",
        "deep": json.loads("[" * 90 + "]" * 90),
    }
    for text in (json.dumps(document), json.dumps(document, ensure_ascii=False)):
        assert parse_json(text, name="a") == parse_json(text.encode(), name="a") == document
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert read_json(tmp_path / "a.json") == document


def test_a_file_that_cannot_be_read_or_is_too_large_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")
    with pytest.raises(ProjectError, match="Cannot read"):
        read_json(tmp_path, error=ProjectError)
    monkeypatch.setattr(json_file, "_LARGEST_BYTES", 10)
    (tmp_path / "a.json").write_text("[" + " " * 10 + "]")
    with pytest.raises(InvalidRequestError, match=r"a\.json is damaged: expected JSON of at most"):
        read_json(tmp_path / "a.json")
