"""What a user of QuPath reads when something goes wrong."""

import os
import subprocess
from pathlib import Path

import pytest
from qupath_window import install_extension, isolated

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

SCRIPT = """
io.github.conceptseg.ConceptSeg.segment(getCurrentImageData()).wholeImage().pixelSizeUm(0.5)
    .dictionaryFile("/no/such.safetensors").run()
"""


@pytest.mark.qupath
@pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version)
def test_the_sentence_is_shown_and_not_the_cause_behind_it(
    jar: Path, installation: QuPathInstallation, tmp_path: Path, image: Path
) -> None:
    environment = isolated(tmp_path)
    install_extension(jar, environment)
    script = tmp_path / "script.groovy"
    script.write_text(SCRIPT)
    command = [str(installation.launcher), "script", "-i", str(image), str(script)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "The dictionary file /no/such.safetensors cannot be read. Check the path" in done.stdout + done.stderr
