"""A QuPath that has the project open."""

from pathlib import Path

import pytest

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath import running
from conceptseg.qupath.running import RunningQuPath, require_closed, running_qupaths

PROJECT, SLIDE = Path("/projects/p/project.qpproj"), Path("/slides/a.svs")


def qupath(*arguments, files=(), pid=77, parent=1):
    command = ("/opt/QuPath/bin/QuPath", *arguments)
    return RunningQuPath(pid=pid, parent=parent, arguments=command, files=frozenset(map(Path, files)))


@pytest.mark.parametrize(
    "found",
    [
        qupath("--project", "/projects/p/project.qpproj"),
        qupath("--project=/projects/p/project.qpproj"),
        qupath("/projects/p"),
        qupath(files=["/slides/a.svs"]),
    ],
)
def test_a_qupath_with_the_project_is_refused_unless_forced(monkeypatch, found):
    monkeypatch.setattr(running, "running_qupaths", lambda: [found])
    with pytest.raises(ProjectError, match=r"process 77.*has this project, or a slide of it, open.*--force"):
        require_closed(PROJECT, [SLIDE], force=False)
    (warning,) = require_closed(PROJECT, [SLIDE], force=True)
    assert "do not save there" in warning


@pytest.mark.parametrize(
    "found",
    [
        qupath("--project", "/projects/other/project.qpproj"),
        qupath("script", "-p=/projects/other/project.qpproj", "x.groovy"),
        qupath(files=["/slides/b.SVS", "/opt/QuPath/lib/app/a.jar"]),
    ],
)
def test_a_qupath_with_something_else_open_is_no_warning(monkeypatch, found):
    monkeypatch.setattr(running, "running_qupaths", lambda: [found])
    assert require_closed(PROJECT, [SLIDE], force=False) == []


def test_qupaths_of_which_nothing_is_known_are_one_warning(monkeypatch):
    monkeypatch.setattr(running, "running_qupaths", lambda: [qupath(), qupath("-q", pid=78)])
    (warning,) = require_closed(PROJECT, [SLIDE], force=False)
    assert warning.startswith("QuPath is running (process 77, 78). If it has this project open, close")


def test_a_launcher_and_the_process_that_it_starts_are_one_qupath(monkeypatch):
    launcher, child = qupath(str(PROJECT)), qupath(files=[SLIDE], pid=78, parent=77)
    monkeypatch.setattr(running, "_processes", lambda: iter([child, launcher, qupath(pid=90)]))
    one, other = running_qupaths()
    assert {one.pid, other.pid} == {77, 90}
    with pytest.raises(ProjectError, match="process 77"):
        require_closed(PROJECT, [SLIDE], force=False)
    forced, unknown = require_closed(PROJECT, [SLIDE], force=True)
    assert "do not save there" in forced
    assert "process 90" in unknown


def test_no_qupath_is_no_warning(monkeypatch):
    monkeypatch.setattr(running, "running_qupaths", list)
    assert require_closed(PROJECT, [SLIDE], force=False) == []
