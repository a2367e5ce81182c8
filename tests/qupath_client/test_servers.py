"""Servers that the user starts and names: with TLS and a token, and with folders whose files they read themselves."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from qupath_window import install_extension, isolated

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

pytestmark = [
    pytest.mark.qupath,
    pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version),
]

READ_ON_SERVER = Path(__file__).with_name("read_on_server.groovy")


@pytest.fixture
def environment(jar: Path, tmp_path: Path) -> dict[str, str]:
    environment = isolated(tmp_path)
    install_extension(jar, environment)
    return environment


def run(installation: QuPathInstallation, environment: dict[str, str], image: Path, *script: object) -> dict[str, str]:
    """Run a script without a window; what it said, by the first word of the line."""
    command = [str(installation.launcher), "script", "-i", str(image), *map(str, script)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.split(" ")[0].isupper())


def named(server: dict[str, str]) -> dict[str, str]:
    """How environment variables name a server, where there is no window with preferences."""
    return {
        "CONCEPTSEG_SERVER": server["endpoint"],
        "CONCEPTSEG_TOKEN": server["token"],
        "CONCEPTSEG_TLS_CERT": server["tls_certificate"],
    }


def test_a_server_with_tls_is_used_with_its_token_and_certificate(
    installation: QuPathInstallation,
    environment: dict[str, str],
    image: Path,
    tmp_path: Path,
    serve: Callable[..., dict[str, str]],
    certificate: tuple[Path, Path],
) -> None:
    server = serve("--tls-cert", certificate[0], "--tls-key", certificate[1])
    script = tmp_path / "script.groovy"
    script.write_text("""
        import io.github.conceptseg.ConceptSeg
        def region = PathObjects.createAnnotationObject(ROIs.createRectangleROI(600, 700, 500, 500,
            ImagePlane.getDefaultPlane()))
        addObject(region)
        println "CHECK " + ConceptSeg.checkServer().isOk()
        println "OBJECTS " + ConceptSeg.segment(getCurrentImageData()).parents([region]).pixelSizeUm(0.5).run().objects
    """)
    said = run(installation, environment | named(server), image, script)
    assert said["CHECK"] == "true"
    assert int(said["OBJECTS"]) > 0
    assert not (tmp_path / "config" / "server.json").exists()  # no other server was started


def test_the_server_reads_the_file_itself_if_asked_with_the_same_polygons(
    installation: QuPathInstallation,
    environment: dict[str, str],
    image: Path,
    tmp_path: Path,
    serve: Callable[..., dict[str, str]],
) -> None:
    allowed = tmp_path / "slides"
    allowed.mkdir()
    copy = Path(shutil.copy(image, allowed / image.name))
    server = serve("--root", allowed)
    said = run(installation, environment | named(server), copy, "-a", image, READ_ON_SERVER)
    assert min(map(int, said["RESULTS"].split())) > 5
    assert said["SAME"] == "true"
    assert said["STEP"] == "true"
    assert "is not simply a file" in said["ROTATED"]
    assert "no plane z=1" in said["PLANE"]
    assert f"{image} does not lie in a folder that this server may read" in said["PATH"]
