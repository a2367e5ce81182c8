"""A region in, one seamless coverage of concept polygons out."""

from dataclasses import replace

import numpy as np
import pytest
import shapely

from conceptseg.domain.errors import CancelledByCallerError, DictionaryError, InvalidRequestError, OutputError
from conceptseg.domain.region import Region
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.learn import reference_projection
from conceptseg.pipeline.fit import fit_concepts
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings

EXACT = SegmentSettings(tolerance_px=0, min_area_um2=0, min_hole_area_um2=0)


@pytest.fixture(scope="module")
def found(colon, encoder, dictionary):
    from conceptseg.imaging.array_reader import ArrayReader
    from conceptseg.imaging.source import open_region

    source = open_region(ArrayReader(colon, name="colon", pixel_size_um=0.5), region=None, pixel_size_um=0.5)
    return segment(source, encoder=encoder, dictionary=dictionary)


def test_the_polygons_are_one_valid_coverage_of_the_labelled_tissue(found):
    outlines = [polygon.polygon for polygon in found.polygons]
    assert len(outlines) > 10
    assert shapely.is_valid(outlines).all()
    assert shapely.coverage_is_valid(outlines)
    labelled = np.count_nonzero(found.label_map.labels)
    assert shapely.area(outlines).sum() == pytest.approx(labelled, rel=0.01)


def test_without_simplification_every_concept_has_exactly_its_pixels(region_of, colon, encoder, dictionary):
    found = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=EXACT)
    pixels = np.bincount(found.label_map.labels.ravel(), minlength=17)[1:]
    areas = np.zeros(16)
    for polygon in found.polygons:
        areas[polygon.concept] += polygon.polygon.area
    np.testing.assert_array_equal(areas, pixels)


def test_the_labels_are_the_method_step_by_step(region_of, colon, encoder, dictionary):
    """Bilinear upsampling and argmax of the activations of the whole picture, as the paper has it."""
    import torch

    settings = replace(EXACT, whole_region=True)
    labels = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=settings).label_map.labels
    padded = np.pad(colon, ((96, 96), (96, 96), (0, 0)), mode="symmetric")
    tokens = encoder.encode(padded[None])[0, 6:-6, 6:-6].reshape(-1, encoder.spec.channels).numpy()
    activations = reference_projection(tokens, dictionary.concepts).reshape(32, 32, 16)
    maps = torch.from_numpy(activations).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(maps, (512, 512), mode="bilinear")[0].argmax(0).numpy() + 1
    assert (labels == expected).mean() > 0.98  # scikit-learn stops before the optimum


def test_small_areas_are_given_to_their_neighbours(found, region_of, colon, encoder, dictionary):
    everything = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=EXACT)
    assert len(everything.polygons) > len(found.polygons)
    assert min(polygon.measurements["Area µm^2"] for polygon in everything.polygons) < 100
    minimum = SegmentSettings().min_area_um2
    assert min(polygon.measurements["Area µm^2"] for polygon in found.polygons) > 0.8 * minimum


def test_measurements_and_summaries_agree(found):
    for summary in found.concepts:
        own = [p for p in found.polygons if p.concept == summary.concept_class.concept]
        assert summary.polygons == len(own)
        assert summary.area_um2 == pytest.approx(sum(p.measurements["Area µm^2"] for p in own))
    assert sum(summary.area_percent for summary in found.concepts) == pytest.approx(100)
    assert sum(p.measurements["Area %"] for p in found.polygons) == pytest.approx(100)
    one = found.polygons[0]
    assert one.measurements["Area µm^2"] == pytest.approx(one.polygon.area * 0.25)
    assert one.measurements["Perimeter µm"] == pytest.approx(one.polygon.length * 0.5)
    assert all(0 < p.measurements["Concept purity"] <= 1 for p in found.polygons)
    assert all(p.measurements["Mean activation"] > 0 for p in found.polygons)
    assert 0 < found.relative_residual < 1


@pytest.mark.parametrize("name", ["default", "lunit-vits16"])
def test_the_result_does_not_depend_on_the_tile_size(name, region_of, colon):
    encoder = load_encoder(name, device="cpu", random_weights=name != "default")
    source = region_of(np.tile(colon, (1, 2, 1))[:400, :777])
    dictionary = fit_concepts([source], encoder=encoder, ks=[12], provenance={}, total=1)[0]
    maps = [
        segment(
            source, encoder=encoder, dictionary=dictionary, settings=replace(EXACT, tile_px=tile_px)
        ).label_map.labels
        for tile_px in (128, 256, 1024)
    ]
    assert (maps[0] == maps[2]).mean() >= 0.999
    assert (maps[1] == maps[2]).mean() >= 0.999


