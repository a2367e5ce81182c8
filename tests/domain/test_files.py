"""Files that appear whole, and stay."""

import errno
import os
import subprocess
import sys

import pytest

from conceptseg.domain.errors import OutputError
from conceptseg.domain.files import replacing


def test_the_umask_of_other_threads_is_never_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("every thread of the process has this umask"))
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("umask", ["022", "077", "002"])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path, umask):
    program = (
        f"import os, pathlib; os.umask(0o{umask}); from conceptseg.domain.files import replacing\n"
        "with replacing(pathlib.Path('a')) as temporary: temporary.write_text('new')"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~int(umask, 8)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_an_existing_file_keeps_its_permissions(tmp_path, mode):
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(mode)
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_content_is_on_disk_before_the_name_and_the_name_before_going_on(tmp_path, disk_order):
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
        made = temporary.stat().st_ino
    assert disk_order == [("sync", made), ("rename", made), ("sync", tmp_path.stat().st_ino)]


def test_a_disk_that_fails_is_an_error_and_the_old_file_stays(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "a").write_text("old")
    with pytest.raises(OutputError, match="Input/output error"), replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_system_that_cannot_sync_is_good_enough(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
