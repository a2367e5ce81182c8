"""The pipeline's functions, done by a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import shapely
from google.protobuf.message import Message
from shapely import MultiPolygon, Polygon

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import CancelledByCallerError
from conceptseg.domain.progress import (
    IsCancelled,
    Progress,
    ReportProgress,
    never_cancelled,
    report_nothing,
    stop_if,
)
from conceptseg.domain.region import Region
from conceptseg.imaging.slide import TissueSettings
from conceptseg.imaging.source import PixelSource
from conceptseg.imaging.tiles import Tile
from conceptseg.pipeline.batch import Outcome, Rerun, Tell, tell_nobody
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.rpc import convert, requests
from conceptseg.rpc.auth import credentials
from conceptseg.rpc.endpoint import Endpoint, read_endpoint
from conceptseg.rpc.errors import ServerUnavailableError, error_of
from conceptseg.rpc.plan import tiles_to_send
from conceptseg.v1 import catalogue_pb2, common_pb2, fit_pb2, project_pb2, segment_pb2, service_pb2_grpc

_Event = TypeVar("_Event", segment_pb2.SegmentEvent, fit_pb2.FitEvent)
_Response = TypeVar("_Response", bound=Message)
_SHORT_CALL_SECONDS = 30.0
_LOADING_SECONDS = 1800.0

DictionaryLike = ConceptDictionary | str | int | None
"""The concepts themselves, the name or the k of one that the server has, or None for the encoder's own."""


