import json
from pathlib import Path

import pytest

from conceptseg.domain.errors import InvalidRequestError, ProjectError
from conceptseg.qupath.project.entries import choose, entries_of, find_project, read_document, rebased

PLAIN = {"builderType": "uri", "uri": "file:/slides/a%20b/one.svs", "args": ["--series", "0"]}
CALIBRATION = {
    "pixelWidth": {"value": 0.25, "unit": "µm"},
    "pixelHeight": {"value": 0.75, "unit": "µm"},
}


def entry(builder, **others):
    return entries_of({"images": [{"entryID": 7, "imageName": "one", "serverBuilder": builder, **others}]})[0]


def test_an_entry_knows_its_slide_and_what_qupath_knows_about_it():
    metadata = {"width": 100, "height": 80, "pixelCalibration": CALIBRATION}
    found = entry({**PLAIN, "metadata": metadata})
    assert (found.identifier, found.name, found.problem) == ("7", "one", None)
    assert found.slide == Path("/slides/a b/one.svs")
    assert (found.width, found.height, found.pixel_size_um) == (100, 80, 0.5)


def test_an_image_without_calibration_has_no_pixel_size():
    pixels = {"pixelWidth": {"value": 1.0, "unit": "px"}, "pixelHeight": {"value": 1.0, "unit": "px"}}
    assert entry({**PLAIN, "metadata": {"pixelCalibration": pixels}}).pixel_size_um is None
    assert entry(PLAIN).pixel_size_um is None


@pytest.mark.parametrize(
    ("builder", "problem"),
    [
        ({"builderType": "rotated", "builder": PLAIN, "rotation": "ROTATE_90"}, "rotated"),
        ({**PLAIN, "args": ["--series", "2"]}, "image 2 inside its file"),
        ({**PLAIN, "uri": "https://omero.example/webclient/?show=image-1"}, "not in a file"),
        ({}, "transformed"),
    ],
)
def test_pixels_that_are_not_the_files_own_are_a_problem(builder, problem):
    assert problem in entry(builder).problem


def test_a_windows_path_in_a_project_is_a_windows_path():
    assert str(entry({**PLAIN, "uri": "file:/D:/slides/one.svs"}).slide) == "D:/slides/one.svs"


@pytest.mark.parametrize("old", ["/slides", "/slides/", "/slides/a b"])
def test_moved_slides_are_looked_for_in_their_new_folder(old):
    document = {"lastID": 9, "images": [{"entryID": 7, "serverBuilder": {"builderType": "rotated", "builder": PLAIN}}]}
    changed, moved = rebased(document, old=old, new=Path("/new folder"))
    rest = "one.svs" if "a b" in old else "a%20b/one.svs"
    assert moved == 1
    assert changed["images"][0]["serverBuilder"]["builder"]["uri"] == f"file:/new%20folder/{rest}"
    assert changed["lastID"] == 9
    assert document["images"][0]["serverBuilder"]["builder"] == PLAIN


def test_slides_of_a_windows_machine_can_be_rebased_anywhere():
    document = {"images": [{"entryID": 1, "serverBuilder": {**PLAIN, "uri": "file:/D:/slides/one.svs"}}]}
    changed, moved = rebased(document, old="D:\\slides", new=Path("/mnt/slides"))
    assert (moved, changed["images"][0]["serverBuilder"]["uri"]) == (1, "file:/mnt/slides/one.svs")


def test_other_slides_stay_where_they_are():
    document = {"images": [{"entryID": 1, "serverBuilder": PLAIN}]}
    assert rebased(document, old="/slide", new=Path("/new")) == (document, 0)


def test_images_are_chosen_by_name_and_number():
    document = {"images": [{"entryID": n, "imageName": name} for n, name in enumerate(["a.svs", "b.svs", "a.png"])]}
    entries = entries_of(document)
    assert [e.name for e in choose(entries)] == ["a.svs", "b.svs", "a.png"]
    assert [e.name for e in choose(entries, patterns=["a.*"])] == ["a.svs", "a.png"]
    assert [e.name for e in choose(entries, patterns=["b*"], identifiers=["2"])] == ["b.svs", "a.png"]
    with pytest.raises(InvalidRequestError, match=r"'c\*'.*a.svs \(0\)"):
        choose(entries, patterns=["c*"])
    with pytest.raises(InvalidRequestError, match="has the number 9"):
        choose(entries, identifiers=["9"])


def test_a_project_is_a_file_or_its_folder(tmp_path):
    file = tmp_path / "project.qpproj"
    with pytest.raises(ProjectError, match=r"no QuPath project .*project\.qpproj"):
        find_project(tmp_path)
    file.write_text('{"images": []}')
    assert find_project(tmp_path) == find_project(file) == file


@pytest.mark.parametrize(
    ("content", "message"), [("{", "damaged.*backup"), ("[]", "lists no images"), ("{}", "lists no")]
)
def test_a_damaged_project_says_what_to_do(tmp_path, content, message):
    file = tmp_path / "project.qpproj"
    file.write_text(content)
    with pytest.raises(ProjectError, match=message):
        read_document(file)


def test_a_project_without_images_has_none():
    assert entries_of(json.loads('{"images": []}')) == ()
