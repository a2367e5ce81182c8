"""What the jar contains."""

import re
import zipfile
from pathlib import Path

import conceptseg


def test_everything_foreign_is_relocated(jar: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        classes = [name for name in archive.namelist() if name.endswith(".class") and not name.startswith("META-INF/")]
    assert classes
    assert [name for name in classes if not name.startswith("io/github/conceptseg/")] == []


def test_the_declarations_of_qupath_are_left_out_and_the_extension_is_announced(jar: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        names = archive.namelist()
        service = archive.read("META-INF/services/qupath.lib.gui.extensions.QuPathExtension").decode().split()
        manifest = archive.read("META-INF/MANIFEST.MF").decode()
    assert not any(name.startswith("qupath/") for name in names)
    assert service == ["io.github.conceptseg.qupath.ConceptSegExtension"]
    assert f"Implementation-Version: {conceptseg.__version__}" in manifest.replace("\r", "")


def test_the_classes_run_on_java_17(jar: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        own = [
            n
            for n in archive.namelist()
            if re.fullmatch(r"io/github/conceptseg/(client/|qupath/|server/|window/)?\w+\.class", n)
        ]
        majors = {int.from_bytes(archive.read(name)[6:8], "big") for name in own}
    assert majors == {61}


def test_the_scripts_travel_in_the_jar(jar: Path) -> None:
    scripts = {path.name for path in (Path(__file__).parents[2] / "qupath_scripts").glob("*.groovy")}
    with zipfile.ZipFile(jar) as archive:
        inside = {
            Path(name).name for name in archive.namelist() if name.startswith("scripts/") and name.endswith(".groovy")
        }
    assert inside == scripts