def test_a_part_of_the_image_is_labelled_like_the_same_part_of_the_whole(region_of, colon, encoder, dictionary):
    whole = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=EXACT)
    region = Region(x=128, y=64, width=256, height=320)
    part = segment(region_of(colon, region), encoder=encoder, dictionary=dictionary, settings=EXACT)
    inner = (slice(16, -16), slice(16, -16))  # at its own edge a region has no neighbours to interpolate with
    same = part.label_map.labels[inner] == whole.label_map.labels[64:384, 128:384][inner]
    assert same.mean() >= 0.999
    assert shapely.union_all([p.polygon for p in part.polygons]).bounds == pytest.approx((128, 64, 384, 384), abs=1)


def test_polygons_lie_in_full_resolution_pixels(region_of, colon, encoder, dictionary):
    fine = np.repeat(np.repeat(colon, 2, axis=0), 2, axis=1)
    at_half = segment(region_of(fine, pixel_size_um=0.25), encoder=encoder, dictionary=dictionary, settings=EXACT)
    plain = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=EXACT)
    np.testing.assert_array_equal(at_half.label_map.labels, plain.label_map.labels)
    assert at_half.polygons[0].polygon.equals(shapely.transform(plain.polygons[0].polygon, lambda xy: 2 * xy))
    assert at_half.polygons[0].measurements == pytest.approx(plain.polygons[0].measurements)


def test_results_are_cut_to_the_parents_shape(region_of, colon, encoder, dictionary):
    parent = shapely.Point(260, 240).buffer(150)
    found = segment(region_of(colon), encoder=encoder, dictionary=dictionary, clip=parent)
    outlines = [polygon.polygon for polygon in found.polygons]
    assert shapely.coverage_is_valid(outlines)
    covered = shapely.union_all(outlines)
    assert covered.difference(parent.buffer(0.5)).area < 1
    assert covered.area > 0.9 * parent.area


def inside(parent, grid):
    """The pixels whose centres lie in ``parent``."""
    x = grid.region.x + (np.arange(grid.width) + 0.5) * grid.scale_x
    y = grid.region.y + (np.arange(grid.height) + 0.5) * grid.scale_y
    return shapely.contains_xy(parent, *np.meshgrid(x, y))


def test_the_label_map_ends_with_the_parents_shape(region_of, colon, encoder, dictionary):
    parent = shapely.Point(260, 240).buffer(150)
    labels = segment(region_of(colon), encoder=encoder, dictionary=dictionary, clip=parent).label_map.labels
    found = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=EXACT, clip=parent)
    assert not labels[~inside(parent, found.label_map.grid)].any()
    # Without simplification and clean-up the polygons are what the map says, cut between pixels.
    areas = np.zeros(16)
    for polygon in found.polygons:
        areas[polygon.concept] += polygon.polygon.area
    pixels = np.bincount(found.label_map.labels.ravel(), minlength=17)[1:]
    assert areas == pytest.approx(pixels, abs=30)
    assert areas.sum() == pytest.approx(pixels.sum(), rel=1e-3)


def test_means_count_nothing_outside_the_parents_shape(region_of, colon, encoder, dictionary):
    settings = replace(EXACT, whole_region=True)
    # Both parts together are the whole, so are their sums; the line between them follows pixels, not tokens.
    left, right = shapely.box(0, 0, 203, 512), shapely.box(203, 0, 512, 512)
    sums = []
    for clip in (None, left, right):
        found = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=settings, clip=clip)
        pixels = np.bincount(found.label_map.labels.ravel(), minlength=17)[1:]
        assert [concept.area_um2 * 4 for concept in found.concepts] == pytest.approx(pixels)
        sums.append(pixels * [concept.mean_activation for concept in found.concepts])
    assert sums[1] + sums[2] == pytest.approx(sums[0], rel=1e-5)


def test_a_sliver_without_a_pixel_inside_has_means_too(region_of, colon, encoder, dictionary):
    settings = replace(EXACT, whole_region=True)
    parent = shapely.box(100, 100.6, 400, 100.9)
    found = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=settings, clip=parent)
    assert found.polygons
    assert not found.label_map.labels.any()
    assert all(0 < polygon.measurements["Concept purity"] <= 1 for polygon in found.polygons)


def test_a_region_without_tissue_has_an_empty_result(region_of, encoder, dictionary):
    glass = np.full((200, 300, 3), 240, np.uint8)
    for method in ("projection", "nearest", "learned", "matched", "reference"):
        found = segment(
            region_of(glass),
            encoder=encoder,
            dictionary=None if method == "learned" else dictionary,
            settings=SegmentSettings(method=method),
        )
        assert found.polygons == ()
        assert not found.label_map.labels.any()
        assert all(summary.area_um2 == 0 for summary in found.concepts)


