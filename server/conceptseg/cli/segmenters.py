"""What segments the regions of a project: this computer, or a server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from shapely import MultiPolygon, Polygon

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.progress import IsCancelled, ReportProgress
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.encoders.shared import DeviceQueue, SharedEncoder
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.rpc.client import Client, connect


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSegmenter:
    """Segments in this process, whose threads share one encoder. Can be sent to other processes.

    Attributes:
        encoder: Name of the encoder.
        weights: Local checkpoint of it.
        device: Where it runs.
        dictionary: The concepts; None where they are learned.
        settings: How.
    """

    encoder: str
    weights: Path | None
    device: str
    dictionary: ConceptDictionary | None
    settings: SegmentSettings

    def prepare(self) -> None:
        """Load the encoder."""
        self._load()

    def __call__(
        self,
        source: PixelSource,
        *,
        clip: Polygon | MultiPolygon | None,
        progress: ReportProgress,
        cancelled: IsCancelled,
    ) -> SegmentationResult:
        """See `SegmentRegion`."""
        return segment(
            source,
            encoder=SharedEncoder(self._load(), _device(), cancelled=cancelled),
            dictionary=self.dictionary,
            settings=self.settings,
            clip=clip,
            progress=progress,
            cancelled=cancelled,
        )

    def _load(self) -> Encoder:
        return _encoder(self.encoder, self.weights, self.device)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSegmenter:
    """Has a server segment pixels that are read here. Can be sent to other processes.

    Attributes:
        endpoint: ``HOST:PORT`` or ``auto``.
        token: Token of the server; None to look for it on this computer.
        tls_certificate: Certificate to check the server with.
        encoder: Name of the encoder.
        dictionary: The concepts; None where they are learned.
        settings: How.
    """

    endpoint: str
    token: str | None
    tls_certificate: Path | None
    encoder: str
    dictionary: ConceptDictionary | None
    settings: SegmentSettings

    def prepare(self) -> None:
        """Raise ServerUnavailableError if the server does not answer."""
        with self._connect() as client:
            client.info()

    def __call__(
        self,
        source: PixelSource,
        *,
        clip: Polygon | MultiPolygon | None,
        progress: ReportProgress,
        cancelled: IsCancelled,
    ) -> SegmentationResult:
        """See `SegmentRegion`."""
        with self._connect() as client:
            return client.segment(
                source,
                encoder=self.encoder,
                dictionary=self.dictionary,
                settings=self.settings,
                clip=clip,
                progress=progress,
                cancelled=cancelled,
            )

    def _connect(self) -> Client:
        # Every time anew: a server that was started again may be somewhere else.
        return connect(self.endpoint, token=self.token, tls_certificate=self.tls_certificate)


@cache
def _encoder(name: str, weights: Path | None, device: str) -> Encoder:
    return load_encoder(name, device=device, weights=weights)


@cache
def _device() -> DeviceQueue:
    return DeviceQueue(on_fault=lambda: None)
