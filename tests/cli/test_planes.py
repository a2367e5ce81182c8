"""``conceptseg segment`` on files of several images and planes."""

import json

import numpy as np
import pytest
import tifffile
from shapely import box
from shapely.geometry import mapping

from conceptseg.cli.main import main


@pytest.fixture(scope="module")
def tissue():
    from skimage.data import immunohistochemistry

    return immunohistochemistry()[:256, :256]


@pytest.fixture(scope="module")
def stack(tissue, tmp_path_factory):
    """Tissue in the last of three slices; the others are glass."""
    path = tmp_path_factory.mktemp("stack") / "stack.ome.tif"
    slices = np.full((3, *tissue.shape), 255, np.uint8)
    slices[2] = tissue
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, slices, photometric="rgb", metadata={"axes": "ZYXS"} | sizes)
    return path


def segment(path, tmp_path, *options, capsys):
    """Exit code, features, and what stands on standard error."""
    output = tmp_path / "out.geojson"
    code = main(["segment", str(path), "-o", str(output), "--k", "8", *map(str, options)])
    err = capsys.readouterr().err
    return code, json.loads(output.read_text())["features"] if code == 0 else [], err


def planes(features):
    return {json.dumps(feature["geometry"].get("plane")) for feature in features}


def roi(tmp_path, *areas, by_qupath=True):
    features = [
        {
            "type": "Feature",
            "geometry": mapping(box(20, 20, 220, 220)) | ({"plane": {"c": -1, **plane}} if plane else {}),
            "properties": {"objectType": "annotation"} if by_qupath else {},
        }
        for plane in areas
    ]
    path = tmp_path / "roi.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_the_middle_slice_is_taken_and_that_is_said(stack, tmp_path, capsys, caplog):
    code, features, _ = segment(stack, tmp_path, capsys=capsys)
    assert (code, features) == (0, [])
    assert [line for line in caplog.messages if "z-slice 1 is taken" in line] == caplog.messages


@pytest.mark.parametrize("options", [(), ("--region", "10,10,200,200")])
def test_a_slice_can_be_chosen_and_results_lie_on_it(stack, tmp_path, capsys, caplog, options):
    code, features, _ = segment(stack, tmp_path, "--z", 2, *options, capsys=capsys)
    assert code == 0
    assert planes(features) == {'{"c": -1, "z": 2, "t": 0}'}
    assert [line for line in caplog.messages if "z-slice 2 is taken" in line] == caplog.messages


def test_the_outline_brings_its_slice_along(stack, tmp_path, capsys, caplog):
    drawn = roi(tmp_path, {"z": 2, "t": 0})
    code, features, _ = segment(stack, tmp_path, "--roi", drawn, capsys=capsys)
    assert code == 0
    assert planes(features) == {'{"c": -1, "z": 2, "t": 0}'}
    assert "z-slice 2 is taken" in caplog.text


@pytest.mark.parametrize(("by_qupath", "taken"), [(True, 0), (False, 1)])
def test_an_outline_without_plane_is_on_the_first_slice_if_qupath_made_it(
    stack, tmp_path, capsys, caplog, by_qupath, taken
):
    code, _, _ = segment(stack, tmp_path, "--roi", roi(tmp_path, None, by_qupath=by_qupath), capsys=capsys)
    assert code == 0
    assert f"z-slice {taken} is taken" in caplog.text


def test_outlines_on_several_slices_are_refused(stack, tmp_path, capsys):
    drawn = roi(tmp_path, None, {"z": 2, "t": 0})
    code, _, err = segment(stack, tmp_path, "--roi", drawn, capsys=capsys)
    assert code == 1
    assert "lie on several planes: z=0, t=0 and z=2, t=0. Export those of one plane." in err


def test_a_slice_that_is_not_there_is_refused(stack, tmp_path, capsys):
    code, _, err = segment(stack, tmp_path, "--z", 3, capsys=capsys)
    assert code == 1
    assert "stack.ome.tif has no plane z=3, t=0: it has 3 z-slices" in err


def test_an_image_inside_a_file_can_be_chosen(tissue, tmp_path, capsys, caplog):
    path = tmp_path / "two.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(tissue, photometric="rgb", metadata={"axes": "YXS", "Name": "label"} | sizes)
        file.write(np.full_like(tissue, 255), photometric="rgb", metadata={"axes": "YXS", "Name": "slide"} | sizes)
    code, features, _ = segment(path, tmp_path, capsys=capsys)
    assert (code, features) == (0, [])
    assert "Image 1 is taken, as QuPath proposes" in caplog.text
    code, features, _ = segment(path, tmp_path, "--series", 0, capsys=capsys)
    assert code == 0
    assert features
    code, _, err = segment(path, tmp_path, "--series", 2, capsys=capsys)
    assert code == 1
    assert "It holds 0 label (256 × 256 px), 1 slide (256 × 256 px)" in err
