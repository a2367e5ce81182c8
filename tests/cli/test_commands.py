"""The smaller commands."""

import json

import numpy as np
import pytest
from PIL import Image

from conceptseg.cli.main import main


def run(*arguments, capsys):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_help_names_every_command(capsys):
    code, out, _ = run("--help", capsys=capsys)
    assert code == 0
    for name in ("segment", "concepts", "encoders", "doctor"):
        assert name in out


def test_doctor_says_what_there_is_and_what_is_missing(capsys):
    code, out, _ = run("doctor", "--json", capsys=capsys)
    facts = json.loads(out)
    assert code == 0
    assert facts["default encoder"] == "works"
    assert "default-k16" in facts["dictionaries"]
    assert (facts["QuPath"] == "not found") == any("No QuPath" in line for line in facts["advice"])


def test_encoders_are_listed_with_what_they_need(capsys):
    listed = {spec["identifier"]: spec for spec in json.loads(run("encoders", "--json", capsys=capsys)[1])}
    assert listed["uni"]["gated"]
    assert listed["default"]["halo_px"] == 96


def test_concepts_can_be_fitted_listed_shown_and_used(tmp_path, capsys, monkeypatch):
    from skimage.data import immunohistochemistry

    monkeypatch.setenv("CONCEPTSEG_DICTIONARIES", str(tmp_path / "own"))
    monkeypatch.setattr("sys.argv", ["conceptseg", "concepts", "fit", "images"])
    (tmp_path / "images").mkdir()
    Image.fromarray(immunohistochemistry()).save(tmp_path / "images" / "a.png")
    options = ["--k", 3, "--k", 5, "--pixel-size-um", 0.5, "--name", "colon", "--seed", 2]
    assert run("concepts", "fit", tmp_path / "images", *options, capsys=capsys)[0] == 0
    listed = json.loads(run("concepts", "list", "--json", capsys=capsys)[1])
    assert {"colon-k3", "colon-k5", "default-k16"} <= {row["dictionary"] for row in listed}
    shown = json.loads(run("concepts", "show", "colon-k5", "--json", capsys=capsys)[1])
    assert (shown["n_concepts"], shown["seed"], shown["command"]) == (5, "2", "conceptseg concepts fit images")
    image, output = tmp_path / "images" / "a.png", tmp_path / "a.geojson"
    options = ["--pixel-size-um", 0.5, "--dictionary", "colon-k3", "--quiet"]
    assert run("segment", image, "-o", output, *options, capsys=capsys)[0] == 0
    names = {f["properties"]["classification"]["name"] for f in json.loads(output.read_text())["features"]}
    assert names <= {"Concept 00", "Concept 01", "Concept 02"}


def test_a_folder_without_images_is_refused(tmp_path, capsys):
    code, _, err = run("concepts", "fit", tmp_path, "--k", 3, capsys=capsys)
    assert code == 1
    assert "holds no image" in err


def test_an_import_for_the_wrong_encoder_is_refused(tmp_path, capsys):
    import joblib

    joblib.dump({2: np.ones((2, 7), np.float32)}, tmp_path / "c.joblib")
    code, _, err = run(
        "concepts", "import", tmp_path / "c.joblib", "--encoder", "uni", "--folder", tmp_path / "d", capsys=capsys
    )
    assert code == 1
    assert "7 channels" in err
    assert "No encoder here has 7 channels" in err
    assert not (tmp_path / "d").exists()


def test_an_import_names_the_encoders_that_fit(tmp_path, capsys):
    import joblib

    joblib.dump({2: np.ones((2, 1536), np.float32)}, tmp_path / "c.joblib")
    for encoder, said in (("uni", "1536 channels, and uni has 1024"), ("timm:resnet18", "for timm:resnet18")):
        options = ["--encoder", encoder, "--folder", tmp_path / "d"]
        code, _, err = run("concepts", "import", tmp_path / "c.joblib", *options, capsys=capsys)
        assert code == 1
        assert said in err
        advice = err.partition("Choose the --encoder")[2]
        assert "prov-gigapath" in advice
        assert f": {encoder}" not in advice if encoder.startswith("timm") else " uni " not in advice


@pytest.mark.shared
def test_published_dictionaries_are_imported(shared_data, tmp_path, capsys):
    file = shared_data / "concepts" / "uni.joblib"
    options = ["--encoder", "uni", "--k", 16, "--folder", tmp_path]
    assert run("concepts", "import", file, *options, capsys=capsys)[0] == 0
    shown = json.loads(run("concepts", "show", tmp_path / "uni-k16.safetensors", "--json", capsys=capsys)[1])
    assert (shown["encoder"], shown["n_concepts"], shown["channels"]) == ("uni", 16, 1024)
    assert "Apache-2.0" in shown["source"]