class Client:
    """A connection to a server; use it as a context manager, or call `close`."""

    def __init__(self, endpoint: str, token: str, *, tls_certificate: Path | None = None) -> None:
        """Prepare to talk to a server; the first call connects.

        Args:
            endpoint: ``HOST:PORT``.
            token: The server's token.
            tls_certificate: Certificate (PEM) to check the server with; None without TLS.

        Raises:
            ServerUnavailableError: the certificate cannot be read.
        """
        self.endpoint = endpoint
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ]
        if tls_certificate is None:
            self._channel = grpc.insecure_channel(endpoint, options=options)
        else:
            try:
                trusted = grpc.ssl_channel_credentials(tls_certificate.read_bytes())
            except OSError as error:
                raise ServerUnavailableError(f"The certificate {tls_certificate} cannot be read: {error}.") from error
            self._channel = grpc.secure_channel(endpoint, trusted, options=options)
        self._stub = service_pb2_grpc.SegmentationServiceStub(self._channel)
        self._metadata = (credentials(token),)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def info(self) -> catalogue_pb2.GetServerInfoResponse:
        """What the server is."""
        return self._short(self._stub.GetServerInfo, catalogue_pb2.GetServerInfoRequest())

    def list_encoders(self) -> list[catalogue_pb2.EncoderInfo]:
        """The encoders that the server knows by name."""
        return list(self._short(self._stub.ListEncoders, catalogue_pb2.ListEncodersRequest()).encoders)

    def list_dictionaries(self, encoder: str = "") -> list[catalogue_pb2.DictionaryInfo]:
        """The dictionaries that the server has, of one encoder or all."""
        request = catalogue_pb2.ListDictionariesRequest(encoder=encoder)
        return list(self._short(self._stub.ListDictionaries, request).dictionaries)

    def plan(self, request: catalogue_pb2.PlanRegionRequest) -> catalogue_pb2.PlanRegionResponse:
        """Which pixels the server wants for a region; loads the encoder if need be."""
        return self._short(self._stub.PlanRegion, request, seconds=_LOADING_SECONDS)

    def segment(
        self,
        source: PixelSource,
        *,
        encoder: str = "default",
        dictionary: DictionaryLike = None,
        settings: SegmentSettings | None = None,
        clip: Polygon | MultiPolygon | None = None,
        run_id: str = "",
        progress: ReportProgress = report_nothing,
        cancelled: IsCancelled = never_cancelled,
    ) -> SegmentationResult:
        """Segment a region whose pixels are read here and sent; the same as `conceptseg.pipeline.segment.segment`.

        Args:
            source: The region's pixels on its analysis grid.
            encoder: Name of the encoder.
            dictionary: The concepts; ignored by the method ``learned``.
            settings: How; the defaults when None.
            clip: Shape of the parent annotation in full-resolution px; None for the whole region.
            run_id: Identifies the run; the server chooses one when empty.
            progress: Told at least every second.
            cancelled: Asked at least every second, and before every tile is sent.

        Raises:
            ConceptSegError: the errors of the local function, or of the connection.
        """
        options = _options(encoder, dictionary, settings, clip, run_id)
        grid = convert.grid_to_proto(source.grid)
        plan = self.plan(catalogue_pb2.PlanRegionRequest(options=options, grid=grid))
        pixels = _pixels_header(source, grid, plan.window, settings)

        def messages() -> Iterator[segment_pb2.SegmentPixelsRequest]:
            yield segment_pb2.SegmentPixelsRequest(
                header=segment_pb2.SegmentPixelsHeader(pixels=pixels, options=options)
            )
            for tile in _tiles(source, convert.rect_from_proto(plan.window), cancelled):
                yield segment_pb2.SegmentPixelsRequest(tile=tile)

        sender = _Sender(messages())
        events = self._stream(lambda: self._stub.SegmentPixels(sender, metadata=self._metadata), sender, cancelled)
        return convert.result_from_events(_without_progress(events, progress))

    def segment_file(
        self,
        path: Path | str,
        *,
        region: Region | None = None,
        series: int | None = None,
        image_pixel_size_um: float | None = None,
        encoder: str = "default",
        dictionary: DictionaryLike = None,
        settings: SegmentSettings | None = None,
        clip: Polygon | MultiPolygon | None = None,
        run_id: str = "",
        progress: ReportProgress = report_nothing,
        cancelled: IsCancelled = never_cancelled,
    ) -> SegmentationResult:
        """Segment a region of a file that the server reads, under one of its ``--root`` folders.

        Args:
            path: The file as the server sees it.
            region: In full-resolution px; None for the whole image.
            series: Number of the image inside the file; None for the one that QuPath proposes.
            image_pixel_size_um: µm per full-resolution px; None for the file's own.
            encoder: As for `segment`, and so are the others.
            dictionary: See `segment`.
            settings: See `segment`.
            clip: See `segment`.
            run_id: See `segment`.
            progress: See `segment`.
            cancelled: See `segment`.

        Raises:
            ConceptSegError: the errors of the local function, or of the connection.
        """
        request = segment_pb2.SegmentRegionRequest(
            path=str(path),
            region=convert.region_to_proto(region) if region else None,
            series=series,
            image_pixel_size_um=image_pixel_size_um,
            options=_options(encoder, dictionary, settings, clip, run_id),
        )
        events = self._stream(lambda: self._stub.SegmentRegion(request, metadata=self._metadata), None, cancelled)
        return convert.result_from_events(_without_progress(events, progress))

    def fit(
        self,
        sources: Sequence[PixelSource],
        *,
        encoder: str = "default",
        ks: Sequence[int],
        seed: int = 0,
        tokens_per_source: int = 2000,
        provenance: Mapping[str, str] | None = None,
        name: str = "",
        save: bool = False,
        overwrite: bool = False,
        tissue: TissueSettings | None = None,
        progress: ReportProgress = report_nothing,
        cancelled: IsCancelled = never_cancelled,
    ) -> tuple[ConceptDictionary, ...]:
        """Learn one dictionary per k; the same as `conceptseg.pipeline.fit.fit_concepts`.

        Args:
            sources: The regions, whose pixels are read here and sent.
            encoder: Name of the encoder.
            ks: Numbers of concepts.
            seed: Seed of the sampling and of k-means.
            tokens_per_source: At most this many tissue tokens per region.
            provenance: Recorded in every dictionary.
            name: The dictionaries become ``{name}-k{k}``; the encoder's name when empty.
            save: Keep them on the server, too.
            overwrite: Replace those of the same name there.
            tissue: How tissue is told from glass; by what is found in every region's slide when None.
            progress: Told at least every second.
            cancelled: Asked at least every second, and before every tile is sent.

        Raises:
            ConceptSegError: the errors of the local function, or of the connection.
        """
        learned = _options(encoder, None, SegmentSettings(method="learned"), None, "")
        grids = [convert.grid_to_proto(source.grid) for source in sources]
        windows = [self.plan(catalogue_pb2.PlanRegionRequest(options=learned, grid=grid)).window for grid in grids]
        header = fit_pb2.FitConceptsHeader(
            encoder=encoder,
            ks=ks,
            seed=seed,
            tokens_per_region=tokens_per_source,
            region_count=len(sources),
            name=name,
            provenance=dict(provenance or {}),
            save=save,
            overwrite=overwrite,
            glass_colour_rgb=convert.rgb_to_proto(tissue.glass_colour) if tissue and tissue.glass_colour else None,
            tissue_strictness=tissue.strictness if tissue else None,
        )

        def messages() -> Iterator[fit_pb2.FitConceptsRequest]:
            yield fit_pb2.FitConceptsRequest(header=header)
            for source, grid, window in zip(sources, grids, windows, strict=True):
                yield fit_pb2.FitConceptsRequest(pixels=_pixels_header(source, grid, window))
                for tile in _tiles(source, convert.rect_from_proto(window), cancelled):
                    yield fit_pb2.FitConceptsRequest(tile=tile)

        sender = _Sender(messages())
        events = self._stream(lambda: self._stub.FitConcepts(sender, metadata=self._metadata), sender, cancelled)
        return tuple(
            requests.dictionary_from_bytes(event.dictionary.file) for event in _without_progress(events, progress)
        )

    def annotate_project(
        self,
        project: Path | str,
        *,
        images: Sequence[str] = (),
        ids: Sequence[str] = (),
        within: str | None = None,
        rerun: Rerun = "replace",
        resume: bool = False,
        image_pixel_size_um: float | None = None,
        encoder: str = "default",
        dictionary: DictionaryLike = None,
        settings: SegmentSettings | None = None,
        jobs: int = 1,
        z: int | None = None,
        t: int | None = None,
        tell: Tell = tell_nobody,
        cancelled: IsCancelled = never_cancelled,
    ) -> tuple[Outcome, ...]:
        """Segment the images of a QuPath project on the server's computer, and write the results into it.

        Args:
            project: The project.qpproj as the server sees it, under one of its ``--root`` folders like the slides.
            images: Patterns (``*.svs``) of names of images; all images without patterns and ids.
            ids: Numbers of images.
            within: Class of the annotations to stay inside; None for whole images.
            rerun: What becomes of earlier results in the same place.
            resume: Go on with the project's last run.
            image_pixel_size_um: µm per full-resolution px of all images; None to believe QuPath, then the file.
            encoder: Name of the encoder.
            dictionary: The concepts; ignored by the method ``learned``.
            settings: How; the defaults when None.
            jobs: Images in work at once.
            z: The z-slice of whole images; None for the one that QuPath shows first.
            t: The time point of whole images; None likewise.
            tell: Told what happens.
            cancelled: Asked at least every second.

        Returns:
            What became of every image, in order of finishing; a failed one does not stop the others.

        Raises:
            ConceptSegError: the errors of the command, or of the connection; every image is as it was or as it shall
                be.
        """
        request = project_pb2.AnnotateProjectRequest(
            project_path=str(project),
            image_patterns=images,
            image_ids=ids,
            within_class=within or "",
            rerun=rerun,
            resume=resume,
            encoder=encoder,
            dictionary=_choice(dictionary),
            settings=convert.settings_to_proto(settings or SegmentSettings()),
            image_pixel_size_um=image_pixel_size_um,
            images_at_once=jobs,
            z=z,
            t=t,
        )
        outcomes = []
        for message in self._stream(
            lambda: self._stub.AnnotateProject(request, metadata=self._metadata), None, cancelled
        ):
            event = convert.run_event_from_proto(message)
            if event is not None:
                tell(event)
            if isinstance(event, Outcome):
                outcomes.append(event)
        return tuple(outcomes)

    def _short(
        self, method: Callable[..., _Response], request: Message, *, seconds: float = _SHORT_CALL_SECONDS
    ) -> _Response:
        with self._errors():
            return method(request, metadata=self._metadata, timeout=seconds)

    def _stream(self, start: Callable[[], Any], sender: _Sender | None, cancelled: IsCancelled) -> Iterator[Any]:
        """The events of a call, which is cancelled when the caller is, or goes away."""
        call = start()
        try:
            with self._errors():
                for event in call:
                    stop_if(cancelled)
                    yield event
        except Exception:
            # What went wrong while pixels were read here matters more than that the call then ended.
            if sender is not None and sender.error is not None:
                raise sender.error from None
            raise
        finally:
            call.cancel()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise error_of(
                error.code(), error.details() or "", error.trailing_metadata() or (), endpoint=self.endpoint
            ) from error


