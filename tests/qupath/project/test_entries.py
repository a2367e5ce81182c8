import json
from pathlib import Path

import pytest

from conceptseg.domain.errors import InvalidRequestError, ProjectError
from conceptseg.qupath.project.entries import (
    choose,
    entries_of,
    find_project,
    read_document,
    read_entries,
    rebased,
    relocated,
    require_rebase,
)

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
        ({**PLAIN, "args": ["--name", "slide"]}, "called slide inside its file"),
        ({**PLAIN, "args": ["--series", "0", "--dims", "XYZCT"]}, "in the order XYZCT"),
        ({**PLAIN, "uri": "https://omero.example/webclient/?show=image-1"}, "not in a file"),
        ({**PLAIN, "uri": "file:slides/one.svs"}, "not in a file"),  # not absolute
        ({**PLAIN, "uri": "file:/slides/%00one.svs"}, "not in a file"),
        ({**PLAIN, "uri": "file:/slides/\ud800.svs"}, "not in a file"),
        ({**PLAIN, "uri": "file://[slides/one.svs"}, "not in a file"),
        ({}, "transformed"),
    ],
)
def test_pixels_that_are_not_the_files_own_are_a_problem(builder, problem):
    assert problem in entry(builder).problem


@pytest.mark.parametrize(
    ("arguments", "series"),
    [
        (["--series", "2"], 2),
        (["--series=2"], 2),
        (["-s", "1"], 1),
        (["--series", "0", "--bfOptions", "a=b"], 0),
        (["--series", "-1"], None),
        (["--series"], None),
        ([], None),
        ("--series 2", None),
    ],
)
def test_an_entry_knows_which_image_of_its_file_it_is(arguments, series):
    found = entry({**PLAIN, "args": arguments})
    assert (found.series, found.problem) == (series, None)


@pytest.mark.parametrize(
    ("uri", "slide"),
    [
        ("file:///slides/one.svs", "/slides/one.svs"),
        ("file:/slides%2Fone.svs", "/slides/one.svs"),
        ("file://server/share/one.svs", "//server/share/one.svs"),
    ],
)
def test_a_uri_names_the_file_that_qupath_takes(uri, slide):
    assert entry({**PLAIN, "uri": uri}).slide == Path(slide)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\nb\x1b[31m\u2028\ud800.svs", "a�b�[31m��.svs"), ("", "image 7"), (None, "image 7"), (["a"], "image 7")],
)
def test_a_name_is_a_text_that_can_be_printed(name, shown):
    assert entry(PLAIN, imageName=name).name == shown


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


def test_slides_that_were_moved_before_are_not_moved_again():
    document = {"images": [{"entryID": 1, "serverBuilder": PLAIN}]}
    for new in ("/slides/moved", "/new"):
        once, moved = rebased(document, old="/slides", new=Path(new))
        assert moved == 1
        assert rebased(once, old="/slides", new=Path(new)) == (once, 0)
        require_rebase(once, old="/slides", new=Path(new))


def test_folders_that_have_nothing_to_do_with_a_project_are_refused():
    document = {"images": [{"entryID": 1, "serverBuilder": PLAIN}]}
    with pytest.raises(InvalidRequestError, match=r"no slide of the project is below /slide\. .* in /slides/a b\."):
        require_rebase(document, old="/slide", new=Path("/new"))
    require_rebase(document, old="/slides", new=Path("/new"))


@pytest.fixture
def copied(tmp_path):
    """A project and two slides, one inside its folder, copied from /old/study; and its document."""
    (tmp_path / "new" / "a project" / "inside").mkdir(parents=True)
    project = tmp_path / "new" / "a project" / "study.qpproj"
    slides = [project.parent / "inside" / "one.svs", tmp_path / "new" / "slides" / "two.svs"]
    slides[1].parent.mkdir()
    for slide in slides:
        slide.write_text("")
    uris = ["file:/old/study/a%20project/inside/one.svs", "file:/old/study/slides/two.svs"]
    images = [{"entryID": n, "serverBuilder": {**PLAIN, "uri": uri}} for n, uri in enumerate(uris, start=1)]
    return project, slides, {"uri": "file:/old/study/a%20project/study.qpproj", "images": images}


def test_slides_that_were_copied_with_their_project_are_found(copied):
    project, slides, document = copied
    assert [entry.slide for entry in entries_of(relocated(document, project))] == slides
    project.write_text(json.dumps(document))
    assert [entry.slide for entry in read_entries(project)] == slides
    assert json.loads(project.read_text()) == document


def test_they_are_found_if_the_project_was_made_on_windows(copied):
    project, slides, document = copied
    document = json.loads(json.dumps(document).replace("file:/old", "file:/D:/old"))
    assert [entry.slide for entry in entries_of(relocated(document, project))] == slides
    document["uri"] = document["uri"].replace("D:", "C:")
    assert relocated(document, project) == document


def test_they_are_found_beside_the_project_itself_and_not_beside_a_link_to_its_folder(copied, tmp_path):
    project, slides, document = copied
    (tmp_path / "link").symlink_to(project.parent)
    found = relocated(document, tmp_path / "link" / project.name)
    assert [entry.slide for entry in entries_of(found)] == [slide.resolve() for slide in slides]


def test_slides_of_transformed_images_are_found_too(copied):
    project, slides, document = copied
    document["images"][0]["serverBuilder"] = {
        "builderType": "rotated",
        "builder": document["images"][0]["serverBuilder"],
    }
    builder = relocated(document, project)["images"][0]["serverBuilder"]["builder"]
    assert entry(builder).slide == slides[0]


def test_slides_that_are_where_the_project_says_are_taken_from_there(copied, tmp_path):
    project, slides, document = copied
    original = tmp_path / "one.svs"
    original.write_text("")
    document["images"][0]["serverBuilder"]["uri"] = original.as_uri()
    assert [entry.slide for entry in entries_of(relocated(document, project))] == [original, slides[1]]


def test_where_the_project_was_not_moved_no_slide_is_looked_for(copied, monkeypatch):
    project, _, document = copied
    document["uri"] = project.as_uri()
    monkeypatch.delattr(Path, "exists")
    assert relocated(document, project) == document


@pytest.mark.parametrize("uri", [None, 5, "", "https://example.org/project.qpproj", "file:/elsewhere/study.qpproj"])
def test_without_a_place_before_or_a_file_at_the_new_one_nothing_changes(copied, uri):
    project, _, document = copied
    document["uri"] = uri
    assert relocated(document, project) == document


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


def test_the_only_project_file_of_a_folder_may_have_another_name(tmp_path):
    file = tmp_path / "Study 1.qpproj"
    file.write_text('{"images": []}')
    (tmp_path / "._Study 1.qpproj").write_text("of a Mac")
    (tmp_path / "Study 1.qpproj.backup").write_text("")
    assert find_project(tmp_path) == file
    (tmp_path / "Study 2.qpproj").write_text('{"images": []}')
    with pytest.raises(ProjectError, match=r"holds several QuPath projects: Study 1\.qpproj, Study 2\.qpproj"):
        find_project(tmp_path)
    (tmp_path / "project.qpproj").write_text('{"images": []}')
    assert find_project(tmp_path) == tmp_path / "project.qpproj"


def test_a_link_to_a_project_is_the_project(tmp_path):
    file, link = tmp_path / "real" / "project.qpproj", tmp_path / "linked" / "project.qpproj"
    for path in (file, link):
        path.parent.mkdir()
    file.write_text('{"images": []}')
    link.symlink_to(file)
    assert find_project(link) == find_project(link.parent) == file.resolve()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "damaged.*Put a copy of the file in its place"), ("[]", "lists no images"), ("{}", "lists no")],
)
def test_a_damaged_project_says_what_to_do(tmp_path, content, message):
    file = tmp_path / "project.qpproj"
    file.write_text(content)
    with pytest.raises(ProjectError, match=message):
        read_document(file)


