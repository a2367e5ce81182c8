"""``conceptseg concepts suggest-names`` as a user runs it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from shapely import Point, box, to_geojson
from tests.qupath.project import fake

from conceptseg.cli.main import main
from conceptseg.cli.named_areas import find_named_areas
from conceptseg.qupath.project.labels import Labels
from conceptseg.qupath.writer_process import ProjectProcess

GLANDS, STROMA = box(0, 0, 120, 500), box(380, 0, 500, 500)


@pytest.fixture(scope="module")
def colon():
    from skimage.data import immunohistochemistry

    return immunohistochemistry()


@pytest.fixture
def suggest(capsys):
    """Runs the command; returns exit code, the suggestions, and what it said on standard error."""

    def run(*arguments):
        command = ["concepts", "suggest-names", "default-k8", *arguments, "--device", "cpu"]
        code = main([str(word) for word in [*command, "--pixel-size-um", 0.5, "--json"]])
        printed = capsys.readouterr()
        return code, json.loads(printed.out), printed.err

    return run


def classes_of(found):
    return {each["class_name"] for one in found["concepts"] for each in one["evidence"]}


def feature(outline, name=None, **metadata):
    properties = {"objectType": "annotation", "metadata": metadata}
    if name:
        properties["classification"] = {"name": name, "color": [1, 2, 3]}
    return {"type": "Feature", "geometry": json.loads(to_geojson(outline)), "properties": properties}


@pytest.fixture
def annotated(tmp_path, colon):
    """A picture with annotations beside it."""
    image = tmp_path / "slide.png"
    Image.fromarray(colon).save(image)
    features = [
        feature(GLANDS, "Tumor"),
        feature(STROMA, "Stroma"),
        feature(box(0, 0, 512, 512), "Region*"),
        feature(box(0, 0, 512, 512)),
        feature(box(0, 0, 512, 512), "Concept 03", **{"conceptseg.run": "x"}),
    ]
    derived = feature(box(120, 0, 200, 200), "x")
    derived["properties"]["classification"] = {"names": ["Stroma", "Positive"], "color": [1, 2, 3]}
    (tmp_path / "slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [*features, derived]}))
    return image


@pytest.fixture
def tiles(tmp_path, colon):
    """A folder with two folders of tiles."""
    for number, folder in enumerate(("01_GLANDS", "02_Loose stroma")):
        (tmp_path / "tiles" / folder).mkdir(parents=True)
        for n in range(2):
            part = colon[200 * n : 200 * n + 200, 300 * number : 300 * number + 200]
            Image.fromarray(part).save(tmp_path / "tiles" / folder / f"{n}.png")
    return tmp_path / "tiles"


def test_annotations_beside_an_image_name_its_concepts(suggest, annotated):
    code, found, said = suggest(annotated)
    assert code == 0, said
    assert (found["dictionary"], len(found["concepts"])) == ("default-k8", 8)
    assert classes_of(found) == {"Tumor", "Stroma"}
    seen = [one for one in found["concepts"] if one["class_name"]]
    assert seen
    for one in seen:
        assert 0.5 <= one["confidence"] <= 1
        assert sum(each["share"] for each in one["evidence"]) == pytest.approx(1)
    assert max(each["of_areas"] for one in seen for each in one["evidence"] if each["class_name"] == "Stroma") == 2


def test_annotations_are_looked_at_on_their_own_slice(suggest, annotated, colon, tmp_path):
    _, expected, _ = suggest(annotated)
    stack = tmp_path / "in" / "stack.ome.tif"
    stack.parent.mkdir()
    glass = np.full_like(colon, 255)
    tifffile.imwrite(stack, np.stack([glass, glass, colon]), photometric="rgb", metadata={"axes": "ZYXS"})
    document = json.loads(annotated.with_suffix(".geojson").read_text())
    for one in document["features"]:
        one["geometry"]["plane"] = {"c": -1, "z": 2, "t": 0}
    (tmp_path / "in" / "stack.ome.tif.geojson").write_text(json.dumps(document))
    code, found, said = suggest(stack)
    assert code == 0, said
    assert found == expected


def test_points_beside_areas_are_left_out_and_named(annotated, capsys):
    file = annotated.with_suffix(".geojson")
    document = json.loads(file.read_text())
    document["features"] += [feature(Point(9, 9), "Tumor"), {**feature(box(0, 0, 1, 1), "Stroma"), "geometry": None}]
    file.write_text(json.dumps(document))
    (image,) = find_named_areas([annotated])
    assert sorted(drawn.class_name for drawn in image.drawn) == ["Stroma", "Stroma", "Tumor"]
    said = capsys.readouterr().err
    assert said.endswith("Left out: feature 7 (Tumor): Point, feature 8 (Stroma): no geometry.\n")
    assert said.count("\n") == 1


def test_the_table_tells_concept_class_confidence_and_numbers(annotated, capsys):
    command = ["concepts", "suggest-names", "default-k8", str(annotated), "--pixel-size-um", "0.5", "--device", "cpu"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Concept 07" in printed
    assert "µm²" in printed


def test_folders_of_tiles_are_classes(suggest, tiles):
    code, found, said = suggest(tiles)
    assert code == 0, said
    assert classes_of(found) == {"Glands", "Loose stroma"}


def test_annotations_of_a_project_name_concepts_and_it_stays_as_it_is(suggest, tmp_path, colon, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    process = partial(ProjectProcess, backend=fake.FakeBackend)
    monkeypatch.setattr("conceptseg.cli.named_areas.ProjectProcess", process)
    project = fake.make_project(tmp_path / "Study", images=2)
    Image.fromarray(colon).save(project.parent / "slide-1.png")
    (project.parent / "data" / "2" / "data.qpdata").write_text(json.dumps({"objects": []}))  # and no slide
    drawn = [
        fake.drawn_by_hand("a", "Tumor: Positive", outline=GLANDS),
        fake.drawn_by_hand("b", "Stroma", outline=STROMA),
        fake.drawn_by_hand("c", None, outline=STROMA),
        {**fake.drawn_by_hand("d", "Concept 01", outline=STROMA), "run": "r", "dictionary": "x", "concepts": [1]},
    ]
    (project.parent / "data" / "1" / "data.qpdata").write_text(json.dumps({"objects": drawn}))
    before = fake.files_of(project)
    code, found, said = suggest(project)
    assert code == 0, said
    assert classes_of(found) == {"Tumor", "Stroma"}
    assert fake.files_of(project) == before
    (tmp_path / "moved").mkdir()
    (project.parent / "slide-1.png").rename(tmp_path / "moved" / "slide-1.png")
    assert suggest(project, "--rebase", project.parent, tmp_path / "moved")[1] == found


def test_names_that_are_sure_enough_become_a_labels_file_if_asked(suggest, annotated, tmp_path):
    output = tmp_path / "labels.json"
    _, found, said = suggest(annotated, "-o", output, "--min-confidence", 0.7)
    sure = {one["concept"]: one["class_name"] for one in found["concepts"] if one["confidence"] >= 0.7}
    assert f"names of {len(sure)} of 8 concepts" in said
    assert {n: label.name for n, label in Labels.load(output).of("default-k8").items()} == sure


def test_labels_of_people_are_not_overwritten(annotated, tmp_path, capsys):
    output = tmp_path / "labels.json"
    output.write_text("mine")
    assert main(["concepts", "suggest-names", "default-k8", str(annotated), "-o", str(output)]) == 1
    assert "exists" in capsys.readouterr().err
    assert output.read_text() == "mine"


def test_only_areas_of_chosen_classes(tiles, capsys):
    command = ["concepts", "suggest-names", "default-k8", str(tiles), "--pixel-size-um", "0.5", "--device", "cpu"]
    assert main([*command, "--class", "Glands"]) == 1
    assert "at least two classes, got Glands" in capsys.readouterr().err
    assert main([*command, "--class", "Gland"]) == 1
    assert "There are: Glands, Loose stroma" in capsys.readouterr().err


def test_images_that_cannot_be_read_are_named_and_left_out_only_if_asked(suggest, tiles, capsys):
    bad = tiles / "01_GLANDS" / "bad.png"
    bad.write_bytes(b"no picture")
    assert main(["concepts", "suggest-names", "default-k8", str(tiles), "--pixel-size-um", "0.5"]) == 1
    assert "--skip-bad" in capsys.readouterr().err
    code, _, said = suggest(tiles, "--skip-bad")
    assert code == 0
    assert f"{bad}: left out. " in said


@pytest.mark.parametrize("prepare", [lambda folder: folder / "no.svs", lambda folder: folder])
def test_inputs_without_named_areas_are_refused(prepare, tmp_path, capsys):
    assert main(["concepts", "suggest-names", "default-k8", str(prepare(tmp_path))]) == 1
    assert "Expected a QuPath project" in capsys.readouterr().err


def test_an_image_without_annotations_beside_it_says_how_to_export_them(annotated, capsys):
    annotated.with_suffix(".geojson").unlink()
    assert main(["concepts", "suggest-names", "default-k8", str(annotated)]) == 1
    assert "Export objects as GeoJSON" in capsys.readouterr().err
