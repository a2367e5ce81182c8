"""Nothing is shifted where QuPath's image is not simply the file's pixels: rotated, cropped, or inside slide bounds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
import skimage.data
import tifffile
from qupath_window import install_extension, isolated
from shapely.geometry import shape

from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations

pytestmark = [
    pytest.mark.qupath,
    pytest.mark.parametrize("installation", find_qupath_installations(), ids=lambda found: found.version),
]

SCRIPT = Path(__file__).with_name("derived.groovy")
CROP = (203, 101, 1001, 803)  # x, y, width, height in px of the plain image
REGION = (70, 90, 600, 500)  # the same numbers in every view
PIXEL_SIZE_UM = 0.5
# What OpenSlide needs to read a TIFF as one scanned area at an offset inside a larger slide, in nm.
LEICA = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
  <collection name="slide" sizeX="{slide_width}" sizeY="{slide_height}"><image name="main">
    <creationDate>2020-01-01T00:00:00Z</creationDate><device model="none" version="1"/>
    <pixels><dimension ifd="0" sizeX="{columns}" sizeY="{rows}"/></pixels>
    <view sizeX="{width}" sizeY="{height}" offsetX="{left}" offsetY="{top}"/>
    <scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>
      <numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>
    </illuminationSettings></scanSettings>
  </image></collection>
</scn>"""


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Tissue that is nowhere the same, not even mirrored."""
    tissue = np.tile(skimage.data.immunohistochemistry(), (2, 3, 1))[:1000, :1300]
    shade = np.linspace(1, 0.7, tissue.shape[1])[None, :, None] * np.linspace(0.8, 1, tissue.shape[0])[:, None, None]
    return (tissue * shade).astype(np.uint8)


def write_tiff(path: Path, rgb: np.ndarray, description: str = "") -> Path:
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            rgb,
            photometric="rgb",
            tile=(256, 256),
            description=description,
            metadata=None,
            resolution=(1e4 / PIXEL_SIZE_UM, 1e4 / PIXEL_SIZE_UM),
            resolutionunit="CENTIMETER",
        )
    return path


def views(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """What the views of the script show; QuPath turns clockwise."""
    x, y, width, height = CROP
    cropped = rgb[y : y + height, x : x + width]
    return {
        "plain": rgb,
        "rotated-90": np.rot90(rgb, -1),
        "rotated-180": np.rot90(rgb, 2),
        "rotated-270": np.rot90(rgb, 1),
        "cropped": cropped,
        "cropped-rotated-90": np.rot90(cropped, -1),
    }


def run_in_qupath(installation: QuPathInstallation, jar: Path, folder: Path, image: Path, *options: str) -> list[str]:
    environment = isolated(folder)
    install_extension(jar, environment)
    arguments = [str(folder), ",".join(map(str, CROP)), ",".join(map(str, REGION))]
    command = [str(installation.launcher), "script", "-i", str(image), *options]
    command += [*(f"--args={argument}" for argument in arguments), str(SCRIPT)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    return [line for line in done.stdout.splitlines() if line.startswith("SIZE ")]


def run_here(image: Path, geojson: Path) -> Path:
    """The same segmentation by the command line, with the file read by Python."""
    command = [sys.executable, "-m", "conceptseg", "segment", str(image), "-o", str(geojson), "--quiet", "--k", "16"]
    command += ["--min-area-um2", "100", "--pixel-size-um", str(PIXEL_SIZE_UM), "--region", ",".join(map(str, REGION))]
    subprocess.run(command, check=True, timeout=600)
    return geojson


def areas(geojson: Path) -> dict[str, shapely.Geometry]:
    """The area of every class."""
    shapes: dict[str, list[shapely.Geometry]] = {}
    for feature in json.loads(geojson.read_text(encoding="utf-8"))["features"]:
        shapes.setdefault(feature["properties"]["classification"]["name"], []).append(shape(feature["geometry"]))
    return {name: shapely.union_all(members) for name, members in shapes.items()}


def assert_same(found: Path, expected: Path) -> None:
    ours, theirs = areas(found), areas(expected)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 2
    difference = sum(ours[name].symmetric_difference(theirs[name]).area for name in ours)
    assert difference == pytest.approx(0, abs=1e-6 * REGION[2] * REGION[3]), found.stem


def test_rotated_and_cropped_images_have_the_polygons_of_their_own_pixels(
    jar: Path, installation: QuPathInstallation, tmp_path: Path, pixels: np.ndarray
) -> None:
    image = write_tiff(tmp_path / "image.tif", pixels)
    sizes = run_in_qupath(installation, jar, tmp_path, image)
    expected = views(pixels)
    assert sizes == [f"SIZE {name} {view.shape[1]} {view.shape[0]}" for name, view in expected.items()]
    for name, view in expected.items():
        local = run_here(write_tiff(tmp_path / f"{name}.tif", view), tmp_path / f"local-{name}.geojson")
        assert_same(tmp_path / f"{name}.geojson", local)


def test_a_slide_with_bounds_has_the_polygons_of_the_scanned_area(
    jar: Path, installation: QuPathInstallation, tmp_path: Path, pixels: np.ndarray
) -> None:
    rows, columns = pixels.shape[:2]
    nanometres = round(1000 * PIXEL_SIZE_UM)
    sizes_px = {
        "slide_width": 2500,
        "slide_height": 2000,
        "width": columns,
        "height": rows,
        "left": 701,
        "top": 503,
    }
    in_nm = {name: size * nanometres for name, size in sizes_px.items()}
    slide = write_tiff(tmp_path / "slide.scn", pixels, LEICA.format(columns=columns, rows=rows, **in_nm))
    plain = write_tiff(tmp_path / "image.tif", pixels)
    sizes = run_in_qupath(installation, jar, tmp_path, slide, "-e", "[--classname,OpenslideServerBuilder]")
    assert sizes[0] == f"SIZE plain {columns} {rows}"
    assert_same(tmp_path / "plain.geojson", run_here(plain, tmp_path / "local-plain.geojson"))
    assert_same(tmp_path / "plain.geojson", run_here(slide, tmp_path / "local-slide.geojson"))
    cropped = write_tiff(tmp_path / "cropped.tif", views(pixels)["cropped"])
    assert_same(tmp_path / "cropped.geojson", run_here(cropped, tmp_path / "local-cropped.geojson"))
