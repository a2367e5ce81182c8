"""``conceptseg concepts refine`` as a user runs it."""

import json

import numpy as np
import pytest
from tests.qupath.project import fake

from conceptseg.cli.main import main
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths


def correct(project, **fields):
    """What the window in QuPath writes at the second result."""
    file = project.parent / "data" / "1" / "data.qpdata"
    content = json.loads(file.read_text())
    content["objects"][1] |= fields
    file.write_text(json.dumps(content))


def refine(project, target, capsys):
    code = main(["concepts", "refine", "default-k8", "--from", str(project), "-o", str(target), "--device", "cpu"])
    return code, capsys.readouterr()


def test_a_reassigned_polygon_makes_a_new_version_with_the_projects_names(project, tmp_path, capsys):
    main(["labels", str(project), "set", "0", "Tumor", "--colour", "#c80000", "--dictionary", "default-k8"])
    correct(project, reassigned=0)
    before = fake.files_of(project)
    target = tmp_path / "mine-2.safetensors"
    code, printed = refine(project, target, capsys)
    assert code == 0, printed.err
    assert "1 reassigned polygons" in printed.out
    made, parent = load_dictionary(target), load_dictionary(dictionary_paths()["default-k8"])
    changed = np.flatnonzero((made.concepts != parent.concepts).any(axis=1)).tolist()
    assert changed
    assert set(changed) <= {0, 1}
    assert (made.identifier, made.provenance["parent"]) == ("mine-2", "default-k8")
    assert (made.classes[0].name, made.classes[0].colour) == ("Tumor", (200, 0, 0))
    assert fake.files_of(project) == before


def test_versions_are_never_overwritten(project, tmp_path, capsys):
    correct(project, reassigned=0)
    target = tmp_path / "mine-2.safetensors"
    target.write_bytes(b"mine")
    code, printed = refine(project, target, capsys)
    assert code == 1
    assert "exists" in printed.err
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "fields", [{}, {"review": "rejected"}, {"reassigned": 1}, {"reassigned": 0, "dictionary": "x"}]
)
def test_without_a_reassigned_polygon_of_the_dictionary_there_is_nothing_to_learn(project, tmp_path, capsys, fields):
    correct(project, **fields)
    code, printed = refine(project, tmp_path / "mine-2.safetensors", capsys)
    assert code == 1
    assert "reassigned" in printed.err
    assert not (tmp_path / "mine-2.safetensors").exists()
