"""``conceptseg export`` as a user runs it, in a QuPath of our own making."""

import json

import pytest

from conceptseg.cli.main import main


def rename(project, *names):
    """Give the project's image this name, or have as many images of these names."""
    document = json.loads(project.read_text())
    (image,) = document["images"]
    document["images"] = [{**image, "entryID": n, "imageName": name} for n, name in enumerate(names, start=1)]
    project.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.svs", "a.svs-1.geojson"),
        ("../../a.svs", ".._.._a.svs-1.geojson"),
        ("C:\\slides\\a.svs", "C__slides_a.svs-1.geojson"),
        ("a\nb\x1f.svs", "a\ufffdb\ufffd.svs-1.geojson"),
        ("con", "con-1.geojson"),
        ("CON.svs", "_CON.svs-1.geojson"),
        ("lpt1 .a.svs", "_lpt1 .a.svs-1.geojson"),
        ("ä" * 300, "ä" * 122 + "-1.geojson"),
    ],
)
def test_a_file_has_a_name_that_every_system_takes(project, tmp_path, name, file, capsys):
    rename(project, name)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["export", str(project), "--geojson", str(tmp_path / "out" / "here"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(tmp_path / "out" / "here" / file)]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == {tmp_path / "out" / "here" / file}


def test_images_whose_names_look_the_same_as_files_have_files_of_their_own(project, tmp_path, capsys):
    rename(project, "a/b", "a_b", "a:b", "a" * 300, "a" * 301)
    assert main(["export", str(project), "--geojson", str(tmp_path / "out"), "--json"]) == 0
    assert len(set(json.loads(capsys.readouterr().out)["files"])) == len(list((tmp_path / "out").iterdir())) == 5