def test_the_previous_state_of_a_damaged_project_is_named_where_it_is(tmp_path):
    file = tmp_path / "project.qpproj"
    file.write_text("{")
    with pytest.raises(ProjectError) as without:
        read_document(file)
    assert "backup" not in str(without.value)
    file.with_name("project.qpproj.backup").write_text('{"images": []}')
    with pytest.raises(ProjectError, match=r"beside it as project\.qpproj\.backup: rename that file\.$"):
        read_document(file)


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        ([], "an object as serverBuilder of image 3, got '\\[\\]'"),
        ({"args": 5}, "a list as serverBuilder.args of image 3, got '5'"),
        ({"metadata": "x"}, "an object as serverBuilder.metadata of image 3, got 'x'"),
        ({"metadata": {"pixelCalibration": [1]}}, "an object as serverBuilder.metadata.pixelCalibration of image 3"),
        ({"metadata": {"pixelCalibration": {"pixelWidth": 0.5}}}, "an object as .*.pixelWidth of image 3, got '0.5'"),
        (
            {"metadata": {"pixelCalibration": {"pixelHeight": {"value": "wide", "unit": "µm"}}}},
            "a number as .*.pixelHeight.value of image 3, got 'wide'",
        ),
    ],
)
def test_an_image_of_a_damaged_kind_is_named(tmp_path, builder, message):
    file = tmp_path / "project.qpproj"
    file.write_text(json.dumps({"images": [{"entryID": 3, "serverBuilder": builder}]}))
    with pytest.raises(ProjectError, match=f"damaged: expected {message}.*Put a copy"):
        entries_of(read_document(file))


def test_a_project_without_images_says_so(tmp_path):
    file = tmp_path / "project.qpproj"
    file.write_text('{"images": []}')
    with pytest.raises(ProjectError, match=r"project\.qpproj has no images\. Add some in QuPath"):
        read_entries(file)
