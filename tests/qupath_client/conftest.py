"""The built jar, and a program that calls it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "qupath_scripts" / "client"
PROBE = Path(__file__).with_name("Probe.java")


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
