"""z-slices, time points and channels of a TIFF file."""

import itertools
import shutil

import numpy as np
import pytest
import tifffile

from conceptseg.domain.errors import ImageError, RegionError
from conceptseg.domain.region import Region
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region


def plane_of(z, t, *, height=64, width=80):
    """Pixels that tell their plane: red is z, green is t, blue a ramp."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = 10 + z, 10 + t, np.arange(width)
    return pixels


def whole(reader, *, scale=1):
    width, height = reader.width // scale, reader.height // scale
    return reader.read(x=0, y=0, width=width, height=height, scale_x=scale, scale_y=scale)


def stack(axes, *, z=3, t=2):
    """An array with the axes of `plane_of` planes, C being the three colours in pages of their own."""
    planes = np.stack([[plane_of(i, j) for j in range(t)] for i in range(z)])  # Z T Y X S
    if "C" in axes:
        planes, order = np.moveaxis(planes, -1, 2), "ZTCYX"
    else:
        order = "ZTYXS"
    return np.ascontiguousarray(planes.transpose([order.index(axis) for axis in axes]))


ORDERS = ["".join(order) + "YXS" for order in itertools.permutations("ZT")]
SEPARATE = ["".join(order) + "YX" for order in itertools.permutations("ZTC")]


@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("axes", ORDERS + SEPARATE)
def test_every_plane_of_every_order_is_found(tmp_path, axes, tile):
    path = tmp_path / "stack.ome.tif"
    channels = {"Channel": {"Name": ["Red", "Green", "Blue"]}} if "C" in axes else {}
    photometric = "minisblack" if "C" in axes else "rgb"
    tifffile.imwrite(path, stack(axes), photometric=photometric, tile=tile, metadata={"axes": axes} | channels)
    with open_image(path) as reader:
        assert (reader.z_slices, reader.time_points) == (3, 2)
        assert (reader.z, reader.t) == (1, 1)
        np.testing.assert_array_equal(whole(reader), plane_of(1, 1))
        for z, t in itertools.product(range(3), range(2)):
            other = reader.at(z=z, t=t)
            assert (other.z, other.t) == (z, t)
            np.testing.assert_array_equal(whole(other), plane_of(z, t))
        np.testing.assert_array_equal(whole(reader), plane_of(1, 1))


@pytest.mark.parametrize(("slices", "shown"), [(1, 0), (2, 1), (4, 2), (5, 2)])
def test_the_slice_that_qupath_shows_first_is_read(tmp_path, slices, shown):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, stack("ZTYXS", z=slices, t=1)[:, 0], photometric="rgb", metadata={"axes": "ZYXS"})
    with open_image(path) as reader:
        assert (reader.z, reader.z_slices) == (shown, slices)
        np.testing.assert_array_equal(whole(reader), plane_of(shown, 0))


def test_a_damaged_plane_is_an_image_error(tmp_path, monkeypatch):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, stack("ZTYXS", t=1)[:, 0], photometric="rgb", metadata={"axes": "ZYXS"})

    def fail(page, cache):
        raise ZeroDivisionError("integer division or modulo by zero")  # a tile of no width

    with open_image(path) as reader:
        monkeypatch.setattr("conceptseg.imaging.tiff_reader.PagePixels", fail)
        with pytest.raises(
            ImageError, match=r"stack\.ome\.tif is damaged, truncated or compressed in an unknown way\."
        ):
            reader.at(z=2, t=0)


@pytest.mark.parametrize("plane", [(3, 0), (-1, 0), (0, 1)])
def test_a_plane_that_is_not_there_is_refused(tmp_path, plane):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, stack("ZTYXS", t=1)[:, 0], photometric="rgb", metadata={"axes": "ZYXS"})
    with open_image(path) as reader, pytest.raises(RegionError, match=r"3 z-slices and 1 time point\. Choose 0 <= z"):
        reader.at(z=plane[0], t=plane[1])


def test_every_plane_has_the_levels_of_its_own(tmp_path):
    path = tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(stack("ZTYXS", t=1)[:, 0], photometric="rgb", tile=(32, 32), subifds=1, metadata={"axes": "ZYXS"})
        small = np.stack([np.full((32, 40, 3), 100 + z, np.uint8) for z in range(3)])
        file.write(small, photometric="rgb", tile=(32, 32), subfiletype=1)
    with open_image(path) as reader:
        for z in range(3):
            assert (whole(reader.at(z=z, t=0), scale=2) == 100 + z).all()
            np.testing.assert_array_equal(whole(reader.at(z=z, t=0)), plane_of(z, 0))


@pytest.mark.parametrize("contiguous", [True, False])
def test_an_imagej_stack(tmp_path, contiguous):
    path = tmp_path / "imagej.tif"
    array = np.moveaxis(stack("ZTYXS"), 0, 1)  # T Z Y X S, as ImageJ has it
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": "TZYXS"}, compression=None if contiguous else "zlib")
    with open_image(path) as reader:
        assert (reader.z_slices, reader.time_points) == (3, 2)
        for z, t in itertools.product(range(3), range(2)):
            np.testing.assert_array_equal(whole(reader.at(z=z, t=t)), plane_of(z, t))


def test_an_imagej_stack_with_a_directory_for_its_first_plane_only(tmp_path):
    path = tmp_path / "large.tif"
    array = np.moveaxis(stack("ZTYXS"), 0, 1)
    with tifffile.TiffWriter(path, imagej=True) as file:
        # What ImageJ does above 4 GB.
        file.write(array, metadata={"axes": "TZYXS"}, truncate=True, contiguous=True)
    with open_image(path) as reader:
        np.testing.assert_array_equal(whole(reader), plane_of(1, 1))
        np.testing.assert_array_equal(whole(reader.at(z=2, t=0)), plane_of(2, 0))


def test_pages_of_which_nobody_says_what_they_are_count_as_time_points(tmp_path):
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        for t in range(4):
            file.write(plane_of(0, t), photometric="rgb", metadata=None)
    with open_image(path) as reader:
        assert (reader.z_slices, reader.time_points) == (1, 4)
        np.testing.assert_array_equal(whole(reader), plane_of(0, 2))
        np.testing.assert_array_equal(whole(reader.at(z=0, t=3)), plane_of(0, 3))


def test_a_stack_in_several_files(tmp_path):
    """Every file starts alike, so what is cached of one must not be taken for another."""
    import uuid

    names = {z: (f"z{z}.ome.tif", f"urn:uuid:{uuid.uuid4()}") for z in range(3)}
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{own}</UUID></TiffData>'
        for z, (name, own) in names.items()
    )
    for z, (name, own) in names.items():
        description = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{own}">'
            '<Image ID="Image:0" Name="stack"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="80" '
            'SizeY="64" SizeC="3" SizeZ="3" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
            f"{planes}</Pixels></Image></OME>"
        )
        tifffile.imwrite(
            tmp_path / name,
            plane_of(z, 0),
            photometric="rgb",
            compression="zlib",
            description=description,
            metadata=None,
        )
    with open_image(tmp_path / "z0.ome.tif") as reader:
        assert (reader.z, reader.z_slices) == (1, 3)
        for z in (1, 0, 2):
            np.testing.assert_array_equal(whole(reader.at(z=z, t=0)), plane_of(z, 0))
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "z0.ome.tif", tmp_path / "alone")
    with pytest.raises(ImageError, match="lacks plane 1 of stack"):
        open_image(tmp_path / "alone" / "z0.ome.tif")


def test_the_whole_image_is_the_shown_plane_and_that_is_said(tmp_path, caplog):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, stack("ZTYXS"), photometric="rgb", metadata={"axes": "ZTYXS"})
    with open_image(path) as reader:
        source = open_region(reader, region=None, pixel_size_um=0.5, image_pixel_size_um=0.5)
        assert (source.grid.region.z, source.grid.region.t) == (1, 1)
        np.testing.assert_array_equal(source.read(x=0, y=0, width=80, height=64), plane_of(1, 1))
    assert caplog.messages == [
        "stack.ome.tif has 3 z-slices and 2 time points; z-slice 1 of time point 1 is taken (counted from 0), which "
        "QuPath shows first."
    ]


def test_a_region_is_read_on_its_own_plane(tmp_path, caplog):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, stack("ZTYXS"), photometric="rgb", metadata={"axes": "ZTYXS"})
    with open_image(path) as reader:
        region = Region(x=10, y=5, width=20, height=10, z=2, t=1)
        source = open_region(reader, region=region, pixel_size_um=0.5, image_pixel_size_um=0.5)
        np.testing.assert_array_equal(source.read(x=0, y=0, width=20, height=10), plane_of(2, 1)[5:15, 10:30])
        with pytest.raises(RegionError, match="has no plane z=3, t=0"):
            open_region(
                reader, region=Region(x=0, y=0, width=8, height=8, z=3), pixel_size_um=0.5, image_pixel_size_um=0.5
            )
    assert not caplog.messages


def test_the_stack_of_a_report_is_read_in_focus(shared_data):
    path = shared_data.parent / "cases" / "zstack" / "zstack.ome.tif"

    def sharpness(reader):
        return np.abs(np.diff(whole(reader).astype(float), axis=1)).mean()

    with open_image(path) as reader:
        sharp = [sharpness(reader.at(z=z, t=0)) for z in range(reader.z_slices)]
        assert sharpness(reader) == max(sharp) == sharp[1]
