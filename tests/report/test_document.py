import base64
import io
import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from shapely import box
from tests.report.tissue import evidence, piece, slide, stripes, tissue_file

from conceptseg.report.document import build


def test_areas_shares_and_neighbours_of_a_slide(tmp_path):
    content = build(evidence(slide(stripes(4), file=tissue_file(tmp_path)))).content
    assert [concept["share"] for concept in content["concepts"]] == pytest.approx([0.25] * 4)
    assert content["concepts"][0]["areaUm2"] == pytest.approx(128 * 512 / 4)
    assert [n["row"] for n in content["concepts"][1]["neighbours"]] == [0, 2]
    assert content["concepts"][1]["neighbours"][0]["um"] == pytest.approx(256)
    assert content["concepts"][0]["activation"] == pytest.approx(0.2)
    assert content["slides"][0]["picture"].startswith("data:image/webp;base64,")
    assert content["concepts"][0]["typical"][0]["picture"]
    json.dumps(content, allow_nan=False)


@pytest.mark.parametrize(("z", "grey"), [(0, 0), (2, 200)])
def test_a_slide_is_shown_on_the_slice_of_its_polygons(tmp_path, z, grey):
    slices = np.stack([np.full((128, 128, 3), value, np.uint8) for value in (0, 100, 200)])
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, slices, photometric="rgb", metadata={"axes": "ZYXS"})
    content = build(evidence(slide([piece(0, plane=(z, 0))], file=path))).content
    for picture in (content["slides"][0]["picture"], content["concepts"][0]["typical"][0]["picture"]):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).convert("RGB"))
        assert shown[60, 60].tolist() == pytest.approx([grey] * 3, abs=6)


def test_polygons_on_a_slice_that_the_file_lacks_are_shown_without_pixels(tmp_path):
    document = build(evidence(slide([piece(0, plane=(1, 0))], file=tissue_file(tmp_path))))
    assert document.content["slides"][0]["picture"] is None
    assert "has no plane z=1, t=0" in document.warnings[0]


def test_slides_of_different_resolution_are_added_up_in_um(tmp_path):
    fine = slide([piece(0, box(0, 0, 200, 200)), piece(1, box(200, 0, 400, 200))], pixel_size_um=0.25)
    coarse = slide([piece(1, box(0, 0, 100, 200))], pixel_size_um=0.5)
    content = build(evidence(fine, coarse)).content
    assert [concept["share"] for concept in content["concepts"]] == pytest.approx([0.25, 0.75])


def test_without_pixel_sizes_there_are_shares_and_no_areas():
    content = build(evidence(slide(stripes(2), pixel_size_um=None))).content
    assert [concept["areaUm2"] for concept in content["concepts"]] == [None, None]
    assert content["concepts"][0]["share"] == pytest.approx(0.5)


def test_a_slide_that_is_gone_is_shown_without_pixels_and_with_a_note(tmp_path):
    document = build(evidence(slide(stripes(2), file=tmp_path / "gone.png")))
    (shown,) = document.content["slides"]
    assert shown["picture"] is None
    assert "gone.png" in shown["note"]
    assert shown["polygons"]
    assert document.warnings == (f"slide.png: shown without its pixels. {shown['note']}",)
    assert document.content["concepts"][0]["typical"][0]["picture"] is None


def test_corrections_are_counted_where_they_belong():
    pieces = [piece(0), piece(1, reassigned_from=(0,)), piece(1, review="accepted"), piece(0, review="rejected")]
    content = build(evidence(slide(pieces))).content
    assert [concept["corrections"] for concept in content["concepts"]] == [
        {"gained": 0, "lost": 1, "accepted": 0, "rejected": 1},
        {"gained": 1, "lost": 0, "accepted": 1, "rejected": 0},
    ]


def test_a_project_without_results_makes_a_page_that_says_so():
    content = build(evidence(slide(), slide())).content
    assert (content["concepts"], content["review"]) == ([], [])
    assert build(evidence()).content["slides"] == []


def test_many_concepts_have_fewer_patches_each(tmp_path):
    file = tissue_file(tmp_path)
    tiles = [piece(k, box(0, 0, 60, 60), dictionary="many") for k in range(256) for _ in range(8)]
    content = build(evidence(slide(tiles, file=file))).content
    assert {len(concept["typical"]) for concept in content["concepts"]} == {2}
