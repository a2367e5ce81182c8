"""The jar in the real QuPath, without a window."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import shapely
from shapely.geometry import shape

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

SCRIPT = Path(__file__).with_name("segment.groovy")
PREFERENCES = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<!DOCTYPE map SYSTEM "http://java.sun.com/dtd/preferences.dtd">
<map MAP_XML_VERSION="1.0"><entry key="userPath" value="{}"/></map>
"""

pytestmark = [
    pytest.mark.qupath,
    pytest.mark.shared,
    pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version),
]


def environment(jar: Path, folder: Path) -> dict[str, str]:
    """Preferences, user folder and configuration of its own for a QuPath that loads the jar."""
    extensions = folder / "user" / "extensions"
    extensions.mkdir(parents=True)
    (extensions / jar.name).write_bytes(jar.read_bytes())
    node = folder / ".java" / ".userPrefs" / "conceptsegtest"
    node.mkdir(parents=True)
    (node / "prefs.xml").write_text(PREFERENCES.format(folder / "user"))
    config = folder / "config"
    config.mkdir()
    (config / "qupath.json").write_text(json.dumps({"command": [sys.executable, "-m", "conceptseg", "serve"]}))
    options = f"-Djava.util.prefs.userRoot={folder} -Duser.home={folder} -Dqupath.prefs.name=conceptsegtest"
    return os.environ | {"JAVA_TOOL_OPTIONS": options, "CONCEPTSEG_CONFIG_DIR": str(config)}


def concepts(path: Path) -> dict[str, shapely.Geometry]:
    """The area of every class."""
    shapes: dict[str, list[shapely.Geometry]] = {}
    for feature in json.loads(path.read_text())["features"]:
        shapes.setdefault(feature["properties"]["classification"]["name"], []).append(shape(feature["geometry"]))
    return {name: shapely.union_all(members) for name, members in shapes.items()}


def test_results_are_those_of_the_command_line(
    jar: Path, installation: QuPathInstallation, tmp_path: Path, shared_data: Path
) -> None:
    slide = shared_data / "wsi" / "CMU-1-Small-Region.svs"
    command = [str(installation.launcher), "script", "-i", str(slide), "-a", str(tmp_path), str(SCRIPT)]
    done = subprocess.run(
        command, env=environment(jar, tmp_path / "qupath"), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-4000:]
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.split(" ")[0].isupper())
    assert int(said["REMOVED"]) > 0
    assert int(said["OBJECTS"]) > 20
    assert said["LOCKED"] == "true"
    assert said["KEPT"] == "true"
    assert said["STEPS"] == "2"
    assert said["TOLD"].startswith("Nothing to work on")

    for name, arguments in {
        "rectangle-0.3": ("--region", "600,700,900,700", "--pixel-size-um", "0.3"),
        "rectangle-0.499": ("--region", "600,700,900,700", "--pixel-size-um", "0.499"),
        "ellipse-0.499": ("--roi", str(tmp_path / "ellipse-outline.geojson"), "--pixel-size-um", "0.499"),
    }.items():
        local = tmp_path / f"local-{name}.geojson"
        segment = [sys.executable, "-m", "conceptseg", "segment", str(slide), "-o", str(local), "--quiet"]
        subprocess.run([*segment, "--k", "16", "--min-area-um2", "400", *arguments], check=True, timeout=600)
        expected, found = concepts(local), concepts(tmp_path / f"{name}.geojson")
        assert found.keys() == expected.keys()
        difference = sum(found[key].symmetric_difference(expected[key]).area for key in expected)
        assert difference == pytest.approx(0, abs=1e-6 * sum(area.area for area in expected.values())), name
