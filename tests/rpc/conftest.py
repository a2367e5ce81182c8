"""A real server process, and pixels that look like tissue."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import grpc
import numpy as np
import psutil
import pytest

from conceptseg.domain.region import PixelGrid, Region
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.source import RegionSource, open_region
from conceptseg.rpc.auth import credentials
from conceptseg.rpc.client import Client
from conceptseg.v1 import service_pb2_grpc

START_SECONDS = 120.0  # importing torch takes its time on a busy machine


@dataclass
class ServerProcess:
    """A `conceptseg serve` that runs."""

    process: subprocess.Popen
    endpoint: str
    token: str
    ready: dict
    log: Path
    config: Path

    def client(self) -> Client:
        return Client(self.endpoint, self.token)

    @contextmanager
    def stub(self) -> Iterator[service_pb2_grpc.SegmentationServiceStub]:
        with grpc.insecure_channel(self.endpoint) as channel:
            yield service_pb2_grpc.SegmentationServiceStub(channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (credentials(self.token),)

    def memory_bytes(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def threads(self) -> int:
        return psutil.Process(self.process.pid).num_threads()

    def wait_idle(self, *, seconds: float = 30.0) -> None:
        """Until there is no call."""
        with self.client() as client:
            until = time.monotonic() + seconds
            while client.info().running_calls or client.info().waiting_calls:
                assert time.monotonic() < until, "calls are still at work"
                time.sleep(0.02)


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers; all end with the tests."""
    started: list[ServerProcess] = []

    def start(*arguments: str) -> ServerProcess:
        folder = tmp_path_factory.mktemp("server")
        log = folder / "log"
        environment = os.environ | {
            "CONCEPTSEG_CONFIG_DIR": str(folder),
            "CONCEPTSEG_DICTIONARIES": str(folder / "dictionaries"),
            "HF_HUB_OFFLINE": "1",  # tests need no network, and do not wait for one
        }
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "conceptseg.cli.main", "serve", "--device", "cpu", *arguments],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment,
            )
        line = process.stdout.readline()
        process.stdout.close()
        assert line.startswith("READY "), log.read_text()
        content = json.loads((folder / "server.json").read_text())
        ready = json.loads(line.removeprefix("READY "))
        server = ServerProcess(process, content["endpoint"], content["token"], ready, log, folder)
        started.append(server)
        return server

    yield start
    for server in started:
        server.process.terminate()
    for server in started:
        try:
            server.process.wait(60)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture, and one beside it that the server must not open."""
    folder = tmp_path_factory.mktemp("slides")
    allowed = folder / "allowed"
    allowed.mkdir()
    for path in (allowed / "picture.png", folder / "secret.png"):
        cv2.imwrite(str(path), tissue_pixels(700, 600)[..., ::-1])
    return allowed


@pytest.fixture(scope="session")
def server(start_server: Callable[..., ServerProcess], slides: Path) -> ServerProcess:
    """The server that most tests share."""
    return start_server("--root", str(slides))


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with server.client() as connected:
        yield connected


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The local default encoder, to compare with."""
    return load_encoder("default", device="cpu")


def tissue_pixels(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Pink and purple blobs with a pale border: some tissue, some background."""
    rng = np.random.default_rng(seed)
    noise = cv2.resize(rng.random((height // 24 + 2, width // 24 + 2, 3)), (width, height))
    fine = cv2.resize(rng.random((height // 4 + 2, width // 4 + 2, 3)), (width, height))
    colour = np.array([150, 70, 140]) + 90 * (0.6 * noise + 0.4 * fine)
    edge = max(4, min(height, width) // 10)
    colour[:edge] = colour[:, :edge] = 242
    return np.ascontiguousarray(np.clip(colour, 0, 255), np.uint8)


@pytest.fixture(scope="session")
def make_source() -> Callable[..., RegionSource]:
    """Builds a region of an image in memory."""

    def make(
        height: int = 300, width: int = 280, *, seed: int = 0, pixel_size_um: float = 0.5, region: Region | None = None
    ) -> RegionSource:
        reader = ArrayReader(tissue_pixels(height, width, seed=seed), name="picture", pixel_size_um=pixel_size_um)
        return open_region(reader, region=region, pixel_size_um=0.5)

    return make


@pytest.fixture(scope="session")
def small_grid() -> PixelGrid:
    return PixelGrid(region=Region(x=10, y=20, width=96, height=64), width=96, height=64, pixel_size_um=0.5)
