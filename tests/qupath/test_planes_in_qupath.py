"""Which image of a file, and which plane of a stack, a real QuPath means; and where it finds our results."""

import json

import numpy as np
import pytest
import tifffile
from tests.qupath.project.worlds import run_script

from conceptseg.cli.main import main
from conceptseg.imaging.reader import open_image
from conceptseg.qupath.locate import find_qupath_installations

pytestmark = pytest.mark.qupath
QUPATHS = [pytest.param(q, id=f"QuPath {q.version}") for q in find_qupath_installations()] or [None]
COMMON = ("--k", "8", "--quiet")

# An annotation of Tumor on the last slice.
DRAW = """
def roi = ROIs.createRectangleROI(20, 20, 200, 200, ImagePlane.getPlane(2, 0))
addObject(PathObjects.createAnnotationObject(roi, PathClass.fromString("Tumor")))
"""


@pytest.fixture(params=QUPATHS)
def qupath(request, monkeypatch):
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(request.param.path))
    monkeypatch.setattr("conceptseg.qupath.running.running_qupaths", lambda: iter(()))
    return request.param


@pytest.fixture(scope="module")
def tissue():
    from skimage.data import immunohistochemistry

    return immunohistochemistry()[:256, :256]


def several(path, *images):
    with tifffile.TiffWriter(path, ome=True) as file:
        for name, pixels in images:
            metadata = {"axes": "YXS", "Name": name, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            file.write(pixels, photometric="rgb", metadata=metadata)
    return path


def planes(project, tmp_path):
    """Image -> the planes of its objects, as QuPath exports them; None is z = 0, t = 0."""
    folder = tmp_path / "geojson"
    assert main(["export", str(project), "--geojson", str(folder)]) == 0
    found = {}
    for file in folder.iterdir():
        features = json.loads(file.read_text())["features"]
        found[file.name] = {(f["geometry"].get("plane") or {}).get("z") for f in features}
        file.unlink()
    return found


def test_the_image_that_qupath_proposes_is_the_one_that_is_read(qupath, tissue, tmp_path):
    large = np.tile(tissue, (2, 2, 1))
    slides = [
        several(tmp_path / "macro.ome.tif", ("macro", large), ("slide", tissue)),
        several(tmp_path / "label.ome.tif", ("Label Image", large), ("macro", large), ("B", tissue)),
        several(tmp_path / "two.ome.tif", ("A", tissue), ("B", large[:300, :300])),
    ]
    project = tmp_path / "project"
    assert main(["annotate", "--create-project", str(project), *map(str, slides), *COMMON]) == 0
    answer = tmp_path / "answer.json"
    paths = ", ".join(f'"{slide}"' for slide in slides)
    # What QuPath opens when it is told the file and nothing else.
    script = f"""
        def sizes = [{paths}].collect {{
            def server = qupath.lib.images.servers.ImageServers.buildServer(new File(it).toURI())
            [server.getWidth(), server.getHeight()]
        }}
        new File("{answer}").text = qupath.lib.io.GsonTools.getInstance().toJson(sizes)
    """
    run_script(qupath, tmp_path, script)
    for slide, size in zip(slides, json.loads(answer.read_text()), strict=True):
        with open_image(slide) as reader:
            assert [reader.width, reader.height] == size


def test_results_lie_on_the_middle_slice_or_on_that_of_their_annotation(qupath, tissue, tmp_path):
    slide = tmp_path / "stack.ome.tif"
    metadata = {"axes": "ZYXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    slices = np.stack([tissue, tissue[::-1], tissue[:, ::-1]])
    tifffile.imwrite(slide, slices, photometric="rgb", metadata=metadata)
    project = tmp_path / "project"
    assert main(["annotate", "--create-project", str(project), str(slide), *COMMON]) == 0
    (found,) = planes(project, tmp_path).values()
    assert found == {1}
    run_script(qupath, tmp_path, DRAW, "--save", "-p", project / "project.qpproj")
    assert main(["annotate", str(project), "--within", "Tumor", *COMMON]) == 0
    assert main(["annotate", str(project), "--z", "0", *COMMON]) == 0
    (found,) = planes(project, tmp_path).values()
    assert found == {None, 1, 2}
