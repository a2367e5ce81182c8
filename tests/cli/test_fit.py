"""``conceptseg concepts fit`` as a user runs it."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.qupath.project import fake

from conceptseg.cli.image_inputs import find_images
from conceptseg.cli.main import main
from conceptseg.factorization.dictionary_file import load_dictionary


@pytest.fixture(scope="module")
def colon():
    from skimage.data import immunohistochemistry

    return immunohistochemistry()


@pytest.fixture
def slides(tmp_path, colon):
    """Three pictures of tissue in a folder."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(colon[150 * number : 150 * number + 200]).save(folder / f"slide-{number + 1}.png")
    return folder


@pytest.fixture
def project(tmp_path, slides):
    """A project of the same three pictures."""
    made = fake.make_project(tmp_path / "Study", images=3)
    document = json.loads(made.read_text())
    for image in document["images"]:
        image["serverBuilder"]["uri"] = (slides / image["imageName"]).as_uri()
    made.write_text(json.dumps(document))
    return made


@pytest.fixture
def fit(tmp_path, capsys):
    """Runs the command; returns exit code, the dictionary per k, and what it said on standard error."""

    def run(*arguments, ks=(3,), pixel_size_um=0.5):
        folder = tmp_path / "made"
        options = [word for k in ks for word in ("--k", k)]
        if pixel_size_um:
            options += ["--pixel-size-um", pixel_size_um]
        command = ["concepts", "fit", *arguments, *options, "--device", "cpu", "--folder", folder, "--overwrite"]
        code = main([str(word) for word in command])
        made = {k: load_dictionary(folder / f"default-k{k}.safetensors") for k in ks} if code == 0 else {}
        return code, made, capsys.readouterr().err

    return run


def calibrated(project, microns=0.5):
    document = json.loads(project.read_text())
    side = {"value": microns, "unit": "µm"}
    for image in document["images"]:
        calibration = {"pixelWidth": side, "pixelHeight": side}
        image["serverBuilder"]["metadata"] = {"width": 512, "height": 200, "pixelCalibration": calibration}
    project.write_text(json.dumps(document))


def test_slides_folders_and_projects_of_the_same_images_give_the_same_dictionary(fit, slides, project):
    calibrated(project)
    _, by_file, _ = fit(*sorted(slides.iterdir()))
    _, by_folder, _ = fit(slides)
    # The project says how large its pixels are.
    _, by_project, _ = fit(project, pixel_size_um=None)
    _, by_project_folder, _ = fit(project.parent, slides, pixel_size_um=None)
    for made in (by_folder, by_project, by_project_folder):
        np.testing.assert_array_equal(made[3].concepts, by_file[3].concepts)
    assert by_project[3].provenance["images"] == by_project_folder[3].provenance["images"] == "3"


def test_missing_images_of_a_project_are_named_and_left_out_only_if_asked(fit, slides, project):
    (slides / "slide-2.png").unlink()
    code, _, said = fit(project)
    assert code == 1
    assert "1 of 3 images" in said
    assert "slide-2.png" in said
    assert "--skip-bad" in said
    code, made, said = fit(project, "--skip-bad")
    assert code == 0
    assert "slide-2.png: left out. " in said
    assert (made[3].provenance["images"], made[3].provenance["images left out"]) == ("2", "1")


def test_slides_that_were_moved_are_found(fit, slides, project, tmp_path):
    slides.rename(tmp_path / "elsewhere")
    assert fit(project)[0] == 1
    assert fit(project, "--rebase", slides, tmp_path / "elsewhere")[0] == 0


def test_only_images_of_a_project_with_such_a_name(fit, project):
    assert fit(project, "--images", "*-3.png")[1][3].provenance["images"] == "1"


def test_every_concept_of_a_hierarchy_has_parts_and_show_tells_them(fit, slides, tmp_path, capsys):
    code, made, said = fit(slides, "--hierarchical", ks=(4, 2, 8))
    assert code == 0, said
    assert "then merged" in made[2].provenance["method"]
    shown = {}
    for k in (2, 4, 8):
        file = tmp_path / "made" / f"default-k{k}.safetensors"
        assert main(["concepts", "show", str(file), "--json"]) == 0
        shown[k] = json.loads(capsys.readouterr().out)
    assert (shown[4]["coarser dictionary"], shown[4]["finer dictionary"]) == ("default-k2", "default-k8")
    assert set(shown[4]["parents"]) == {0, 1}
    assert sorted(part for parts in shown[4]["children"] for part in parts) == list(range(8))
    for concept, children in enumerate(shown[4]["children"]):
        assert [shown[8]["parents"][child] for child in children] == [concept] * len(children)
    assert main(["concepts", "show", str(tmp_path / "made" / "default-k4.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "Concept 00: part of 0 of default-k2; made of 0" in text


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ([], "mini-batch k-means (scikit-learn)"),
        (["--spherical"], "spherical k-means (torch)"),
        (["--algorithm", "nmf"], "mini-batch NMF (scikit-learn)"),
    ],
)
def test_the_dictionary_says_how_it_was_learned(fit, slides, options, method):
    assert fit(slides, *options)[1][3].provenance["method"] == f"{method} on tissue tokens"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hierarchical"], "several --k"),
        (["--spherical", "--algorithm", "nmf"], "--spherical belongs to k-means"),
    ],
)
def test_options_that_contradict_each_other_are_refused(fit, slides, options, message):
    code, _, said = fit(slides, *options)
    assert code == 1
    assert message in said


