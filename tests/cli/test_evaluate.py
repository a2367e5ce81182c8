"""``conceptseg evaluate`` as a user runs it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from conceptseg.cli.main import main


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Four pictures, cells on the left and glass on the right, with masks."""
    from skimage.data import immunohistochemistry

    folder = tmp_path_factory.mktemp("data") / "halves"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    tissue = immunohistochemistry()
    for number in range(4):
        rgb = np.full((160, 192, 3), 242, np.uint8)
        rgb[:, :96] = tissue[number * 100 : number * 100 + 160, 200:296]
        mask = np.zeros((160, 192), np.uint8)
        mask[:, :96] = 1
        mask[:8] = 9  # not looked at
        Image.fromarray(rgb).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


def run(folder, *options):
    arguments = ["--images", folder / "images", "--masks", folder / "masks", "--pixel-size-um", 0.5, *options]
    return main(["evaluate", *map(str, arguments)])


def test_one_command_scores_methods_side_by_side(dataset, tmp_path, capsys):
    files = [tmp_path / name for name in ("a.json", "a.md", "pages")]
    methods = ["--method", "projection", "--method", "nearest", "--method", "default"]
    options = ["--ignore", 9, "--k", 8, "--json", files[0], "--markdown", files[1], "--pictures", files[2]]
    assert run(dataset, *options, *methods, "--seeds", 3) == 0
    printed = capsys.readouterr().out
    assert files[1].read_text() == printed.rstrip("\n") + "\n"
    content = json.loads(files[0].read_text())
    assert content["dictionary"] == "default-k8"
    assert content["seeds"] == [0, 1, 2]
    found = content["datasets"]["halves"]["methods"]
    assert list(found) == ["projection", "nearest", "default"]
    for values in found.values():
        assert values["miou"]["mean"] > 0.6  # one class everywhere gives 0.25
        assert values["boundary_f1"]["mean"] > 0.5
        assert len(values["class_iou"]) == 2
        assert values["seconds"] > 0
    assert content["datasets"]["halves"]["chance"]["miou"]["mean"] < 0.4
    with Image.open(files[2] / "halves.png") as page:
        assert page.width > 5 * 256  # image, truth, three methods
        assert page.height > 4 * 200  # every image, though only half of them are scored at a time


def test_the_same_command_gives_the_same_figures(dataset, tmp_path):
    for name in ("a.json", "b.json"):
        assert run(dataset, "--ignore", 9, "--method", "matched", "--json", tmp_path / name, "--quiet") == 0
    first, second = (json.loads((tmp_path / name).read_text())["datasets"]["halves"] for name in ("a.json", "b.json"))
    for content in (first, second):
        del content["methods"]["matched"]["seconds"]
    assert first == second


def test_the_exact_projection_labels_as_the_reference_does(dataset, tmp_path):
    options = ["--ignore", 9, "--method", "projection", "--method", "reference", "--json", tmp_path / "a.json"]
    assert run(dataset, *options) == 0
    found = json.loads((tmp_path / "a.json").read_text())["datasets"]["halves"]["methods"]
    assert found["projection"]["miou"]["mean"] == pytest.approx(found["reference"]["miou"]["mean"], abs=0.01)
    off = found["reference"]["inexactness"]
    assert 0 <= off["other_labels"] < 0.02
    assert -1e-6 < off["least_excess"] <= off["largest_excess"] < 0.01  # never better than the optimum
    assert "inexactness" not in found["projection"]


def test_methods_with_other_dictionaries_stand_beside(dataset, tmp_path, capsys):
    """The encoder is that of the dictionary."""
    other = "projection@efficientnet-lite0-k8"
    options = ["--method", "projection", "--method", other, "--json", tmp_path / "a.json"]
    assert run(dataset, "--ignore", 9, *options) == 0
    found = json.loads((tmp_path / "a.json").read_text())["datasets"]["halves"]["methods"]
    assert list(found) == ["projection", other]
    assert found["projection"]["nmi"] != found[other]["nmi"]
    assert other in capsys.readouterr().out
    assert run(dataset, "--method", "projection@nothing") == 1
    assert "nothing" in capsys.readouterr().err
    assert run(dataset, "--method", "magic") == 2
    assert "expected one of default, projection" in capsys.readouterr().err


