"""The record of a run, whatever happened to its file."""

import json
import os

import pytest

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.project.journal import Journal, read_journal

HEAD = '{"version":1,"run":"r","settings":{}}'
DONE = '{"image":"1","state":"done","report":{"polygons":2}}'
WRITING = '{"image":"2","state":"writing","sha256":"ab"}'


def journal(tmp_path, *lines, end="\n"):
    file = tmp_path / "annotate.jsonl"
    file.write_bytes(("\n".join(lines) + end).encode("utf-8", "surrogateescape"))
    return file


def test_it_says_what_is_done_and_what_was_being_written(tmp_path):
    past = read_journal(journal(tmp_path, HEAD, DONE, WRITING))
    assert (past.run, past.done, past.writing) == ("r", {"1": {"polygons": 2}}, {"2": "ab"})
    assert read_journal(tmp_path / "none.jsonl") is None
    assert read_journal(journal(tmp_path, "", end="")) is None


def test_a_line_break_inside_a_value_is_no_line(tmp_path):
    settings = {"within": "a\u2028b\x85c"}
    record = Journal(tmp_path / "annotate.jsonl")
    record.start(run="r", settings=settings)
    record.done("1", {})
    past = read_journal(tmp_path / "annotate.jsonl")
    assert (past.settings, past.done) == (settings, {"1": {}})


@pytest.mark.parametrize(
    "line",
    [
        "",
        "7",
        "[]",
        "null",
        "{",
        "{}",
        "\udcff",
        "[" * 9000 + "]" * 9000,
        '{"image":"1"}',
        '{"image":1,"state":"done","report":{}}',
        '{"image":"1","state":"done"}',
        '{"image":"1","state":"done","report":[]}',
        '{"image":"1","state":"done","report":{"polygons":"many"}}',
        '{"image":"1","state":"done","report":{"polygons":' + "9" * 5000 + "}}",
        '{"image":"1","state":"writing","report":{}}',
        '{"image":["1"],"state":"writing","sha256":"ab"}',
    ],
)
def test_a_damaged_line_is_named_with_the_way_out(tmp_path, line):
    for number, lines in enumerate([(line, DONE), (HEAD, line, DONE)], start=1):
        with pytest.raises(ProjectError, match=rf"annotate\.jsonl, line {number}, is damaged: .*without --resume"):
            read_journal(journal(tmp_path, *lines))


@pytest.mark.parametrize("head", ['{"version":1}', '{"version":1,"run":7,"settings":{}}', '{"version":1,"run":"r"}'])
def test_a_damaged_beginning_is_named(tmp_path, head):
    with pytest.raises(ProjectError, match="line 1, is damaged"):
        read_journal(journal(tmp_path, head, DONE))


def test_another_version_is_said(tmp_path):
    with pytest.raises(ProjectError, match="another version"):
        read_journal(journal(tmp_path, '{"version":2}'))


def test_a_journal_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ProjectError, match="Cannot read"):
        read_journal(tmp_path)


def test_a_disk_that_fills_up_leaves_no_half_line_for_the_next_one(tmp_path, monkeypatch):
    record = Journal(tmp_path / "annotate.jsonl")
    record.start(run="r", settings={})

    def fail(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            record.done("1", {})
    record.done("2", {})
    assert read_journal(tmp_path / "annotate.jsonl").done == {"2": {}}
    assert all(json.loads(line) for line in (tmp_path / "annotate.jsonl").read_text().splitlines())
