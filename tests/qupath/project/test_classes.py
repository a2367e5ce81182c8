"""The class list of a project, which QuPath writes anew whenever it reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.project.classes import require_sound_classes


def project_with(folder: Path, listed: Any) -> Path:
    (folder / "classifiers").mkdir()
    (folder / "classifiers" / "classes.json").write_text(json.dumps({"pathClasses": listed}), encoding="utf-8")
    return folder / "project.qpproj"


@pytest.mark.parametrize("listed", [[], [{"name": "Tumor", "color": -65536}], [{}, {"name": None}, {"name": "Fat"}]])
def test_a_list_of_qupath_is_sound(tmp_path: Path, listed: Any) -> None:
    require_sound_classes(project_with(tmp_path, listed))


@pytest.mark.parametrize("listed", [None, {}, ["Tumor"], [{"name": ["Tumor"]}], [{"name": 7}], [{"name": {}}, {}]])
def test_a_list_of_anything_else_is_refused_before_qupath_replaces_it(tmp_path: Path, listed: Any) -> None:
    with pytest.raises(ProjectError, match=r"classes\.json is damaged"):
        require_sound_classes(project_with(tmp_path, listed))