def test_background_is_unlabelled_unless_the_whole_region_is_asked_for(region_of, colon, encoder, dictionary):
    half_glass = colon.copy()
    half_glass[:, 256:] = 242
    tissue = segment(region_of(half_glass), encoder=encoder, dictionary=dictionary).label_map.labels
    assert not tissue[:, 290:].any()
    assert (tissue[:, :220] > 0).mean() > 0.9
    settings = SegmentSettings(whole_region=True)
    whole = segment(region_of(half_glass), encoder=encoder, dictionary=dictionary, settings=settings).label_map.labels
    assert (whole > 0).mean() > 0.99


@pytest.mark.parametrize("method", ["learned", "matched", "nearest", "reference"])
def test_every_other_method_gives_a_valid_coverage_and_repeats(method, region_of, colon, encoder, dictionary):
    settings = SegmentSettings(method=method, n_concepts=5)
    concepts = None if method == "learned" else dictionary
    runs = [
        segment(region_of(colon[:256, :256]), encoder=encoder, dictionary=concepts, settings=settings) for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].label_map.labels, runs[1].label_map.labels)
    assert shapely.coverage_is_valid([polygon.polygon for polygon in runs[0].polygons])
    assert len(np.unique(runs[0].label_map.labels)) > 2
    assert len(runs[0].concepts) == (5 if method == "learned" else 16)


def test_a_dictionary_of_another_encoder_is_refused(region_of, colon, encoder, dictionary):
    with pytest.raises(DictionaryError, match="belongs to encoder uni"):
        segment(region_of(colon), encoder=encoder, dictionary=replace(dictionary, encoder="uni"))


def test_a_method_with_a_dictionary_needs_one(region_of, colon, encoder):
    with pytest.raises(InvalidRequestError, match="needs a dictionary"):
        segment(region_of(colon), encoder=encoder, dictionary=None)


def test_more_concepts_than_tokens_are_refused(region_of, colon, encoder):
    settings = SegmentSettings(method="learned", n_concepts=40)
    with pytest.raises(InvalidRequestError, match="16 tokens for k = 40"):
        segment(region_of(colon[:64, :64]), encoder=encoder, dictionary=None, settings=settings)


def test_progress_reaches_its_end_in_every_stage(region_of, colon, encoder, dictionary):
    seen = []
    settings = SegmentSettings(tile_px=128)
    segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=settings, progress=seen.append)
    assert [step.done for step in seen if step.stage == "encode"] == list(range(17))
    assert {step.stage for step in seen} >= {"encode", "label", "polygons", "measure"}
    assert all(max(s.done for s in seen if s.stage == step.stage) == step.total for step in seen)


def test_cancelling_stops_within_one_batch(region_of, colon, encoder, dictionary):
    seen = []
    settings = SegmentSettings(tile_px=128)
    with pytest.raises(CancelledByCallerError):
        segment(
            region_of(colon),
            encoder=encoder,
            dictionary=dictionary,
            settings=settings,
            progress=seen.append,
            cancelled=lambda: any(step.done == 3 for step in seen),
        )
    assert max(step.done for step in seen) == 3


def test_little_tissue_on_much_glass_is_learned_from_as_a_whole(monkeypatch, region_of, colon, encoder):
    monkeypatch.setattr("conceptseg.pipeline.activate._LEARNING_TOKENS", 500)
    slide = np.full((2048, 2048, 3), 243, np.uint8)
    slide[:512, :512] = colon
    settings = SegmentSettings(method="learned", n_concepts=200)  # of about a thousand tokens
    assert segment(region_of(slide), encoder=encoder, dictionary=None, settings=settings).polygons


def test_cancelling_over_glass_stops_before_the_next_block(region_of, encoder, dictionary):
    asked = []

    def cancelled():
        asked.append(True)
        return len(asked) > 3

    glass = np.full((512, 512, 3), 243, np.uint8)
    settings = SegmentSettings(tile_px=16)
    with pytest.raises(CancelledByCallerError):
        segment(region_of(glass), encoder=encoder, dictionary=dictionary, settings=settings, cancelled=cancelled)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "magic"},
        {"n_concepts": 0},
        {"min_area_um2": -1},
        {"tolerance_px": float("nan")},
        {"tile_px": 3},
        {"tolerance_px": 1e300},
        {"seed": -1},
        {"seed": 1 << 32},
    ],
)
def test_settings_out_of_range_are_refused(wrong, region_of, colon, encoder, dictionary):
    with pytest.raises(InvalidRequestError, match="Expected"):
        segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=SegmentSettings(**wrong))


