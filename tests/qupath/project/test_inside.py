import os

import pytest

from conceptseg.domain.errors import ProjectError
from conceptseg.qupath.project.inside import part_of, require_file_of


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project" / "data" / "1").mkdir(parents=True)
    return tmp_path / "project" / "project.qpproj"


def test_a_part_lies_in_the_projects_folder_whether_it_is_there_or_not(project):
    assert part_of(project, "data", "1") == project.parent / "data" / "1"
    assert part_of(project, ".conceptseg", "lock") == project.parent / ".conceptseg" / "lock"


def test_a_project_in_a_folder_that_is_a_link_has_its_parts(project, tmp_path):
    (tmp_path / "link").symlink_to(project.parent)
    assert part_of(tmp_path / "link" / "project.qpproj", "data") == tmp_path / "link" / "data"


@pytest.mark.parametrize("target", ["outside", "project/other", "project/data/2", "nowhere"])
def test_a_part_is_not_reached_through_a_link(project, tmp_path, target):
    (tmp_path / "outside").mkdir()
    (project.parent / "other").mkdir()
    (project.parent / "data" / "1").rmdir()
    (project.parent / "data" / "1").symlink_to(tmp_path / target)
    with pytest.raises(ProjectError, match=r"data.1 is a link"):
        part_of(project, "data", "1")
    with pytest.raises(ProjectError, match=r"data.1 is a link"):
        part_of(project, "data", "1", "data.qpdata")


def test_a_link_to_itself_is_a_link(project):
    (project.parent / "classifiers").symlink_to("classifiers")
    with pytest.raises(ProjectError, match="classifiers is a link"):
        part_of(project, "classifiers")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "../..", "a\0b"])
def test_a_name_that_leads_elsewhere_is_none(project, name):
    with pytest.raises(ProjectError, match="cannot be a file in"):
        part_of(project, "data", name)


def test_a_file_of_a_project_is_one_in_its_folder(project, tmp_path):
    data = project.parent / "data" / "1" / "data.qpdata"
    kept, outside = project.parent / "kept", tmp_path / "outside"
    kept.write_text("")
    outside.write_text("")
    data.symlink_to(kept)
    require_file_of(project, data)
    for target, message in [(outside, "leads out of"), (tmp_path / "nowhere", "not there"), (tmp_path, "is no file")]:
        data.unlink()
        data.symlink_to(target)
        with pytest.raises(ProjectError, match=message):
            require_file_of(project, data)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_file_of_a_project(project):
    pipe = project.parent / "data" / "1" / "data.qpdata"
    os.mkfifo(pipe)
    with pytest.raises(ProjectError, match="is no file"):
        require_file_of(project, pipe)
