"""A QuPath that has the project open."""

from pathlib import Path

import pytest

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath import running
from conceptseg.qupath.running import RunningQuPath, require_closed

PROJECT, SLIDE = Path("/projects/p/project.qpproj"), Path("/slides/a.svs")


def qupath(*arguments, files=()):
    return RunningQuPath(pid=77, arguments=("/opt/QuPath/bin/QuPath", *arguments), files=frozenset(map(Path, files)))


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


def test_another_qupath_is_only_warned_about(monkeypatch):
    monkeypatch.setattr(running, "running_qupaths", lambda: [qupath("--project", "/projects/other/project.qpproj")])
    (warning,) = require_closed(PROJECT, [SLIDE], force=False)
    assert "If it has this project open" in warning


def test_no_qupath_is_no_warning(monkeypatch):
    monkeypatch.setattr(running, "running_qupaths", lambda: [])
    assert require_closed(PROJECT, [SLIDE], force=False) == []
