"""Finding QuPath."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conceptseg.qupath import locate
from conceptseg.qupath.locate import find_qupath_installations


@pytest.fixture(autouse=True)
def _linux_without_settings(monkeypatch):
    monkeypatch.setattr(locate, "_system", lambda: "linux")
    monkeypatch.delenv("PAQUO_QUPATH_DIR", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)


def make_qupath(path: Path, version: str, *, java: bool = True) -> Path:
    (path / "lib/app").mkdir(parents=True)
    (path / "bin").mkdir()
    (path / "bin/QuPath").touch()
    (path / f"lib/app/qupath-core-{version}.jar").touch()
    (path / f"lib/app/qupath-core-processing-{version}.jar").touch()
    if java:
        (path / "lib/runtime/lib/server").mkdir(parents=True)
        (path / "lib/runtime/lib/server/libjvm.so").touch()
    return path


def test_every_qupath_in_a_folder_is_found_the_newest_first_as_in_paquo(tmp_path):
    old = make_qupath(tmp_path / "QuPath-0.5.1", "0.5.1")
    new = make_qupath(tmp_path / "qupath-0.6.0", "0.6.0")
    assert find_qupath_installations([tmp_path]) == [(new, "0.6.0"), (old, "0.5.1")]
    assert find_qupath_installations([tmp_path])[0].launcher == new / "bin/QuPath"


def test_what_only_looks_like_qupath_is_not_found(tmp_path):
    make_qupath(tmp_path / "QuPath-without-java", "0.5.1", java=False)
    make_qupath(tmp_path / "Other", "0.5.1")
    (tmp_path / "QuPath-empty").mkdir()
    (tmp_path / "QuPath.txt").touch()
    assert find_qupath_installations([tmp_path, tmp_path / "missing"]) == []


def test_a_release_candidate_keeps_its_whole_version(tmp_path):
    path = make_qupath(tmp_path / "QuPath", "0.6.0-rc4")
    assert find_qupath_installations([tmp_path]) == [(path, "0.6.0-rc4")]


def test_the_environment_variable_ends_the_search_as_in_paquo(tmp_path, monkeypatch):
    chosen = make_qupath(tmp_path / "anywhere", "0.5.1")
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(chosen))
    assert find_qupath_installations() == [(chosen, "0.5.1")]
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(tmp_path / "missing"))
    assert find_qupath_installations() == []


def test_home_folders_and_an_active_conda_environment_are_searched(tmp_path, monkeypatch):
    at_home = make_qupath(tmp_path / "home/Applications/QuPath", "0.6.0")
    in_conda = make_qupath(tmp_path / "conda/opt/QuPath", "0.5.1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))
    found = [installation.path for installation in find_qupath_installations()]
    assert found[0] == in_conda
    assert at_home in found


def test_looking_for_qupath_neither_imports_paquo_nor_starts_java():
    code = (
        "import sys; from conceptseg.qupath.locate import find_qupath_installations as find; find();"
        "sys.exit('paquo' in sys.modules or 'jpype' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


@pytest.mark.qupath
def test_paquo_finds_the_same_qupath(monkeypatch):
    monkeypatch.undo()
    jpype_backend = pytest.importorskip("paquo.jpype_backend")
    first = find_qupath_installations()[0]
    assert jpype_backend.find_qupath(qupath_dir=first.path).app_dir.is_relative_to(first.path)
