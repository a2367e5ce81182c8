"""Damaged files end in a sentence; `tests/benchmarks/mutations.py` tries many more."""

from collections import Counter

import pytest
from tests.benchmarks.mutations import FILES, attempt, mutations

from conceptseg.domain.errors import ProjectError


def test_damaged_files_leave_no_tracebacks():
    tried = Counter()
    for kind, trace in mutations(count=40 * len(FILES), seed=16):
        tried[kind] += 1
        assert not trace, f"{kind}: {trace}"
    assert tried == dict.fromkeys(FILES, 40)


@pytest.mark.parametrize("error", [KeyError("a"), RecursionError(), OSError(5, "Input/output error")])
def test_a_traceback_is_noticed_and_a_sentence_is_none(tmp_path, error):
    def fail(_):
        raise error

    def refuse(_):
        raise ProjectError("It is damaged.")

    assert type(error).__name__ in attempt(fail, tmp_path)
    assert attempt(refuse, tmp_path) == ""
