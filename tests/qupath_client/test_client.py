"""The jar's client against a real server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import shapely
from PIL import Image

from conceptseg.domain.region import Region
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment

FOREIGN = Path(__file__).parents[2] / "qupath_scripts" / "client" / "target" / "foreign-classpath"
SERVE = [sys.executable, "-m", "conceptseg", "serve"]


@dataclass
class Server:
    process: subprocess.Popen
    endpoint: str
    token: str
    environment: dict[str, str]


def start(folder: Path) -> Server:
    environment = os.environ | {"CONCEPTSEG_CONFIG_DIR": str(folder), "CONCEPTSEG_DICTIONARIES": str(folder / "own")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(SERVE, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("READY"), (folder / "log").read_text()
    written = json.loads((folder / "server.json").read_text())
    return Server(process, written["endpoint"], written["token"], environment)


def end(server: Server) -> None:
    server.process.kill()
    server.process.wait()
    assert server.process.stdout is not None
    server.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start(tmp_path_factory.mktemp("server"))
    yield started
    end(started)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with regions of different colour and texture on a light background."""
    random = np.random.default_rng(7)
    rgb = np.full((1400, 1600, 3), 243, np.uint8)
    for _ in range(60):
        y, x, radius = random.integers(0, 1400), random.integers(0, 1600), random.integers(60, 180)
        rows, columns = np.ogrid[:1400, :1600]
        disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        colour = random.integers((110, 40, 100), (220, 140, 190))
        noise = random.normal(0, random.uniform(4, 30), (disc.sum(), 1))
        rgb[disc] = np.clip(colour + noise, 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("pixels") / "tissue.png"
    Image.fromarray(rgb).save(path)
    return path


def run(command: list[str], *, code: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def values(output: str, key: str) -> list[str]:
    return [line.removeprefix(key + " ") for line in output.splitlines() if line.startswith(key + " ")]


def test_the_catalogue_is_listed(probe: Callable[..., list[str]], server: Server) -> None:
    output = run(probe("list", server.endpoint, server.token))
    assert values(output, "ENCODER")[0] == "default"
    assert "default-k16" in values(output, "DICTIONARY")


def test_the_polygons_are_those_of_a_local_run(probe: Callable[..., list[str]], server: Server, tissue: Path) -> None:
    output = run(probe("segment", server.endpoint, server.token, tissue, 300, 200, 900, 800, 0.5))
    sent = [(int(k), shapely.from_wkb(wkb)) for k, wkb in (line.split() for line in values(output, "POLYGON"))]

    region = Region(x=300, y=200, width=900, height=800)
    reader = ArrayReader(np.asarray(Image.open(tissue)), name="tissue", pixel_size_um=0.5)
    concepts = find_dictionary(encoder="default", name=None, k=None)
    source = open_region(reader, region=region, pixel_size_um=concepts.pixel_size_um)
    local = segment(source, encoder=load_encoder("default"), dictionary=concepts)

    assert len(sent) > 10
    assert [(k, shape.wkb_hex) for k, shape in sent] == [(p.concept, p.polygon.wkb_hex) for p in local.polygons]


def test_foreign_protobuf_guava_and_gson_ahead_of_the_jar_do_no_harm(
    probe: Callable[..., list[str]], server: Server, tissue: Path
) -> None:
    ahead = tuple(sorted(FOREIGN.glob("*.jar")))
    assert {path.name.rsplit("-", 1)[0] for path in ahead} == {"gson", "guava", "protobuf-java"}
    output = run(probe("segment", server.endpoint, server.token, tissue, 300, 200, 400, 400, 0.5, ahead=ahead))
    assert int(values(output, "POLYGONS")[0]) > 0


def test_dictionaries_are_learned(probe: Callable[..., list[str]], server: Server, tissue: Path) -> None:
    output = run(probe("fit", server.endpoint, server.token, tissue, 0, 0, 700, 700, 0.5, "probe"))
    assert values(output, "FITTED") == ["probe-k2 true", "probe-k4 true"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("segment", "TISSUE", 0, 0, 500, 500, 0), "NO_PIXEL_SIZE MissingPixelSizeError"),
        (("segment", "TISSUE", 0, 0, 500, 500, 0.5, "no-such-encoder"), "BAD_REQUEST "),
        (("segment", "TISSUE", 0, 0, 500, 500, 0.5, "default", 7), "BAD_REQUEST DictionaryError"),
        (("segment", "TISSUE", 0, 0, 500, 500, 50), "BAD_REQUEST InvalidRequestError"),
        (("file", "/etc/hostname", 0, 0, 10, 10), "BAD_REQUEST PathNotAllowedError"),
    ],
)
def test_errors_arrive_as_sentences(
    probe: Callable[..., list[str]], server: Server, tissue: Path, arguments: tuple[object, ...], error: str
) -> None:
    command, *rest = (tissue if item == "TISSUE" else item for item in arguments)
    told = values(run(probe(command, server.endpoint, server.token, *rest), code=3), "ERROR")[0]
    assert told.startswith(error)
    assert told.endswith(".")


