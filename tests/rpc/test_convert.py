"""Messages and domain types, there and back."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import box

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.labels import LabelMap, label_dtype
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.encoders.registry import known_encoders
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.glass import Overview
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.settings import METHODS, SegmentSettings
from conceptseg.rpc import convert, requests
from conceptseg.rpc.errors import ServerError
from conceptseg.v1 import common_pb2, segment_pb2

settings_strategy = st.builds(
    SegmentSettings,
    method=st.sampled_from(METHODS),
    n_concepts=st.integers(1, 1024),
    seed=st.integers(0, 2**32 - 1),
    tile_px=st.none() | st.integers(1, 2**31 - 1),
    whole_region=st.booleans(),
    min_area_um2=st.floats(0, 1e9),
    min_hole_area_um2=st.floats(0, 1e9),
    tolerance_px=st.floats(0, 100),
    glass_colour=st.none() | st.tuples(*[st.integers(20, 255)] * 3),
    tissue_strictness=st.floats(0.1, 10),
)


@pytest.mark.parametrize("rgb", [-1, 1 << 24, 0xF0F000])
def test_a_colour_of_glass_that_is_none_is_refused(rgb: int) -> None:
    with pytest.raises(InvalidRequestError, match="colour of glass"):
        requests.settings_from_proto(common_pb2.SegmentSettings(glass_colour_rgb=rgb))


def test_an_overview_round_trips_and_a_wrong_one_is_refused() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (7, 5, 3), dtype=np.uint8)
    overview = Overview.of(rgb, width=5000, height=7000)
    sent = convert.overview_to_proto(overview)
    assert requests.overview_from_proto(segment_pb2.PixelsHeader(overview=sent)) == overview
    assert requests.overview_from_proto(segment_pb2.PixelsHeader()) is None
    for wrong in ({"width": 6}, {"rgb": b""}, {"height": 2000}, {"image_width": 0}, {"width": 0, "rgb": b""}):
        header = segment_pb2.PixelsHeader(overview=sent)
        for name, value in wrong.items():
            setattr(header.overview, name, value)
        with pytest.raises(InvalidRequestError, match="overview"):
            requests.overview_from_proto(header)


@given(settings_strategy)
def test_settings_round_trip(settings: SegmentSettings) -> None:
    assert requests.settings_from_proto(convert.settings_to_proto(settings)) == settings


def test_settings_that_are_not_sent_have_their_defaults() -> None:
    message = convert.settings_to_proto(SegmentSettings())
    message.Clear()
    assert requests.settings_from_proto(message) == SegmentSettings()


@given(
    st.integers(-(2**29), 2**29),
    st.integers(1, 2**29),
    st.floats(1, 64),
    st.floats(1e-3, 10),
    st.integers(0, 100),
)
def test_grids_keep_their_pixel_size_to_the_last_bit(x: int, width: int, downsample: float, um: float, z: int) -> None:
    region = Region(x=x, y=-x - 1, width=width, height=width, z=z, t=z)
    grid = PixelGrid.at_downsample(region, downsample=downsample, full_pixel_size_um=um)
    assert requests.grid_from_proto(convert.grid_to_proto(grid)) == grid


def test_a_grid_from_the_image_pixel_size_is_that_of_a_file() -> None:
    region = Region(x=3, y=4, width=1001, height=703)
    grid = PixelGrid.at_downsample(region, downsample=2.004, full_pixel_size_um=0.2499)
    message = convert.grid_to_proto(grid)
    message.image_pixel_size_um = 0.2499
    assert message.WhichOneof("pixel_size") == "image_pixel_size_um"
    assert requests.grid_from_proto(message) == grid


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_colours_round_trip(red: int, green: int, blue: int) -> None:
    item = ConceptClass(concept=3, name="Stroma — fein", colour=(red, green, blue))
    assert convert.class_from_proto(convert.class_to_proto(item)) == item


def test_dictionaries_round_trip() -> None:
    dictionary = find_dictionary(encoder="default", name=None, k=16)
    again = requests.dictionary_from_bytes(convert.dictionary_to_bytes(dictionary))
    np.testing.assert_array_equal(again.concepts, dictionary.concepts)
    assert (again.identifier, again.encoder, again.pixel_size_um) == (
        dictionary.identifier,
        dictionary.encoder,
        dictionary.pixel_size_um,
    )
    assert again.classes == dictionary.classes
    assert dict(again.provenance) == dict(dictionary.provenance)


def test_encoders_say_what_a_client_needs() -> None:
    spec = next(spec for spec in known_encoders() if spec.identifier == "uni")
    message = convert.encoder_to_proto(spec, loaded=True)
    assert (message.identifier, message.gated, message.window_px, message.halo_px) == ("uni", True, 224, 16)


@pytest.mark.parametrize("n_concepts", [2, 255, 300])
def test_results_round_trip_exactly(make_result: Callable[..., SegmentationResult], n_concepts: int) -> None:
    rng = np.random.default_rng(n_concepts)
    outlines = [(i % n_concepts, box(i, 0, i + 1 / 3, 1e6 + 1 / 7)) for i in range(2500)]
    classes = [ConceptClass(concept=i, name=f"Class {i}", colour=(i % 256, 2, 3)) for i in range(n_concepts)]
    grid = PixelGrid(
        region=Region(x=-5, y=7, width=900, height=2100, z=2, t=1), width=700, height=2000, pixel_size_um=1 / 3
    )
    labels = rng.integers(0, n_concepts + 1, (2000, 700)).astype(label_dtype(n_concepts))
    result = make_result(
        outlines,
        classes=classes,
        measurements={"Area µm^2": 1 / 3, "Concept purity": math.nan},
        label_map=LabelMap(labels=labels, grid=grid, n_concepts=n_concepts),
        relative_residual=math.nan,
    )
    events = list(convert.result_to_events(result, want_label_map=True))
    again = convert.result_from_events(events)
    np.testing.assert_array_equal(again.label_map.labels, labels)
    assert again.label_map.labels.dtype == labels.dtype
    assert again.label_map.grid == grid
    assert again.polygons[-1].polygon.equals_exact(result.polygons[-1].polygon, 0)
    assert [list(p.measurements) for p in again.polygons] == [list(p.measurements) for p in result.polygons]
    assert again.concepts == result.concepts
    assert list(again.seconds.items()) == list(result.seconds.items())
    assert math.isnan(again.relative_residual)
    assert (again.run_id, again.image, again.encoder, again.dictionary, again.method) == (
        result.run_id,
        result.image,
        result.encoder,
        result.dictionary,
        result.method,
    )
    assert max(event.ByteSize() for event in events) < 4 << 20, "more than clients accept by default"


def test_an_incomplete_result_is_noticed(make_result: Callable[..., SegmentationResult]) -> None:
    events = list(convert.result_to_events(make_result(), want_label_map=True))
    for missing in range(len(events)):
        with pytest.raises(ServerError):
            convert.result_from_events(events[:missing] + events[missing + 1 :])