def test_methods_that_learn_take_their_concepts_from_the_data(dataset, tmp_path):
    methods = ["--method", "learned", "--method", "kmeans"]
    assert run(dataset, "--ignore", 9, "--k", 8, *methods, "--json", tmp_path / "a.json") == 0
    found = json.loads((tmp_path / "a.json").read_text())["datasets"]["halves"]["methods"]
    for values in found.values():
        assert values["miou"]["mean"] > 0.6


def test_several_data_sets_share_a_table_and_a_mean(dataset, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    command = ["--images", other / "images", "--masks", other / "masks", "--pixel-size-um", 0.5]
    options = ["--ignore", 9, "--method", "nearest", "--json", tmp_path / "a.json", *command]
    assert run(dataset, *options) == 0
    content = json.loads((tmp_path / "a.json").read_text())
    halves, copy = (content["datasets"][name]["methods"]["nearest"] for name in ("halves", "other"))
    assert halves["miou"] == copy["miou"]
    assert content["mean"]["methods"]["nearest"]["miou"]["mean"] == pytest.approx(halves["miou"]["mean"])
    assert "| mean of 2 | nearest |" in capsys.readouterr().out
    assert run(dataset, *options, "--pixel-size-um", 0.25) == 1
    assert "one for each of 2 data sets" in capsys.readouterr().err
    assert run(dataset, "--images", dataset / "images", "--masks", dataset / "masks") == 1
    assert "Two data sets are called halves" in capsys.readouterr().err


def test_tiles_by_class_are_scored_by_their_main_concept(dataset, tmp_path, capsys):
    tiles = tmp_path / "tiles"
    for number in range(4):
        with Image.open(dataset / "images" / f"{number}.png") as image:
            for name, left in (("cells", 0), ("glass", 96)):
                (tiles / name).mkdir(parents=True, exist_ok=True)
                image.crop((left, 0, left + 96, 160)).save(tiles / name / f"{number}.png")
    command = ["evaluate", "--tiles", tiles, "--pixel-size-um", 0.5, "--k", 8, "--method", "default"]
    assert main([str(item) for item in [*command, "--json", tmp_path / "a.json"]]) == 0
    found = json.loads((tmp_path / "a.json").read_text())["datasets"]["tiles"]
    assert found["tiles"] == 8
    assert found["methods"]["default"]["purity"]["mean"] == 1  # glass has no concept, cells have
    assert found["methods"]["default"]["accuracy"]["mean"] > 0.7
    assert "| data set | method | accuracy | purity |" in capsys.readouterr().out
    assert main(["evaluate", "--tiles", str(tiles / "cells")]) == 1
    assert "at least two classes" in capsys.readouterr().err
    assert main(["evaluate"]) == 1
    assert "--images with --masks, or --tiles" in capsys.readouterr().err


def test_what_is_missing_is_told_before_the_work(dataset, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    arguments = ["evaluate", "--images", dataset / "images", "--masks", tmp_path / "masks"]
    assert main([str(item) for item in arguments]) == 1
    assert "lacks 4 of 4 masks" in capsys.readouterr().err
    assert main([str(item) for item in [*arguments, "--images", dataset]]) == 1
    assert "as many --masks as --images" in capsys.readouterr().err
    assert run(dataset, "--fit-split", 1) == 1
    assert "both sides of the split" in capsys.readouterr().err


def test_a_mask_in_colours_is_refused(dataset, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    for file in (dataset / "images").iterdir():
        (tmp_path / "masks" / file.name).write_bytes(file.read_bytes())
    arguments = ["evaluate", "--images", dataset / "images", "--masks", tmp_path / "masks", "--pixel-size-um", 0.5]
    assert main([str(item) for item in arguments]) == 1
    error = capsys.readouterr().err
    assert "0.png" in error
    assert "one class index per pixel" in error
