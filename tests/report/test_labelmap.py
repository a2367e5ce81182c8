"""Label maps as files."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.domain.labels import LabelMap, label_dtype
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.report.labelmap import write_label_map


def label_map(n_concepts=16, width=300, height=200):
    region = Region(x=1000, y=2000, width=width * 4, height=height * 2, z=1, t=2)
    grid = PixelGrid(region=region, width=width, height=height, pixel_size_um=1.5)
    labels = np.random.default_rng(0).integers(0, n_concepts + 1, (height, width)).astype(label_dtype(n_concepts))
    return LabelMap(labels=labels, grid=grid, n_concepts=n_concepts)


@pytest.mark.parametrize("n_concepts", [1, 255, 256, 65_535])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
def test_labels_come_back_with_their_bits(tmp_path, n_concepts, suffix):
    labels = label_map(n_concepts)
    path = tmp_path / f"labels{suffix}"
    write_label_map(path, labels)
    if suffix == ".png":
        with Image.open(path) as picture:
            back = np.asarray(picture)
        assert picture.mode == ("L" if n_concepts < 256 else "I;16")
    else:
        back = tifffile.imread(path)
        assert back.dtype == labels.labels.dtype
    np.testing.assert_array_equal(back, labels.labels)


def test_a_tiff_knows_where_and_how_large_its_pixels_are(tmp_path):
    write_label_map(tmp_path / "labels.tif", label_map())
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        page = file.pages[0]
        description = json.loads(page.description)
        assert page.is_tiled
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        numerator, denominator = page.tags["XResolution"].value
        assert denominator / numerator * 10_000 == pytest.approx(2.0, rel=1e-6)  # 4 full px of 0.5 µm
        numerator, denominator = page.tags["YResolution"].value
        assert denominator / numerator * 10_000 == pytest.approx(1.0, rel=1e-6)
    assert description["region"] == {"x": 1000, "y": 2000, "width": 1200, "height": 400, "z": 1, "t": 2}
    assert description["downsample_x"] == 4
    assert description["downsample_y"] == 2
    assert description["pixel_size_um"] == 1.5
    assert description["n_concepts"] == 16


def test_a_large_map_is_written(tmp_path):
    width, height = 9001, 7003
    grid = PixelGrid(region=Region(x=0, y=0, width=width, height=height), width=width, height=height, pixel_size_um=1)
    stripes = np.broadcast_to((np.arange(width) // 30).astype(np.uint16), (height, width))
    large = LabelMap(labels=stripes, grid=grid, n_concepts=300)
    for name in ("large.tif", "large.png"):
        write_label_map(tmp_path / name, large)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "large.tif"), large.labels)


def test_labels_that_are_not_contiguous_are_written(tmp_path):
    whole = label_map(width=600)
    every_second = LabelMap(labels=whole.labels[:, ::2], grid=label_map().grid, n_concepts=16)
    for name in ("a.png", "a.tif"):
        write_label_map(tmp_path / name, every_second)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), every_second.labels)
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), every_second.labels)


def test_another_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InvalidRequestError, match="expected a name in"):
        write_label_map(tmp_path / "labels.jpg", label_map())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_missing_folder_is_reported(tmp_path, suffix):
    with pytest.raises(OutputError, match="folder"):
        write_label_map(tmp_path / "missing" / f"labels{suffix}", label_map())
    assert not list(tmp_path.iterdir())
