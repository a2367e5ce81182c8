"""The built jar, a program that calls it, servers, and an image."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

CLIENT = Path(__file__).parents[2] / "qupath_scripts" / "client"
PROBE = Path(__file__).with_name("Probe.java")
SHARED = Path(os.environ.get("CONCEPTSEG_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data").resolve()
SLIDE = SHARED / "wsi" / "CMU-1-Small-Region.svs"


@pytest.fixture(scope="session")
def jar() -> Path:
    """The newest jar; built where Maven is, skipped where neither is."""
    built = sorted((CLIENT / "target").glob("conceptseg-qupath-*.jar"), key=lambda path: path.stat().st_mtime)
    sources = [
        *CLIENT.glob("src/**/*"),
        CLIENT / "pom.xml",
        *CLIENT.glob("../*.groovy"),
        *CLIENT.glob("../../proto/**/*.proto"),
    ]
    newest = max(path.stat().st_mtime for path in sources if path.is_file())
    if built and built[-1].stat().st_mtime >= newest:
        return built[-1]
    if not shutil.which("mvn"):
        pytest.skip("the jar is not built, and there is no Maven (mvn)")
    subprocess.run(["mvn", "-B", "-q", "-f", str(CLIENT), "package"], check=True, timeout=900)
    return sorted((CLIENT / "target").glob("conceptseg-qupath-*.jar"), key=lambda path: path.stat().st_mtime)[-1]


@pytest.fixture(scope="session")
def probe(jar: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Returns the command line that runs Probe.java with the jar, and with ``ahead`` before it on the class path."""
    if not shutil.which("javac"):
        pytest.skip("no JDK (javac)")
    classes = tmp_path_factory.mktemp("probe")
    subprocess.run(["javac", "--release", "17", "-cp", str(jar), "-d", str(classes), str(PROBE)], check=True)

    def command(*arguments: object, ahead: tuple[Path, ...] = ()) -> list[str]:
        separator = ";" if shutil.which("cmd.exe") and Path("C:/").exists() else ":"
        path = separator.join(str(item) for item in (*ahead, jar, classes))
        return ["java", "-cp", path, "Probe", *(str(argument) for argument in arguments)]

    return command


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slide of the shared data, or a picture of tissue of the same size where there is none."""
    if SLIDE.is_file():
        return SLIDE
    path = tmp_path_factory.mktemp("image") / "tissue.png"
    Image.fromarray(np.tile(skimage.data.immunohistochemistry(), (5, 5, 1))).save(path)
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this computer, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*request, *names, *files, "-days", "2"], check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., dict[str, str]]]:
    """Starts a server with these options of ``conceptseg serve``; returns what it wrote to server.json."""
    with ExitStack() as stack:

        def start(*options: object) -> dict[str, str]:
            folder = tmp_path / "other-computer"
            folder.mkdir()
            environment = os.environ | {"CONCEPTSEG_CONFIG_DIR": str(folder)}
            command = [sys.executable, "-m", "conceptseg", "serve", *map(str, options)]
            log = stack.enter_context((folder / "log").open("wb"))
            server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
            stack.enter_context(server)
            stack.callback(server.kill)
            assert server.stdout is not None
            assert server.stdout.readline().startswith("READY"), (folder / "log").read_text()
            return json.loads((folder / "server.json").read_text())

        yield start
