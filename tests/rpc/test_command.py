"""``conceptseg segment --server``."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.rpc.conftest import ServerProcess

from conceptseg.cli.main import main
from conceptseg.imaging.source import RegionSource


@pytest.fixture(scope="module")
def picture(make_source: Callable[..., RegionSource], tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = make_source()
    path = tmp_path_factory.mktemp("pictures") / "tissue.png"
    grid = source.grid
    Image.fromarray(source.read(x=0, y=0, width=grid.width, height=grid.height)).save(path)
    return path


def files_of(folder: Path, picture: Path, *options: str) -> list[bytes]:
    folder.mkdir()
    paths = [folder / name for name in ("a.geojson", "labels.tif", "overlay.png", "summary.csv")]
    outputs = ["-o", paths[0], "--label-map", paths[1], "--overlay", paths[2], "--summary", paths[3]]
    code = main(["segment", str(picture), "--pixel-size-um", "0.5", "--quiet", *map(str, outputs), *options])
    assert code == 0
    return [re.sub(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"RUN", path.read_bytes()) for path in paths]


@pytest.mark.parametrize(
    "options",
    [("--k", "8", "--min-area-um2", "0"), ("--method", "learned", "--k", "3", "--region", "20,10,200,180")],
)
def test_a_server_gives_the_files_that_a_local_run_gives(
    server: ServerProcess, picture: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    remote = files_of(tmp_path / "remote", picture, "--server", server.endpoint, "--token", server.token, *options)
    assert remote == files_of(tmp_path / "local", picture, *options)
    assert len(remote[0]) > 1000


def test_weights_stay_at_home(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-o", str(tmp_path / "a.geojson"), "--server", "auto", "--weights", str(picture)]
    assert main(["segment", str(picture), "--pixel-size-um", "0.5", *options]) == 1
    assert "--weights" in capsys.readouterr().err
    assert not (tmp_path / "a.geojson").exists()
