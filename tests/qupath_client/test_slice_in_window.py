"""Which slice of a stack QuPath's window shows first."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from qupath_window import isolated, missing_programs, open_qupath

from conceptseg.imaging.reader import open_image
from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

pytestmark = [
    pytest.mark.qupath,
    pytest.mark.skipif(bool(missing_programs()), reason=f"needs {', '.join(missing_programs())}"),
    pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version),
]

SHOWN = "def viewer = getQuPath().getViewer(); [viewer.getZPosition(), viewer.getTPosition()]"


def test_it_is_the_slice_that_is_read_from_the_file(installation: QuPathInstallation, tmp_path: Path) -> None:
    with open_qupath(installation, tmp_path, isolated(tmp_path)) as window:
        for slices in (2, 3, 5):
            path = tmp_path / f"stack{slices}.ome.tif"
            tifffile.imwrite(
                path, np.zeros((2, slices, 64, 64, 3), np.uint8), photometric="rgb", metadata={"axes": "TZYXS"}
            )
            window.make_project(tmp_path / f"project{slices}", path)
            window.open_image()
            with open_image(path) as reader:
                assert window.ask(SHOWN) == [reader.z, reader.t]
