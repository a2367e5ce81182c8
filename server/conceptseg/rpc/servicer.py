"""The calls of the service: a few lines each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import grpc

from conceptseg import __version__
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DictionaryError, InvalidRequestError
from conceptseg.domain.progress import Progress
from conceptseg.domain.region import PixelGrid
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.registry import known_encoders
from conceptseg.encoders.shared import DeviceQueue, SharedEncoder
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import PixelSource, choose_downsample, open_region
from conceptseg.pipeline.batch import AnnotateProject, Outcome
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.segment import segment
from conceptseg.rpc import convert, projects, requests
from conceptseg.rpc.calls import Call, Calls
from conceptseg.rpc.canvas import make_canvas
from conceptseg.rpc.encoders import EncoderStore
from conceptseg.rpc.fitting import fit_dictionaries
from conceptseg.rpc.inbox import Inbox
from conceptseg.rpc.limits import Limits
from conceptseg.rpc.machine import describe_machine
from conceptseg.rpc.outbox import Outbox
from conceptseg.rpc.paths import AllowedRoots
from conceptseg.rpc.plan import cut_to_image, needed_window, region_of, rows_to_hold, tiles_to_send
from conceptseg.v1 import catalogue_pb2, fit_pb2, project_pb2, segment_pb2, service_pb2_grpc

PROTOCOL_REVISION = 5
"""Grows by one with every addition to the protocol."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What the calls share.

    Attributes:
        calls: Runs them.
        encoders: Encoders in memory.
        device: The queue in front of the device.
        roots: Files that may be read.
        limits: What one call may ask.
        annotate: Writes projects.
    """

    calls: Calls
    encoders: EncoderStore
    device: DeviceQueue
    roots: AllowedRoots
    limits: Limits
    annotate: AnnotateProject

    def encoder(self, name: str, call: Call) -> Encoder:
        """The encoder, shared with the other calls."""
        call.report(Progress(stage="load", done=0, total=1))
        encoder = self.encoders.get(name, cancelled=call.cancelled)
        return SharedEncoder(encoder, self.device, cancelled=call.cancelled)


class Servicer(service_pb2_grpc.SegmentationServiceServicer):
    """Implements conceptseg.v1.SegmentationService."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._started = time.monotonic()

    def GetServerInfo(  # noqa: N802
        self, _request: catalogue_pb2.GetServerInfoRequest, _context: grpc.ServicerContext
    ) -> catalogue_pb2.GetServerInfoResponse:
        """What the server is."""
        engine, limits = self._engine, self._engine.limits
        running, waiting = engine.calls.admission.counts
        return catalogue_pb2.GetServerInfoResponse(
            name="conceptseg",
            version=__version__,
            protocol_revision=PROTOCOL_REVISION,
            running_calls=running,
            waiting_calls=waiting,
            loaded_encoders=engine.encoders.loaded,
            reads_files=bool(engine.roots.roots),
            limits=catalogue_pb2.ServerLimits(
                message_bytes=limits.message_bytes,
                sent_region_px=limits.sent_region_px,
                read_region_px=limits.read_region_px,
                tiles=limits.tiles,
                call_seconds=limits.call_seconds,
                stall_seconds=limits.stall_seconds,
                running_calls=limits.running_calls,
                waiting_calls=limits.waiting_calls,
                calls_per_client=limits.calls_per_client,
                least_px_per_second=limits.least_px_per_second,
            ),
            uptime_seconds=time.monotonic() - self._started,
            **describe_machine(engine.encoders.device),
        )

    def ListEncoders(  # noqa: N802
        self, _request: catalogue_pb2.ListEncodersRequest, _context: grpc.ServicerContext
    ) -> catalogue_pb2.ListEncodersResponse:
        """The encoders known by name."""
        loaded = self._engine.encoders.loaded
        return catalogue_pb2.ListEncodersResponse(
            encoders=[convert.encoder_to_proto(spec, loaded=spec.identifier in loaded) for spec in known_encoders()]
        )

    def ListDictionaries(  # noqa: N802
        self, request: catalogue_pb2.ListDictionariesRequest, _context: grpc.ServicerContext
    ) -> catalogue_pb2.ListDictionariesResponse:
        """The dictionaries known by name."""
        response = catalogue_pb2.ListDictionariesResponse()
        for name, path in sorted(dictionary_paths().items()):
            try:
                dictionary = load_dictionary(path)
            except DictionaryError as error:
                _log.warning("%s", error)
                continue
            if request.encoder in ("", dictionary.encoder):
                response.dictionaries.append(convert.dictionary_to_proto(name, dictionary))
        return response

    def PlanRegion(  # noqa: N802
        self, request: catalogue_pb2.PlanRegionRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.PlanRegionResponse:
        """Which pixels to send for a region."""
        engine = self._engine
        options = requests.options_from_proto(request.options, limits=engine.limits)
        call = Call(context, limits=engine.limits)
        encoder = engine.encoder(options.encoder, call)
        if request.HasField("grid"):
            grid = requests.grid_from_proto(request.grid)
            downsample = 0.5 * (grid.scale_x + grid.scale_y)
        else:
            grid, downsample = _choose_grid(request, _pixel_size_um(options.dictionary, encoder))
        requests.require_plausible(grid, encoder.spec)
        window = needed_window(grid, encoder, tile_px=options.settings.tile_px)
        rows = rows_to_hold(grid, encoder, tile_px=options.settings.tile_px)
        engine.limits.require_sent_px(window, rows_held=rows)
        if request.image_width > 0 and request.image_height > 0:
            window = cut_to_image(window, grid, image_width=request.image_width, image_height=request.image_height)
        return catalogue_pb2.PlanRegionResponse(
            grid=convert.grid_to_proto(grid),
            downsample=downsample,
            window=convert.rect_to_proto(window),
            tiles=[
                catalogue_pb2.PlannedTile(
                    rect=convert.rect_to_proto(tile), region=convert.region_to_proto(region_of(tile, grid))
                )
                for tile in tiles_to_send(window)
            ],
        )

    def SegmentPixels(  # noqa: N802
        self, request_iterator: Iterator[segment_pb2.SegmentPixelsRequest], context: grpc.ServicerContext
    ) -> Iterator[segment_pb2.SegmentEvent]:
        """Segment pixels that the client sends."""
        engine = self._engine

        def work(call: Call) -> tuple[SegmentationResult, bool]:
            inbox: Inbox[segment_pb2.SegmentPixelsRequest] = call.messages()
            first = inbox.next()
            if first is None or first.WhichOneof("content") != "header":
                raise InvalidRequestError("Expected a header as the first message, then tiles.")
            options = requests.options_from_proto(first.header.options, limits=engine.limits)
            region = requests.sent_region_from_proto(first.header.pixels)
            encoder = engine.encoder(options.encoder, call)
            canvas = make_canvas(
                region,
                encoder=encoder,
                settings=options.settings,
                limits=engine.limits,
                next_tile=lambda: _next_tile(inbox),
            )
            result = _segment(canvas, options, encoder, call)
            canvas.complete(until_end=True)
            return result, options.want_label_map

        yield from self._segment_events(context, work, messages=request_iterator)

    def SegmentRegion(  # noqa: N802
        self, request: segment_pb2.SegmentRegionRequest, context: grpc.ServicerContext
    ) -> Iterator[segment_pb2.SegmentEvent]:
        """Segment a region of a file."""
        engine = self._engine
        options = requests.options_from_proto(request.options, limits=engine.limits)
        path = engine.roots.resolve(request.path)

        def work(call: Call) -> tuple[SegmentationResult, bool]:
            encoder = engine.encoder(options.encoder, call)
            with open_image(path, series=request.series if request.HasField("series") else None) as reader:
                requests.require_size(reader, request)
                source = open_region(
                    reader,
                    region=requests.region_from_proto(request.region) if request.HasField("region") else None,
                    pixel_size_um=_pixel_size_um(options.dictionary, encoder),
                    image_pixel_size_um=(
                        request.image_pixel_size_um if request.HasField("image_pixel_size_um") else None
                    ),
                )
                requests.require_plausible(source.grid, encoder.spec)
                engine.limits.require_read_px(source.grid)
                return _segment(source, options, encoder, call), options.want_label_map

        yield from self._segment_events(context, work)

    def FitConcepts(  # noqa: N802
        self, request_iterator: Iterator[fit_pb2.FitConceptsRequest], context: grpc.ServicerContext
    ) -> Iterator[fit_pb2.FitEvent]:
        """Learn dictionaries from regions."""
        engine = self._engine

        def work(call: Call) -> list[fit_pb2.FittedDictionary]:
            return fit_dictionaries(
                call.messages(),
                load=lambda name: engine.encoder(name, call),
                roots=engine.roots,
                limits=engine.limits,
                progress=call.report,
                cancelled=call.cancelled,
            )

        yield from engine.calls.events(
            context,
            work,
            progress_event=lambda progress: fit_pb2.FitEvent(progress=progress),
            result_events=lambda fitted: (fit_pb2.FitEvent(dictionary=item) for item in fitted),
            messages=request_iterator,
            pixels=_pixels,
        )

    def AnnotateProject(  # noqa: N802
        self, request: project_pb2.AnnotateProjectRequest, context: grpc.ServicerContext
    ) -> Iterator[project_pb2.AnnotateProjectEvent]:
        """Segment the images of a project and write the results into it."""
        engine, outbox = self._engine, Outbox()
        wanted = projects.wish_from_proto(request, roots=engine.roots, limits=engine.limits)

        def work(call: Call) -> tuple[Outcome, ...]:
            return projects.annotate(
                wanted,
                annotate=engine.annotate,
                encoder=engine.encoder(wanted.encoder, call),
                limits=engine.limits,
                tell=outbox.put,
                report=call.report,
                cancelled=call.cancelled,
            )

        yield from engine.calls.events(
            context,
            work,
            progress_event=lambda progress: project_pb2.AnnotateProjectEvent(progress=progress),
            result_events=lambda outcomes: iter([convert.run_summary_to_proto(outcomes)]),
            told=outbox.take,
        )

    def _segment_events(
        self,
        context: grpc.ServicerContext,
        work: Callable[[Call], tuple[SegmentationResult, bool]],
        *,
        messages: Iterator[segment_pb2.SegmentPixelsRequest] | None = None,
    ) -> Iterator[segment_pb2.SegmentEvent]:
        return self._engine.calls.events(
            context,
            work,
            progress_event=lambda progress: segment_pb2.SegmentEvent(progress=progress),
            result_events=lambda done: convert.result_to_events(done[0], want_label_map=done[1]),
            messages=messages,
            pixels=_pixels,
        )


def _segment(source: PixelSource, options: requests.Options, encoder: Encoder, call: Call) -> SegmentationResult:
    result = segment(
        source,
        encoder=encoder,
        dictionary=options.dictionary,
        settings=options.settings,
        clip=options.clip,
        progress=call.report,
        cancelled=call.cancelled,
    )
    return replace(result, run_id=options.run_id)


def _pixel_size_um(dictionary: ConceptDictionary | None, encoder: Encoder) -> float:
    """What the region is analysed at: concepts only fit features of the pixel size they were learned at."""
    return dictionary.pixel_size_um if dictionary is not None else encoder.spec.pixel_size_um


def _choose_grid(request: catalogue_pb2.PlanRegionRequest, pixel_size_um: float) -> tuple[PixelGrid, float]:
    """The grid of a region by the same rule as for a file, and its downsample."""
    if not request.HasField("image_pixel_size_um"):
        raise requests.missing_pixel_size()
    region = requests.region_from_proto(request.region)
    if request.image_width > 0 and request.image_height > 0:
        region.require_inside(request.image_width, request.image_height, of="the image")
    full = request.image_pixel_size_um
    downsample = choose_downsample("The image", pixel_size_um=pixel_size_um, full_pixel_size_um=full)
    return PixelGrid.at_downsample(region, downsample=downsample, full_pixel_size_um=full), downsample


def _pixels(message: segment_pb2.SegmentPixelsRequest | fit_pb2.FitConceptsRequest) -> int:
    """Output px that a message brings, by its own account."""
    return message.tile.rect.width * message.tile.rect.height if message.WhichOneof("content") == "tile" else 0


def _next_tile(inbox: Inbox[segment_pb2.SegmentPixelsRequest]) -> segment_pb2.PixelTile | None:
    message = inbox.next()
    if message is None:
        return None
    if message.WhichOneof("content") != "tile":
        raise InvalidRequestError("Expected tiles after the header, got another header or an empty message.")
    return message.tile