def test_a_wrong_token_is_told_apart(probe: Callable[..., list[str]], server: Server) -> None:
    told = values(run(probe("list", server.endpoint, "wrong"), code=3), "ERROR")[0]
    assert told.startswith("AUTHENTICATION AuthenticationError")


def test_no_server_is_told_apart(probe: Callable[..., list[str]]) -> None:
    told = values(run(probe("list", "127.0.0.1:1", "x"), code=3), "ERROR")[0]
    assert told.startswith("UNAVAILABLE")
    assert "Connection refused" in told


def test_cancelling_is_immediate(probe: Callable[..., list[str]], server: Server, tissue: Path) -> None:
    output = run(probe("cancel", server.endpoint, server.token, tissue, 0, 0, 1600, 1400, 0.5), code=3)
    assert values(output, "ERROR")[0].startswith("CANCELLED")
    assert int(values(output, "TOLD_AFTER_MS")[0]) < 500


def test_a_server_killed_in_mid_stream_is_told_at_once(
    probe: Callable[..., list[str]], tissue: Path, tmp_path: Path
) -> None:
    victim = start(tmp_path)
    command = probe("segment", victim.endpoint, victim.token, tissue, 0, 0, 1600, 1400, 0.5)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline().startswith("STAGE")
        end(victim)
        killed = time.monotonic()
        output = client.stdout.read()
        assert client.wait(30) == 3
    assert time.monotonic() - killed < 5
    assert "ERROR UNAVAILABLE" in output


def test_a_running_server_is_found_through_its_endpoint_file(probe: Callable[..., list[str]], server: Server) -> None:
    done = subprocess.run(probe("lifecycle"), env=server.environment, capture_output=True, text=True, timeout=120)
    assert f"CLIENT {server.endpoint}" in done.stdout
    assert "SAME" in done.stdout
    assert "STATUS" not in done.stdout


def test_without_a_server_the_configured_one_is_started_and_ends_with_java(
    probe: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "qupath.json").write_text(json.dumps({"command": SERVE}))
    environment = os.environ | {"CONCEPTSEG_CONFIG_DIR": str(tmp_path)}
    with subprocess.Popen(probe("lifecycle"), env=environment, stdout=subprocess.PIPE, text=True) as client:
        output, _ = client.communicate(timeout=300)
    assert client.returncode == 0
    assert "SAME" in output
    pid = _server_pid(tmp_path)
    if pid is not None:
        psutil.Process(pid).wait(30)  # raises when it is still there


def test_a_killed_java_takes_its_server_with_it(probe: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "qupath.json").write_text(json.dumps({"command": SERVE}))
    environment = os.environ | {"CONCEPTSEG_CONFIG_DIR": str(tmp_path)}
    with subprocess.Popen(probe("lifecycle", "stay"), env=environment, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        while (line := client.stdout.readline()) and line != "SAME\n":
            pass
        pid = _server_pid(tmp_path)
        assert pid is not None
        server = psutil.Process(pid)
        client.send_signal(signal.SIGKILL)
    server.wait(30)


def _server_pid(folder: Path) -> int | None:
    try:
        pid = json.loads((folder / "server.json").read_text())["pid"]
    except FileNotFoundError:
        return None
    return pid if psutil.pid_exists(pid) else None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "conceptseg qupath install"),
        ("{}", "conceptseg qupath install"),
        (json.dumps({"command": ["/no/such/python"]}), "conceptseg qupath install"),
        (json.dumps({"command": [sys.executable, "-c", "print('out of paper'); raise SystemExit(7)"]}), "out of paper"),
    ],
)
def test_a_server_that_cannot_be_started_is_explained(
    probe: Callable[..., list[str]], tmp_path: Path, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "qupath.json").write_text(content)
    environment = os.environ | {"CONCEPTSEG_CONFIG_DIR": str(tmp_path)}
    done = subprocess.run(probe("lifecycle"), env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    assert "ERROR UNAVAILABLE" in done.stdout
    assert told in done.stdout
