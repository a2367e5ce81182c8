from pathlib import Path

import pytest
from tests.qupath.project.worlds import FakeWorld, PaquoWorld, make_template

from conceptseg.qupath.locate import find_qupath_installations

_QUPATHS = find_qupath_installations()
REAL = [pytest.param(q, id=f"QuPath {q.version}", marks=pytest.mark.qupath) for q in _QUPATHS] or [
    pytest.param(None, id="QuPath", marks=pytest.mark.qupath)
]


@pytest.fixture(scope="session")
def template_of(tmp_path_factory):
    """A project made by a QuPath, once per version."""
    made = {}

    def make(qupath):
        if qupath not in made:
            made[qupath] = make_template(qupath, tmp_path_factory.mktemp(f"template-{qupath.version}"))
        return made[qupath]

    return make


@pytest.fixture(params=["fake", *REAL])
def world(request, tmp_path, monkeypatch, template_of):
    """Where to run a test: the same suite without QuPath and in every QuPath of this machine."""
    if request.param == "fake":
        return FakeWorld(tmp_path)
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(request.param.path))
    return PaquoWorld(tmp_path, template_of(request.param))


@pytest.fixture(params=REAL)
def qupath(request, monkeypatch):
    """Every QuPath of this machine."""
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(request.param.path))
    return request.param


@pytest.fixture(autouse=True)
def _tests_are_importable(monkeypatch):
    """In the writer's process, too, which gets this process's search path."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