def test_a_work_folder_serves_another_k_without_reading_a_slide(fit, slides, tmp_path):
    work = ["--work", tmp_path / "work"]
    _, first, _ = fit(slides, *work)
    # A slide whose pixels changed, but neither size nor time, tells whether it was read again.
    for slide in slides.iterdir():
        status = slide.stat()
        slide.write_bytes(bytes(status.st_size))
        os.utime(slide, ns=(status.st_atime_ns, status.st_mtime_ns))
    code, second, said = fit(slides, *work, ks=(3, 5))
    assert code == 0, said
    assert "3 of them from" in said
    np.testing.assert_array_equal(first[3].concepts, second[3].concepts)
    assert fit(slides, *work, "--seed", 1)[0] == 1
    assert fit(slides, *work, pixel_size_um=0.4)[0] == 1  # other pixels: read again, and found to be damaged


_KILLED = """
import os, signal, sys
from contextlib import contextmanager
from conceptseg.cli.concepts import fit
from conceptseg.cli.main import main

@contextmanager
def killing():
    def report(progress):
        if (progress.stage, progress.done) == ("encode", 2):
            os.kill(os.getpid(), signal.SIGKILL)
    yield report

sys.modules["conceptseg.cli.concepts.tokens"].progress_bar = killing
main(sys.argv[1:])
"""


def test_a_killed_fit_goes_on_where_it_was(fit, slides, tmp_path):
    _, whole, _ = fit(slides)
    options = ["--k", "3", "--pixel-size-um", "0.5", "--device", "cpu", "--work", str(tmp_path / "work")]
    killed = subprocess.run([sys.executable, "-c", _KILLED, "concepts", "fit", str(slides), *options])
    assert killed.returncode == -signal.SIGKILL
    code, resumed, said = fit(slides, "--work", tmp_path / "work")
    assert code == 0
    assert "2 of them from" in said
    np.testing.assert_array_equal(resumed[3].concepts, whole[3].concepts)


def test_what_a_project_keeps_for_itself_is_no_slide(tmp_path, colon):
    project = fake.make_project(tmp_path / "all" / "Study", images=1)
    Image.fromarray(colon[:100]).save(project.parent / "slide-1.png")
    Image.fromarray(colon[:50]).save(project.parent / "data" / "1" / "thumbnail.jpg")
    Image.fromarray(colon[:50]).save(tmp_path / "all" / ".hidden.png")
    assert [image.path.name for image in find_images([tmp_path / "all"])] == ["slide-1.png"]


def test_a_number_of_concepts_is_suggested_and_its_tokens_serve_the_fit(fit, slides, tmp_path, capsys):
    options = ["--pixel-size-um", "0.5", "--work", str(tmp_path / "work"), "--device", "cpu", "--repeats", "2"]
    command = ["concepts", "suggest-k", str(slides), "--k", "2", "--k", "4", *options]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["k"] in (2, 4)
    assert [one["k"] for one in found["candidates"]] == [2, 4]
    assert found["sureness"] in ("clear", "fair", "weak", "none")
    assert main(command) == 0
    printed = capsys.readouterr()
    assert found["sentence"] in printed.out
    assert "3 of them from" in printed.err
    assert "3 of them from" in fit(slides, "--work", tmp_path / "work")[2]


def test_an_earlier_dictionary_is_not_replaced_unless_asked(slides, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CONCEPTSEG_DICTIONARIES", str(tmp_path / "own"))
    options = ["--k", "3", "--pixel-size-um", "0.5", "--device", "cpu"]

    def refused(*more):
        code = main(["concepts", "fit", str(slides), *options, *more])
        return capsys.readouterr().err if code == 1 else None

    assert "There is a dictionary default-k16" in refused("--k", "16")  # a shipped one
    assert refused("--name", "mine") is None
    assert "There is a dictionary mine-k3" in refused("--name", "mine")
    assert refused("--name", "mine", "--overwrite") is None
    assert "no name for a dictionary" in refused("--name", "a/b")


def test_every_image_of_a_file_in_a_project_is_read_once(tmp_path):
    slide = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(slide, ome=True) as file:
        for grey in (60, 120):
            file.write(np.full((64, 64, 3), grey, np.uint8), photometric="rgb", metadata={"axes": "YXS"})
    builder = {"builderType": "uri", "uri": slide.as_uri()}
    entries = [
        {"entryID": number, "imageName": f"image {number}", "serverBuilder": {**builder, "args": ["--series", series]}}
        for number, series in enumerate(("0", "1", "1"))
    ]
    project = tmp_path / "project.qpproj"
    project.write_text(json.dumps({"version": "0.7.0", "images": entries}))
    images = find_images([project])
    seen = []
    for image in images:
        with image.open() as reader:
            seen.append(int(reader.read(x=0, y=0, width=1, height=1, scale_x=1, scale_y=1)[0, 0, 0]))
    assert seen == [60, 120]
    identities = [image.to_read(encoder_pixel_size_um=0.5, otherwise_um=0.5).identity for image in images]
    assert identities[0] != identities[1]