def connect(endpoint: str = "auto", *, token: str | None = None, tls_certificate: Path | None = None) -> Client:
    """Connect to a server.

    Args:
        endpoint: ``HOST:PORT``, or ``auto`` for the one that was started last on this computer.
        token: Its token; None for the environment variable ``CONCEPTSEG_TOKEN``, or for the one that the server
            wrote down when it was started on this computer.
        tls_certificate: Certificate (PEM) to check the server with.

    Raises:
        ServerUnavailableError: nothing is known about a server here.
    """
    token = token or os.environ.get("CONCEPTSEG_TOKEN")
    if endpoint != "auto" and token:
        return Client(endpoint, token, tls_certificate=tls_certificate)
    try:
        known: Endpoint | None = read_endpoint()
    except ServerUnavailableError:
        if endpoint == "auto":
            raise
        known = None
    if known is None or endpoint not in ("auto", known.endpoint, known.endpoint.replace("127.0.0.1", "localhost")):
        raise ServerUnavailableError(
            f"The token of the server at {endpoint} is not known here. Give it with --token, or in the environment "
            "variable CONCEPTSEG_TOKEN; the server wrote it to server.json in the configuration folder of its user."
        )
    if tls_certificate is None and known.tls_certificate:
        tls_certificate = Path(known.tls_certificate)
    return Client(known.endpoint, token or known.token, tls_certificate=tls_certificate)


