import os
import subprocess
import sys
from pathlib import Path

from tests.report.tissue import tissue_file

AHEAD = """
from conceptseg.cli.qupath import _compile_ahead
_compile_ahead()
"""

SEGMENT = """
import sys
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment
with open_image(sys.argv[1]) as reader:
    source = open_region(reader, region=None, pixel_size_um=0.5, image_pixel_size_um=0.5)
    dictionary = find_dictionary(encoder="default", name=None, k=16)
    assert segment(source, encoder=load_encoder("default"), dictionary=dictionary).polygons
"""


def test_what_was_compiled_ahead_is_not_compiled_again(tmp_path):
    compiled = tmp_path / "compiled"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(compiled)}

    def run(code: str, *arguments: Path) -> set[str]:
        subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, check=True)
        return {file.name for file in compiled.rglob("*.nbc")}

    ahead = run(AHEAD)
    assert any(name.startswith("join.") for name in ahead)  # slides of several sheets too
    assert run(SEGMENT, tissue_file(tmp_path)) == ahead
