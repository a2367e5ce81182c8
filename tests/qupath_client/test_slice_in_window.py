"""Which slice and time point of a stack QuPath's window shows first."""

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

OPEN = """
import qupath.lib.images.servers.ImageServers
def data = new ImageData(ImageServers.buildServer(new File("IMAGE").toURI()))
data.setImageType(ImageData.ImageType.BRIGHTFIELD_H_E)
def viewer = getQuPath().getViewer()
viewer.setImageData(data)
[viewer.getZPosition(), viewer.getTPosition()]
"""


def test_they_are_those_that_are_read_from_the_file(installation: QuPathInstallation, tmp_path: Path) -> None:
    with open_qupath(installation, tmp_path, isolated(tmp_path)) as window:
        for times, slices in ((1, 3), (2, 2), (3, 5)):
            path = tmp_path / f"stack{slices}.ome.tif"
            tifffile.imwrite(
                path, np.zeros((times, slices, 64, 64, 3), np.uint8), photometric="rgb", metadata={"axes": "TZYXS"}
            )
            with open_image(path) as reader:
                assert window.ask(OPEN.replace("IMAGE", str(path))) == [reader.z, reader.t]
