"""The last lines of a test run, which say what did not run."""

from types import SimpleNamespace

import pytest
from tests import conftest


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(conftest, "_available", lambda tier: tier != "gpu")
    tiers = {"t.py::a": {"browser"}, "t.py::b": {"browser"}, "t.py::c": {"gpu"}, "t.py::d": {"browser", "gpu"}}

    def lines(passed, skipped):
        stats = {
            "passed": [SimpleNamespace(nodeid=test) for test in passed],
            "skipped": [SimpleNamespace(nodeid=t, longrepr=("t.py", 1, f"Skipped: {r}")) for t, r in skipped.items()],
        }
        return list(conftest.tier_lines(stats, tiers))

    return lines


def test_a_tier_that_could_not_run_says_what_it_lacks(lines):
    found = lines(["t.py::a", "t.py::b"], {"t.py::c": "needs a GPU", "t.py::d": "needs a GPU"})
    assert "gpu: 0 ran, 2 skipped for want of a GPU" in found
    assert "browser: 2 ran, 0 skipped" in found


def test_tests_that_are_skipped_for_another_reason_are_told_with_it(lines):
    found = lines(["t.py::b"], {"t.py::a": "no driver"})
    assert "browser: 1 ran, 1 skipped: no driver" in found
    found = lines([], {"t.py::a": "no driver", "t.py::b": "no driver", "t.py::c": "needs a GPU"})
    assert "browser: 0 ran, 2 skipped: no driver" in found


def test_a_file_that_is_skipped_as_a_whole_is_told(lines):
    assert "t.py: skipped as a whole: needs selenium" in lines([], {"t.py": "needs selenium"})
    assert not any("as a whole" in line for line in lines(["t.py::a"], {"t.py::c": "needs a GPU"}))


def test_a_browser_without_its_driver_is_no_browser(monkeypatch):
    monkeypatch.setattr(conftest.shutil, "which", lambda name: "/usr/bin/x" if name == "chromium" else None)
    assert not conftest.TIERS["browser"][1]()
    monkeypatch.setattr(conftest.shutil, "which", lambda name: "/usr/bin/x")
    assert conftest.TIERS["browser"][1]() == bool(conftest.importlib.util.find_spec("selenium"))
