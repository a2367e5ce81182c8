"""What a real server process answers over a real channel."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
import shapely
import tifffile
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.rpc.conftest import tissue_pixels

from conceptseg import __version__
from conceptseg.domain.errors import (
    CancelledByCallerError,
    DictionaryError,
    EncoderError,
    ImageError,
    InvalidRequestError,
    MissingPixelSizeError,
    RegionError,
)
from conceptseg.domain.progress import Progress
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import RegionSource, open_region
from conceptseg.pipeline.fit import fit_concepts
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.qupath.geojson import feature_collection
from conceptseg.rpc import convert
from conceptseg.rpc.client import Client
from conceptseg.rpc.errors import (
    AuthenticationError,
    BusyError,
    CallTimeError,
    DictionaryExistsError,
    LimitError,
    PathNotAllowedError,
)
from conceptseg.rpc.plan import tiles_to_send
from conceptseg.v1 import catalogue_pb2, common_pb2, fit_pb2, segment_pb2, service_pb2_grpc

MakeSource = Callable[..., RegionSource]
CLIP = shapely.Point(150, 140).buffer(120)


def geojson(result: SegmentationResult) -> bytes:
    return b"".join(feature_collection(replace(result, run_id="run")))


def local(source: RegionSource, encoder: Encoder, **others: Any) -> SegmentationResult:
    learned = others.get("settings", SegmentSettings()).method == "learned"
    dictionary = None if learned else find_dictionary(encoder="default", name=None, k=None)
    return segment(source, encoder=encoder, dictionary=dictionary, **others)


def pixel_messages(
    source: RegionSource,
    window: common_pb2.OutputRect,
    *,
    order: Callable[[list], object] = lambda tiles: None,
    tile_px: int | None = None,
) -> Iterator[segment_pb2.SegmentPixelsRequest]:
    pixels = segment_pb2.PixelsHeader(image_name="picture", grid=convert.grid_to_proto(source.grid), window=window)
    options = common_pb2.SegmentOptions(run_id="run", want_label_map=True, settings={"tile_px": tile_px})
    yield segment_pb2.SegmentPixelsRequest(header=segment_pb2.SegmentPixelsHeader(pixels=pixels, options=options))
    tiles = [
        small
        for large in tiles_to_send(convert.rect_from_proto(window))
        for small in (
            replace(large, width=large.width // 2),
            replace(large, x=large.x + large.width // 2, width=large.width - large.width // 2),
        )
    ]
    order(tiles)
    for tile in tiles:
        data = source.read(x=tile.x, y=tile.y, width=tile.width, height=tile.height).tobytes()
        yield segment_pb2.SegmentPixelsRequest(
            tile=segment_pb2.PixelTile(
                rect=convert.rect_to_proto(tile), encoding=segment_pb2.PIXEL_ENCODING_RAW_RGB, data=data
            )
        )


class TestAnswers:
    def test_it_says_what_it_is(self, client: Client) -> None:
        info = client.info()
        assert (info.name, info.version, info.device) == ("conceptseg", __version__, "cpu")
        assert info.protocol_revision >= 1
        assert info.reads_files
        assert info.device_memory_total_bytes > info.device_memory_free_bytes > 0
        assert info.limits.running_calls == 4

    def test_it_lists_encoders_and_dictionaries(self, client: Client) -> None:
        encoders = {item.identifier: item for item in client.list_encoders()}
        assert encoders["default"].stride_px == 16
        assert encoders["uni"].gated
        names = [item.name for item in client.list_dictionaries("default")]
        assert "default-k16" in names
        assert client.list_dictionaries("no-such-encoder") == []

    def test_health_is_serving(self, server: Any) -> None:
        with grpc.insecure_channel(server.endpoint) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", "conceptseg.v1.SegmentationService"):
                answer = health.Check(
                    health_pb2.HealthCheckRequest(service=service), metadata=server.metadata, timeout=10
                )
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

    def test_a_stock_tool_can_list_and_call_it_by_reflection(self, server: Any) -> None:
        with grpc.insecure_channel(server.endpoint) as plain:
            channel = grpc.intercept_channel(plain, _WithToken(server.metadata))
            database = ProtoReflectionDescriptorDatabase(channel)
            assert "conceptseg.v1.SegmentationService" in database.get_services()
            service = DescriptorPool(database).FindServiceByName("conceptseg.v1.SegmentationService")
            method = service.methods_by_name["GetServerInfo"]
            call = channel.unary_unary(
                f"/{service.full_name}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )
            answer = call(message_factory.GetMessageClass(method.input_type)(), timeout=10)
            assert answer.name == "conceptseg"

    def test_it_plans_what_qupath_should_read(self, client: Client) -> None:
        plan = client.plan(
            catalogue_pb2.PlanRegionRequest(
                region={"x": 1000, "y": 0, "width": 5001, "height": 3000},
                image_width=6001,
                image_height=9000,
                image_pixel_size_um=0.2501,
            )
        )
        assert plan.downsample == 2.0
        assert (plan.grid.width, plan.grid.height) == (2501, 1500)
        window = plan.window
        assert (window.x, window.y) == (-96, 0)  # the halo; nothing above the image
        assert window.x + window.width == plan.grid.width  # the image ends there
        assert window.y + window.height > plan.grid.height + 96
        assert sum(tile.rect.width * tile.rect.height for tile in plan.tiles) == window.width * window.height
        first = plan.tiles[0].region
        assert (first.x, first.y, first.width, first.height) == (808, 0, 2048, 2048)
        assert all(tile.region.x + tile.region.width <= 6001 + 1 for tile in plan.tiles)


class TestResultsAreThoseOfTheLocalRun:
    @pytest.mark.parametrize(
        "others",
        [
            {},
            {"clip": CLIP},
            {"settings": SegmentSettings(method="learned", n_concepts=4, seed=3)},
            {"settings": SegmentSettings(method="matched", n_concepts=4)},
            {"settings": SegmentSettings(method="nearest", whole_region=True, tolerance_px=0, tile_px=96)},
        ],
        ids=["plain", "clip", "learned", "matched", "nearest"],
    )
    def test_with_pixels_sent(
        self, client: Client, encoder: Encoder, make_source: MakeSource, others: dict[str, Any]
    ) -> None:
        source = make_source()
        expected = local(source, encoder, **others)
        result = client.segment(source, run_id="run", **others)
        assert expected.polygons
        assert geojson(result) == geojson(expected)
        assert result.run_id == "run"
        np.testing.assert_array_equal(result.label_map.labels, expected.label_map.labels)
        assert result.label_map.grid == expected.label_map.grid
        np.testing.assert_equal(result.relative_residual, expected.relative_residual)
        assert result.concepts == expected.concepts
        assert result.method == expected.method

    def test_with_the_file_read_by_the_server(self, client: Client, encoder: Encoder, slides: Path) -> None:
        path, region = slides / "picture.png", Region(x=50, y=40, width=401, height=377)
        with open_image(path) as reader:
            source = open_region(reader, region=region, pixel_size_um=0.5, image_pixel_size_um=0.25)
            expected = geojson(local(source, encoder, clip=CLIP))
            sent = client.segment(source, clip=CLIP)
        read = client.segment_file(path, region=region, image_pixel_size_um=0.25, clip=CLIP)
        assert geojson(sent) == geojson(read) == expected

    def test_with_the_plane_and_the_image_of_the_file_that_were_asked_for(
        self, client: Client, encoder: Encoder, slides: Path
    ) -> None:
        images = [np.stack([tissue_pixels(130, 150, seed=4 * n + z) for z in range(3)]) for n in range(2)]
        path = slides / "stacks.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as file:
            for slices in images:
                file.write(slices, photometric="rgb", metadata={"axes": "ZYXS"})
        size = {"width": 150, "height": 130}
        for asked, (image, z) in {
            (): (0, 1),
            (("region", Region(x=0, y=0, **size, z=2)),): (0, 2),
            (("series", 1),): (1, 1),
            (("series", 1), ("region", Region(x=0, y=0, **size))): (1, 0),
        }.items():
            reader = ArrayReader(images[image][z], name=path.name, pixel_size_um=0.5)
            expected = local(open_region(reader, region=None, pixel_size_um=0.5), encoder)
            read = client.segment_file(path, image_pixel_size_um=0.5, **dict(asked))
            assert read.label_map.grid.region == Region(x=0, y=0, **size, z=z)
            np.testing.assert_array_equal(read.label_map.labels, expected.label_map.labels)
        with pytest.raises(ImageError, match=r"has no image 2\. It holds"):
            client.segment_file(path, image_pixel_size_um=0.5, series=2)
        with pytest.raises(RegionError, match="has no plane z=3"):
            client.segment_file(path, image_pixel_size_um=0.5, region=Region(x=0, y=0, **size, z=3))

    def test_with_regions_of_files_to_learn_from(self, server: Any, slides: Path) -> None:
        path = slides / "learned.ome.tif"
        glass = np.full((130, 150, 3), 255, np.uint8)
        with tifffile.TiffWriter(path, ome=True) as file:
            file.write(glass, photometric="rgb", metadata={"axes": "YXS"})
            file.write(np.stack([glass, glass, tissue_pixels(130, 150)]), photometric="rgb", metadata={"axes": "ZYXS"})

        def learn(**file: Any) -> list[fit_pb2.FitEvent]:
            messages = [
                fit_pb2.FitConceptsRequest(header={"ks": [2], "region_count": 1}),
                fit_pb2.FitConceptsRequest(file={"path": str(path), "image_pixel_size_um": 0.5, **file}),
            ]
            with server.stub() as stub:
                return list(stub.FitConcepts(iter(messages), metadata=server.metadata, timeout=60))

        region = {"width": 150, "height": 130, "z": 2}
        assert len(learn(series=1, region=region)[-1].dictionary.info.classes) == 2
        with pytest.raises(grpc.RpcError, match="tissue"):
            learn(series=1)
        with pytest.raises(grpc.RpcError, match="tissue"):
            learn()

    @pytest.mark.parametrize("settings", [{}, {"glass_colour": (230, 215, 228), "tissue_strictness": 0.5}])
    def test_on_tinted_glass_of_which_only_the_whole_slide_knows(
        self, client: Client, encoder: Encoder, settings: dict[str, Any]
    ) -> None:
        slide = np.full((1200, 1100, 3), 0, np.uint8)
        slide[:] = np.random.default_rng(0).normal((238, 222, 236), 0.8, slide.shape).round()
        slide[300:700, 300:700] = np.random.default_rng(1).integers(90, 200, (400, 400, 3))
        reader = ArrayReader(slide, name="tinted", pixel_size_um=0.5)
        source = open_region(reader, region=Region(x=500, y=400, width=401, height=500), pixel_size_um=0.5)
        chosen = SegmentSettings(**settings)
        expected = local(source, encoder, settings=chosen)
        result = client.segment(source, settings=chosen)
        assert geojson(result) == geojson(expected)
        assert result.remarks == expected.remarks
        assert bool(expected.remarks) is not bool(settings)
        labelled = (expected.label_map.labels > 0).mean()
        assert labelled == pytest.approx(0.5 * 0.6, abs=0.03)  # what the slide's corner of tissue covers

    def test_with_tiles_in_any_order(
        self, server: Any, client: Client, encoder: Encoder, make_source: MakeSource
    ) -> None:
        source = make_source(1300, 600)
        window = client.plan(catalogue_pb2.PlanRegionRequest(grid=convert.grid_to_proto(source.grid))).window
        expected = geojson(local(source, encoder))
        with server.stub() as stub:
            for order in (list.reverse, random.Random(0).shuffle):
                events = stub.SegmentPixels(pixel_messages(source, window, order=order), metadata=server.metadata)
                assert geojson(convert.result_from_events(events)) == expected

    def test_with_a_dictionary_that_only_the_client_has(
        self, client: Client, encoder: Encoder, make_source: MakeSource
    ) -> None:
        source = make_source()
        dictionary = replace(find_dictionary(encoder="default", name=None, k=8), identifier="my-own")
        expected = segment(source, encoder=encoder, dictionary=dictionary)
        result = client.segment(source, dictionary=dictionary)
        assert geojson(result) == geojson(expected)
        assert result.dictionary == "my-own"
        assert client.segment(source, dictionary=8).dictionary == "default-k8"
        assert client.segment(source, dictionary="default-k32").dictionary == "default-k32"

    def test_when_fitting(self, client: Client, encoder: Encoder, make_source: MakeSource) -> None:
        sources = [make_source(seed=1), make_source(200, 330, seed=2)]
        expected = fit_concepts(sources, encoder=encoder, ks=[3, 5], seed=7, provenance={"by": "test"}, total=2)
        stages: list[Progress] = []
        fitted = client.fit(sources, ks=[3, 5], seed=7, provenance={"by": "test"}, progress=stages.append)
        for ours, theirs in zip(fitted, expected, strict=True):
            np.testing.assert_array_equal(ours.concepts, theirs.concepts)
            assert dict(ours.provenance) == dict(theirs.provenance)

    def test_for_eight_clients_at_once(self, server: Any, encoder: Encoder, make_source: MakeSource) -> None:
        sources = [make_source(220, 240 + 16 * seed, seed=seed) for seed in range(4)]
        expected = [geojson(local(source, encoder)) for source in sources]

        def four_requests(number: int) -> list[bool]:
            with server.client() as client:
                order = [(number + i) % 4 for i in range(4)]
                return [geojson(client.segment(sources[i])) == expected[i] for i in order]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(four_requests, range(8)))
        assert answers == [[True] * 4] * 8


class TestFittedDictionaries:
    def test_can_be_kept_and_used_by_name(self, client: Client, make_source: MakeSource) -> None:
        source = make_source()
        fitted = client.fit([source], ks=[4], name="mine", save=True)
        assert fitted[0].identifier == "mine-k4"
        assert "mine-k4" in [item.name for item in client.list_dictionaries()]
        assert client.segment(source, dictionary="mine-k4").dictionary == "mine-k4"
        with pytest.raises(DictionaryExistsError, match="already"):
            client.fit([source], ks=[4], name="mine", save=True)
        client.fit([source], ks=[4], name="mine", save=True, overwrite=True)

    @pytest.mark.parametrize("name", ["../mine", "a/b", ".hidden", "x" * 70, "nul\0", "a b", ""])
    def test_names_cannot_leave_the_folder(self, client: Client, make_source: MakeSource, name: str) -> None:
        with pytest.raises(InvalidRequestError):
            client.fit([make_source()], ks=[2], name=name, save=True)

    def test_need_enough_tissue(self, client: Client, make_source: MakeSource) -> None:
        with pytest.raises(InvalidRequestError):
            client.fit([make_source(40, 40)], ks=[1024])


class TestProgress:
    def test_arrives_while_the_work_goes_on(self, server: Any, client: Client, make_source: MakeSource) -> None:
        source = make_source(2200, 1200)
        window = client.plan(catalogue_pb2.PlanRegionRequest(grid=convert.grid_to_proto(source.grid))).window
        arrivals, stages = [time.monotonic()], []
        with server.stub() as stub:
            for event in stub.SegmentPixels(pixel_messages(source, window, tile_px=1024), metadata=server.metadata):
                if event.WhichOneof("event") == "progress":
                    stages.append(event.progress)
                    arrivals.append(time.monotonic())
        assert "encode" in {item.stage for item in stages}
        assert max(np.diff(arrivals)) < 5  # one second, and patience with a busy test machine
        told = [item for item in stages if item.stage == "encode" and item.done]
        assert told[0].total == 6
        assert told[0].seconds_left > 0
        assert "of 6" in told[0].message


class TestErrorsAreToldApart:
    def test_token(self, server: Any, make_source: MakeSource) -> None:
        for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", f"bearer {server.token}"),)):
            with grpc.insecure_channel(server.endpoint) as channel:
                stub = service_pb2_grpc.SegmentationServiceStub(channel)
                health = health_pb2_grpc.HealthStub(channel)
                for call in (
                    lambda m=metadata, s=stub: s.GetServerInfo(catalogue_pb2.GetServerInfoRequest(), metadata=m),
                    lambda m=metadata, s=stub: list(s.SegmentRegion(segment_pb2.SegmentRegionRequest(), metadata=m)),
                    lambda m=metadata, s=stub: list(s.SegmentPixels(iter([]), metadata=m)),
                    lambda m=metadata, h=health: h.Check(health_pb2.HealthCheckRequest(), metadata=m),
                ):
                    with pytest.raises(grpc.RpcError) as caught:
                        call()
                    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
                    assert "authorization" in caught.value.details()
                channel_with_token = grpc.intercept_channel(channel, _WithToken(metadata))
                with pytest.raises(grpc.RpcError):
                    ProtoReflectionDescriptorDatabase(channel_with_token).get_services()
        with (
            Client(server.endpoint, "wrong") as stranger,
            pytest.raises(AuthenticationError, match="leave out --token"),
        ):
            stranger.segment(make_source())

    def test_request_ids_lead_to_the_log(self, server: Any) -> None:
        request = segment_pb2.SegmentRegionRequest(path="relative.svs")
        with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
            list(stub.SegmentRegion(request, metadata=(*server.metadata, ("x-request-id", "find-me-1"))))
        trailing = dict(caught.value.trailing_metadata())
        assert trailing["conceptseg-request-id"] == "find-me-1"
        assert trailing["conceptseg-error"] == "InvalidRequestError"
        time.sleep(0.2)
        lines = [line for line in server.log.read_text().splitlines() if "find-me-1" in line]
        assert any('"status": "INVALID_ARGUMENT"' in line for line in lines)

    def test_encoders_dictionaries_settings(self, client: Client, make_source: MakeSource) -> None:
        source = make_source(64, 64)
        with pytest.raises(EncoderError, match="no-such-encoder"):
            client.segment(source, encoder="no-such-encoder", settings=SegmentSettings(method="learned"))
        with pytest.raises(DictionaryError, match="default-k16"):
            client.segment(source, dictionary="no-such-dictionary")
        with pytest.raises(DictionaryError):
            client.segment(source, dictionary="/etc/passwd")
        with pytest.raises(DictionaryError):
            client.segment(source, dictionary=17)
        with pytest.raises(LimitError, match="tolerance"):
            client.segment(source, settings=SegmentSettings(tolerance_px=1000))
        with pytest.raises(LimitError, match="tile_px"):
            client.segment(source, settings=SegmentSettings(tile_px=100_000))
        bow_tie = shapely.Polygon([(0, 0), (60, 60), (60, 0), (0, 60)])
        with pytest.raises(InvalidRequestError, match="not valid"):
            client.segment(source, clip=bow_tie)

    def test_pixel_sizes(self, client: Client, slides: Path) -> None:
        with pytest.raises(MissingPixelSizeError):
            client.segment_file(slides / "picture.png")
        for size in (0.0, -0.5, float("nan"), float("inf")):
            with pytest.raises(InvalidRequestError):
                client.segment_file(slides / "picture.png", image_pixel_size_um=size)

    def test_regions(self, client: Client, slides: Path) -> None:
        with pytest.raises(RegionError, match="600 × 700"):
            client.segment_file(
                slides / "picture.png", region=Region(x=1, y=0, width=600, height=1), image_pixel_size_um=0.5
            )

    def test_a_file_of_another_size_than_the_client_sees(self, server: Any, slides: Path) -> None:
        request = segment_pb2.SegmentRegionRequest(path=str(slides / "picture.png"), image_pixel_size_um=0.5)
        for size in ({"image_width": 601}, {"image_width": 600, "image_height": 600}):
            request.MergeFrom(segment_pb2.SegmentRegionRequest(**size))
            with server.stub() as stub, pytest.raises(grpc.RpcError, match="600 × 700 px on the server"):
                list(stub.SegmentRegion(request, metadata=server.metadata))

    def test_paths(self, client: Client, slides: Path) -> None:
        secret = slides.parent / "secret.png"
        (slides / "link.png").symlink_to(secret)
        (slides / "loop.png").symlink_to(slides / "loop.png")
        (slides / "null.png").symlink_to("/dev/null")
        (slides / "folder").mkdir()
        for path in (
            secret,
            slides / ".." / "secret.png",
            slides / "link.png",
            slides / "loop.png",
            slides / "null.png",
            Path("/dev/zero"),
            Path("/etc/passwd"),
            Path("/no/such/file"),
            slides / ("x" * 5000),
        ):
            with pytest.raises(PathNotAllowedError, match="--root"):
                client.segment_file(path, image_pixel_size_um=0.5)
        for path, says in ((slides / "none.png", "no file"), (slides / "folder", "folder")):
            with pytest.raises(ImageError, match=says):
                client.segment_file(path, image_pixel_size_um=0.5)
        for path in ("picture.png", "", "nul\0", "~/picture.png"):
            with pytest.raises(InvalidRequestError, match="absolute"):
                client.segment_file(path, image_pixel_size_um=0.5)

    def test_images(self, client: Client, slides: Path) -> None:
        (slides / "text.png").write_text("no picture")
        cv2.imwrite(str(slides / "whole.png"), np.zeros((64, 64, 3), np.uint8))
        (slides / "cut.png").write_bytes((slides / "picture.png").read_bytes()[:4000])
        for name in ("text.png", "cut.png"):
            with pytest.raises(ImageError):
                client.segment_file(slides / name, image_pixel_size_um=0.5)

    def test_a_source_that_cannot_be_read_here(self, client: Client, make_source: MakeSource) -> None:
        source = make_source(1500, 100)

        class Damaged:
            name, grid = source.name, source.grid

            def read(self, *, x: int, y: int, width: int, height: int) -> np.ndarray:
                if y > 0:
                    raise ImageError("The file is damaged here.")
                return source.read(x=x, y=y, width=width, height=height)

            def overview(self) -> None:
                return None

        with pytest.raises(ImageError, match="damaged here"):
            client.segment(Damaged())

    def test_no_tissue_is_no_error(self, client: Client) -> None:
        white = np.full((100, 100, 3), 240, np.uint8)

        class White:
            name = "white"
            grid = PixelGrid(region=Region(x=0, y=0, width=100, height=100), width=100, height=100, pixel_size_um=0.5)

            def read(self, *, x: int, y: int, width: int, height: int) -> np.ndarray:
                return np.resize(white, (height, width, 3))

            def overview(self) -> None:
                return None

        result = client.segment(White())
        assert result.polygons == ()
        assert not result.label_map.labels.any()


class TestCancelling:
    def test_stops_the_work_within_a_batch(self, server: Any, client: Client, make_source: MakeSource) -> None:
        source = make_source(4000, 3000)
        server.wait_idle()
        stop = threading.Event()
        seen: list[Progress] = []

        def report(progress: Progress) -> None:
            seen.append(progress)
            if progress.stage == "encode" and progress.done:
                stop.set()

        with pytest.raises(CancelledByCallerError):
            client.segment(source, progress=report, cancelled=stop.is_set)
        assert seen[-1].done < seen[-1].total / 2
        cancelled = time.monotonic()
        server.wait_idle(seconds=10)
        assert time.monotonic() - cancelled < 5

    def test_a_deadline_stops_the_work(self, server: Any, make_source: MakeSource) -> None:
        source = make_source(3000, 3000)
        window = common_pb2.OutputRect(x=0, y=0, width=3000, height=3000)
        with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
            list(stub.SegmentPixels(pixel_messages(source, window), metadata=server.metadata, timeout=0.7))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        server.wait_idle(seconds=10)

    def test_two_hundred_times_leaves_nothing_behind(self, server: Any, make_source: MakeSource) -> None:
        source = make_source(1100, 1000)
        window = common_pb2.OutputRect(x=0, y=0, width=1000, height=1100)
        messages = list(pixel_messages(source, window))
        rng = random.Random(0)

        def cancel_some(count: int) -> None:
            with server.stub() as stub:
                for _ in range(count):
                    # Some have sent all, some stop in the middle, some have only begun; none half-closes.
                    call = stub.SegmentPixels(
                        _then_wait(messages[: rng.randrange(len(messages) + 1)]), metadata=server.metadata
                    )
                    time.sleep(rng.random() * 0.06)
                    call.cancel()
            server.wait_idle()

        cancel_some(40)  # the pools have all their threads after this
        time.sleep(1)
        threads, memory = server.threads(), server.memory_bytes()
        cancel_some(200)
        time.sleep(2)
        assert server.threads() <= threads + 2
        assert server.memory_bytes() < 1.05 * memory + (20 << 20)

    def test_a_hundred_requests_do_not_grow_the_server(
        self, server: Any, client: Client, make_source: MakeSource
    ) -> None:
        source = make_source(130, 120)
        for _ in range(30):
            client.segment(source)
        memory = server.memory_bytes()
        for _ in range(100):
            client.segment(source)
        assert server.memory_bytes() < 1.05 * memory


@pytest.fixture(scope="module")
def strict_server(start_server: Callable[..., Any]) -> Any:
    """One call at a time, one may wait, small regions, little patience, no files."""
    return start_server(
        *("--max-concurrent", "1", "--max-waiting", "1", "--max-sent-megapixels", "0.5"),
        *("--stall-timeout", "2", "--call-timeout", "8", "--min-pixel-rate", "1"),
    )


class TestLimits:
    def test_region_size(self, strict_server: Any, make_source: MakeSource) -> None:
        with strict_server.client() as client, pytest.raises(LimitError, match="--max-sent-megapixels"):
            client.segment(make_source(1000, 1000))

    def test_a_larger_region_streams_through(
        self, start_server: Callable[..., Any], encoder: Encoder, make_source: MakeSource
    ) -> None:
        """Only the rows in work have to fit into the server's memory, not the whole slide."""
        source = make_source(16_000, 40)
        streaming = start_server("--max-sent-megapixels", "2.6")
        with streaming.client() as client:
            window = client.plan(catalogue_pb2.PlanRegionRequest(grid=convert.grid_to_proto(source.grid))).window
            assert window.width * window.height > 3_500_000
            assert geojson(client.segment(source)) == geojson(local(source, encoder))
            with pytest.raises(LimitError, match=r"learns nothing[\s\S]*--max-sent-megapixels"):
                client.segment(source, settings=SegmentSettings(method="learned", n_concepts=4))
            assert client.fit([source], ks=[3])
            with pytest.raises(LimitError, match=r"Choose a smaller region, let the server") as refused:
                client.segment(make_source(16_000, 800))
            assert "learns" not in str(refused.value)  # it does not with this method either

    def test_message_size(self, strict_server: Any) -> None:
        request = segment_pb2.SegmentRegionRequest(path="x" * (33 << 20))
        with strict_server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
            list(stub.SegmentRegion(request, metadata=strict_server.metadata))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    def test_files_without_roots(self, strict_server: Any, slides: Path) -> None:
        with strict_server.client() as client, pytest.raises(PathNotAllowedError, match="--root"):
            client.segment_file(slides / "picture.png", image_pixel_size_um=0.5)

    def test_silent_clients_waiting_clients_and_busy(self, strict_server: Any, make_source: MakeSource) -> None:
        """A client that falls silent is given up; meanwhile the second is told its place, the third to come back."""
        source = make_source(100, 100)
        window = common_pb2.OutputRect(x=0, y=0, width=100, height=100)
        large = pixel_messages(make_source(700, 600), common_pb2.OutputRect(x=0, y=0, width=600, height=700))
        begun = list(itertools.islice(large, 2))  # so many px that it keeps its slot for a while
        first_events: list[Any] = []
        with strict_server.stub() as stub, strict_server.client() as client:
            first = stub.SegmentPixels(_then_wait(begun), metadata=strict_server.metadata)
            while client.info().running_calls == 0:
                time.sleep(0.01)
            second = stub.SegmentPixels(pixel_messages(source, window), metadata=strict_server.metadata)
            while client.info().waiting_calls == 0:
                time.sleep(0.01)
            with pytest.raises(BusyError, match="Try again"):
                client.segment(source)
            with pytest.raises(grpc.RpcError) as caught:
                first_events.extend(first)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert dict(caught.value.trailing_metadata())["conceptseg-error"] == CallTimeError.__name__
            assert "--stall-timeout" in caught.value.details()
            events = list(second)
            queued = [event.progress for event in events if event.progress.queue_position]
            assert {(item.stage, item.queue_position) for item in queued} == {("queued", 1)}
            assert convert.result_from_events(events).run_id == "run"

    def test_wall_time(self, strict_server: Any, make_source: MakeSource) -> None:
        """A client that trickles, so that it is never silent, still has an end."""
        source = make_source(64, 64)
        window = common_pb2.OutputRect(x=0, y=0, width=64, height=64)
        header = next(pixel_messages(source, window))

        def trickle() -> Iterator[segment_pb2.SegmentPixelsRequest]:
            yield header
            for y in range(64):
                time.sleep(0.5)
                yield segment_pb2.SegmentPixelsRequest(
                    tile=segment_pb2.PixelTile(
                        rect={"x": 0, "y": y, "width": 64, "height": 1},
                        encoding=segment_pb2.PIXEL_ENCODING_RAW_RGB,
                        data=bytes(3 * 64),
                    )
                )

        with strict_server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
            list(stub.SegmentPixels(trickle(), metadata=strict_server.metadata))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "--call-timeout" in caught.value.details()


class _WithToken(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = metadata

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with(details), request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(self._with(details), requests)

    def _with(self, details: Any) -> Any:
        return details._replace(metadata=self._metadata)


def _then_wait(messages: Sequence[Any]) -> Iterator[Any]:
    """Sends messages and then neither more nor the end."""
    yield from messages
    threading.Event().wait(60)
