"""Temporary files have their space before they are mapped: a hole without space ends the process."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conceptseg.domain.scratch import reserve

SIZE = 3 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own with 1 MiB, where the test may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "conceptseg-test", str(folder)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def in_another_process(code: str, folder: Path) -> subprocess.CompletedProcess:
    """Runs code that SIGBUS might end."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"TMPDIR": str(folder)},
    )


def test_every_byte_is_there_and_zero(tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        reserve(file, SIZE)
        file.seek(0)
        assert file.read() == bytes(SIZE)
    stat = (tmp_path / "file").stat()
    assert getattr(stat, "st_blocks", SIZE) * 512 >= SIZE


@pytest.mark.parametrize("missing", [True, False])
def test_systems_that_cannot_reserve_get_zeros_written(tmp_path, monkeypatch, missing):
    def refused(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if missing:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", refused, raising=False)
    with (tmp_path / "file").open("w+b") as file:
        reserve(file, SIZE + 5)
        file.seek(0)
        assert file.read() == bytes(SIZE + 5)


def test_a_label_map_that_does_not_fit_is_an_error_and_not_the_end_of_the_process(small_disk):
    done = in_another_process(
        "from conceptseg.domain.errors import OutputError\n"
        "from conceptseg.domain.region import PixelGrid, Region\n"
        "from conceptseg.pipeline import sheets\n"
        "sheets._IN_MEMORY_PX = 0\n"
        "region = Region(x=0, y=0, width=2048, height=2048)\n"
        "grid = PixelGrid(region=region, width=2048, height=2048, pixel_size_um=0.5)\n"
        "try:\n"
        "    print(sheets.LabelCanvas(grid, n_concepts=4).labels().sum())\n"
        "except OutputError as error:\n"
        "    print(error)\n",
        small_disk,
    )
    assert done.returncode == 0, done.stderr
    assert str(small_disk) in done.stdout
    assert "No space left on device" in done.stdout
    assert "TMPDIR" in done.stdout


def test_samples_that_do_not_fit_are_an_error_and_not_the_end_of_the_process(small_disk):
    done = in_another_process(
        "import os, numpy as np\n"
        "from pathlib import Path\n"
        "from conceptseg.domain.errors import OutputError\n"
        "from conceptseg.pipeline.token_store import TokenStore\n"
        "store = TokenStore(Path(os.environ['TMPDIR']) / 'work', settings={}, channels=64)\n"
        "image = {'path': '/a'}\n"
        "store.add(image, np.ones((2500, 64), np.float32), at_most=2500)\n"
        "try:\n"
        "    print(store.tokens([image], at_most=2500).sum())\n"
        "except OutputError as error:\n"
        "    print(error)\n",
        small_disk,
    )
    assert done.returncode == 0, done.stderr
    assert str(small_disk / "work") in done.stdout
    assert "--work" in done.stdout


def test_a_reserved_file_can_be_mapped(tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        reserve(file, SIZE)
        mapped = np.memmap(file, np.uint8, mode="r+", shape=(SIZE,))
    mapped[::4096] = 1
    assert mapped.sum() == SIZE // 4096
