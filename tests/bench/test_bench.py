"""The benchmark as a command: slides of real tissue, honest lines, results on disk after each."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from conceptseg.bench.line import Line
from conceptseg.bench.slides import TILE_PX, synthetic_slide
from conceptseg.cli.main import main
from conceptseg.imaging.reader import open_image


@pytest.fixture(scope="module")
def texture():
    from skimage.data import immunohistochemistry

    return immunohistochemistry()


def test_a_synthetic_slide_is_a_calibrated_pyramid_with_the_share_of_tissue_asked_for(texture, tmp_path):
    mm2 = synthetic_slide(tmp_path / "slide.tif", texture, side_px=4100, tissue_share=0.25)
    with open_image(tmp_path / "slide.tif") as slide:
        assert (slide.width, slide.height, slide.pixel_size_um) == (4096, 4096, 0.5)
        small = slide.read(x=0, y=0, width=256, height=256, scale_x=16, scale_y=16)
        tissue = (small.reshape(8, 32, 8, 32, 3).mean(axis=(1, 3)) < 235).any(axis=2)
        assert tissue.mean() == pytest.approx(0.25, abs=0.02)
        assert mm2 == pytest.approx(tissue.sum() * (TILE_PX * 0.5e-3) ** 2)
        row, column = np.argwhere(tissue)[0]
        tile = slide.read(x=column * 512, y=row * 512, width=512, height=512, scale_x=1, scale_y=1)
    originals = [texture, texture[::-1], texture[:, ::-1], texture[::-1, ::-1]]
    assert min(np.abs(tile.astype(int) - original).mean() for original in originals) < 5  # JPEG


def test_a_ratio_is_larger_where_ours_is_better():
    assert Line(name="time", ours=1, baseline=5).ratio == 5
    assert Line(name="speed", ours=10, baseline=5, unit="Mpx/s", better="higher").ratio == 2


def test_the_command_writes_what_it_measures(texture, tmp_path, capsys):
    Image.fromarray(texture).save(tmp_path / "tissue.png")
    arguments = ["--device", "cpu", "--only", "slide", "--slide-px", "1024", "--k", "4"]
    assert main(["bench", "-o", str(tmp_path / "out"), "--texture", str(tmp_path / "tissue.png"), *arguments]) == 0
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    [line] = found["results"]
    assert line["name"] == "slide_vs_encoder"
    assert line["ratio"] == pytest.approx(line["ours"] / line["baseline"])
    assert line["detail"]["polygons"] > 0
    assert "slide_vs_encoder" in (tmp_path / "out" / "bench.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--growth", "20k"], "--growth 20k"),
        (["--growth", ""], "sides in px"),
        (["--growth", "100"], "at least 512"),
        (["--only", "growth", "--k", "20"], "default-k20"),
        (["--texture", "glass.png"], "no tissue in the middle of glass.png"),
        (["--only", "reference", "--encoder", "lunit-vits16", "--random-weights"], "without a fixed window"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((1024, 1024, 3), 243, np.uint8)).save("glass.png")
    assert main(["bench", "-o", "out", "--device", "cpu", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "bench.json").exists()


def test_slides_of_growing_size_run_in_processes_of_their_own(texture, tmp_path):
    Image.fromarray(texture).save(tmp_path / "tissue.png")
    arguments = ["--device", "cpu", "--only", "growth", "--growth", "1024,2048", "--growth-share", "0.5"]
    assert main(["bench", "-o", str(tmp_path / "out"), "--texture", str(tmp_path / "tissue.png"), *arguments]) == 0
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    runs = found["growth"]
    [line] = found["results"]
    assert line["name"] == "wsi_linear"
    assert line["ratio"] == pytest.approx(runs[0]["seconds_per_mm2"] / runs[1]["seconds_per_mm2"])
    assert [run["side_px"] for run in runs] == [1024, 2048]
    assert runs[1]["tissue_mm2"] > 2 * runs[0]["tissue_mm2"] > 0
    assert all(run["peak_gib"] > 0.2 and run["seconds"] > 0 for run in runs)


def test_growth_with_random_weights_is_refused(tmp_path, capsys):
    assert main(["bench", "-o", str(tmp_path), "--random-weights", "--encoder", "uni"]) == 1
    assert "leave it out" in capsys.readouterr().err


def test_the_json_goes_where_it_is_asked_for(texture, tmp_path):
    Image.fromarray(texture).save(tmp_path / "tissue.png")
    arguments = [
        "--device",
        "cpu",
        "--only",
        "slide",
        "--slide-px",
        "512",
        "--k",
        "4",
        "--json",
        str(tmp_path / "b.json"),
    ]
    assert main(["bench", "-o", str(tmp_path / "out"), "--texture", str(tmp_path / "tissue.png"), *arguments]) == 0
    assert json.loads((tmp_path / "b.json").read_text())["results"]


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("cellpose=python", "expected NAME=PYTHON with a name of lazyslide, tiatoolbox, grad-cam"),
        ("lazyslide", "expected NAME=PYTHON"),
        ("lazyslide=/no/such/python", "Cannot run /no/such/python"),
        (f"lazyslide={sys.executable}", "No module named 'lazyslide'"),
    ],
)
def test_a_peer_that_cannot_be_run_is_a_sentence(peer, said, texture, tmp_path, capsys):
    Image.fromarray(texture).save(tmp_path / "tissue.png")
    arguments = ["--device", "cpu", "--only", "peers", "--slide-px", "512", "--k", "4", "--peer", peer]
    assert main(["bench", "-o", str(tmp_path / "out"), "--texture", str(tmp_path / "tissue.png"), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_the_part_peers_needs_to_know_where_they_are(tmp_path, capsys):
    assert main(["bench", "-o", str(tmp_path), "--only", "peers"]) == 1
    assert "--peer" in capsys.readouterr().err