@pytest.fixture
def small_sheets(monkeypatch):
    """Sheets of 128 px, and the label map in a file, as a whole slide has them."""
    from conceptseg.pipeline import sheets

    monkeypatch.setattr(sheets, "_SHEET_PX", 128)
    monkeypatch.setattr(sheets, "_IN_MEMORY_PX", 1000)


class TestARegionOfManySheets:
    def test_it_has_the_labels_and_the_polygons_of_one_sheet(
        self, found, small_sheets, region_of, colon, encoder, dictionary
    ):
        many = segment(region_of(colon), encoder=encoder, dictionary=dictionary)
        assert (many.label_map.labels == found.label_map.labels).mean() > 0.999
        assert len(many.polygons) == pytest.approx(len(found.polygons), abs=2)
        for ours, theirs in zip(many.concepts, found.concepts, strict=True):
            assert ours.area_um2 == pytest.approx(theirs.area_um2, rel=0.01, abs=20)
            assert ours.mean_activation == pytest.approx(theirs.mean_activation, rel=0.01)

    def test_its_polygons_are_one_coverage_across_the_sheets(self, small_sheets, region_of, colon, encoder, dictionary):
        many = segment(region_of(colon), encoder=encoder, dictionary=dictionary)
        outlines = [polygon.polygon for polygon in many.polygons]
        assert shapely.coverage_is_valid(outlines)
        assert (
            max(max(b - a for a, b in ((o.bounds[0], o.bounds[2]), (o.bounds[1], o.bounds[3]))) for o in outlines) > 128
        )

    def test_without_simplification_measurements_are_those_of_one_sheet(
        self, small_sheets, monkeypatch, region_of, colon, encoder, dictionary
    ):
        from conceptseg.pipeline import sheets

        many = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=EXACT)
        monkeypatch.setattr(sheets, "_SHEET_PX", 4096)
        one = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=EXACT)
        np.testing.assert_array_equal(many.label_map.labels, one.label_map.labels)

        def measured(result):
            rows = [(p.concept, p.polygon.bounds, *p.measurements.values()) for p in result.polygons]
            return sorted((c, *b, *m) for c, b, *m in rows)

        np.testing.assert_allclose(measured(many), measured(one), rtol=1e-5)

    @pytest.mark.parametrize("minimum", [{"min_area_um2": 500.0}, {"min_hole_area_um2": 2000.0}])
    def test_small_areas_are_cleaned_up_as_in_one_sheet(
        self, minimum, small_sheets, monkeypatch, region_of, colon, encoder, dictionary
    ):
        from conceptseg.pipeline import sheets

        settings = SegmentSettings(**minimum)
        many = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=settings)
        monkeypatch.setattr(sheets, "_SHEET_PX", 4096)
        one = segment(region_of(colon), encoder=encoder, dictionary=dictionary, settings=settings)
        np.testing.assert_array_equal(many.label_map.labels, one.label_map.labels)

    @pytest.mark.parametrize("name", ["min_area_um2", "min_hole_area_um2"])
    def test_areas_too_large_to_be_judged_in_parts_are_refused(
        self, name, small_sheets, region_of, colon, encoder, dictionary
    ):
        with pytest.raises(InvalidRequestError, match=rf"{name} of at most 65536 .* got 70000"):
            segment(
                region_of(colon), encoder=encoder, dictionary=dictionary, settings=SegmentSettings(**{name: 70_000.0})
            )

    def test_it_is_cut_to_the_parents_shape(self, small_sheets, region_of, colon, encoder, dictionary):
        parent = shapely.Point(260, 250).buffer(200)
        many = segment(region_of(colon), encoder=encoder, dictionary=dictionary, clip=parent)
        assert not many.label_map.labels[~inside(parent, many.label_map.grid)].any()
        assert parent.buffer(1).covers(shapely.union_all([polygon.polygon for polygon in many.polygons]))

    def test_a_failure_in_a_sheet_ends_the_run(self, small_sheets, monkeypatch, region_of, colon, encoder, dictionary):
        from conceptseg.pipeline import sheets

        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(sheets.LabelCanvas, "put", full)
        with pytest.raises(OSError, match="No space"):
            segment(region_of(colon), encoder=encoder, dictionary=dictionary)

    def test_a_full_disk_is_told_in_a_sentence(self, small_sheets, monkeypatch, region_of, colon, encoder, dictionary):
        import errno
        import io

        from conceptseg.pipeline import sheets

        class FullDisk(io.BytesIO):
            def write(self, _):
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(sheets.tempfile, "TemporaryFile", lambda **_: FullDisk())
        monkeypatch.setattr(sheets, "reserve", lambda *_: None)  # a disk that is full later all the same
        with pytest.raises(OutputError, match=r"No space left on device.*TMPDIR"):
            segment(region_of(colon), encoder=encoder, dictionary=dictionary)