class _Sender:
    """Feeds messages to grpc, which would hide the error of a source that cannot be read."""

    def __init__(self, messages: Iterator[Any]) -> None:
        self._messages = messages
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise


def _options(
    encoder: str,
    dictionary: DictionaryLike,
    settings: SegmentSettings | None,
    clip: Polygon | MultiPolygon | None,
    run_id: str,
) -> common_pb2.SegmentOptions:
    return common_pb2.SegmentOptions(
        encoder=encoder,
        dictionary=_choice(dictionary),
        settings=convert.settings_to_proto(settings or SegmentSettings()),
        clip_wkb=b"" if clip is None else shapely.to_wkb(clip),
        run_id=run_id,
        want_label_map=True,
    )


def _choice(dictionary: DictionaryLike) -> common_pb2.DictionaryChoice:
    choice = common_pb2.DictionaryChoice()
    if isinstance(dictionary, ConceptDictionary):
        choice.file = convert.dictionary_to_bytes(dictionary)
    elif isinstance(dictionary, str):
        choice.name = dictionary
    elif dictionary is not None:
        choice.k = dictionary
    return choice


def _pixels_header(
    source: PixelSource,
    grid: common_pb2.PixelGrid,
    window: common_pb2.OutputRect,
    settings: SegmentSettings | None = None,
) -> segment_pb2.PixelsHeader:
    """Describe pixels that will come, and the slide that they are from where its glass matters."""
    overview = None if settings is not None and settings.whole_region else source.overview()
    return segment_pb2.PixelsHeader(
        image_name=source.name[:500], grid=grid, window=window, overview=convert.overview_to_proto(overview)
    )


def _tiles(source: PixelSource, window: Tile, cancelled: IsCancelled) -> Iterator[segment_pb2.PixelTile]:
    for tile in tiles_to_send(window):
        if cancelled():
            raise CancelledByCallerError("The caller stopped the work; nothing was written.")
        pixels = source.read(x=tile.x, y=tile.y, width=tile.width, height=tile.height)
        yield segment_pb2.PixelTile(
            rect=convert.rect_to_proto(tile),
            encoding=segment_pb2.PIXEL_ENCODING_RAW_RGB,
            data=pixels.tobytes(),
        )


def _without_progress(events: Iterator[_Event], progress: ReportProgress) -> Iterator[_Event]:
    for event in events:
        if event.WhichOneof("event") == "progress":
            told = event.progress
            progress(Progress(stage=told.stage, done=told.done, total=told.total))
        else:
            yield event
