"""The server process: binds, announces itself, watches, and ends in order."""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from conceptseg import __version__
from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.encoders.allocator import give_back_free_memory
from conceptseg.encoders.shared import DeviceQueue
from conceptseg.pipeline.batch import AnnotateProject
from conceptseg.rpc.activity import Activity
from conceptseg.rpc.announce import announced_host
from conceptseg.rpc.auth import TokenInterceptor, new_token
from conceptseg.rpc.calls import Calls
from conceptseg.rpc.encoders import EncoderStore
from conceptseg.rpc.endpoint import Endpoint, endpoint_path, remove_endpoint, write_endpoint
from conceptseg.rpc.interceptor import CallInterceptor
from conceptseg.rpc.limits import Limits
from conceptseg.rpc.paths import AllowedRoots
from conceptseg.rpc.servicer import Engine, Servicer
from conceptseg.rpc.watch import watch_process
from conceptseg.v1 import service_pb2, service_pb2_grpc

_log = logging.getLogger(__name__)

SERVICE = service_pb2.DESCRIPTOR.services_by_name["SegmentationService"].full_name
_SPARE_THREADS = 64
_WATCH_SECONDS = 0.5
# Memory is worth keeping while the next call is likely: without it, the first tiles take twice as long.
_QUIET_SECONDS = 30.0
_QUIET_SECONDS_CUT_SHORT = 1.0


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How the server runs.

    Attributes:
        host: Address to listen on.
        port: Port; 0 for a free one.
        tls_certificate: Certificate chain (PEM); None for no TLS.
        tls_key: Its private key (PEM).
        roots: Folders below which clients may name images to read, and projects to write.
        device: Where encoders run.
        weights: Local checkpoints by encoder name.
        limits: What one call may ask.
        parent_pid: End when this process ends.
        idle_seconds: End after so long without a call.
        drain_seconds: How long calls may go on when the server is told to end.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    roots: tuple[Path, ...] = ()
    device: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    parent_pid: int | None = None
    idle_seconds: float | None = None
    drain_seconds: float = 30.0


class Server:
    """A server that has been started.

    Attributes:
        endpoint: Where it listens, and its token.
        device: Where encoders run.
    """

    def __init__(self, settings: ServeSettings, *, annotate: AnnotateProject) -> None:
        """Bind, serve and announce.

        Args:
            settings: How the server runs.
            annotate: Writes QuPath projects, of which this package knows nothing.

        Raises:
            InvalidRequestError: the address cannot be bound, TLS is missing or half given, a root does not exist.
            EncoderError: the device cannot be used.
            OutputError: the endpoint file cannot be written.
        """
        credentials = _credentials(settings)
        limits = settings.limits
        self._settings = settings
        self._stop = threading.Event()
        self._activity = Activity()
        self._health = health.HealthServicer()
        self._set_health(serving=False)
        engine = Engine(
            calls=Calls(limits),
            encoders=EncoderStore(device=settings.device, weights=settings.weights),
            device=DeviceQueue(on_fault=lambda: self._set_health(serving=False)),
            roots=AllowedRoots(settings.roots),
            limits=limits,
            annotate=annotate,
        )
        self._engine = engine
        self.device = str(engine.encoders.device)
        token = new_token()
        self._interceptor = CallInterceptor(self._activity, limits)
        # A streaming call keeps one thread; the spare ones answer the short calls at any time.
        threads = limits.running_calls + limits.waiting_calls + _SPARE_THREADS
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="rpc"),
            interceptors=[self._interceptor, TokenInterceptor(token)],
            options=[
                ("grpc.max_receive_message_length", limits.message_bytes),
                ("grpc.max_send_message_length", -1),
                # Without it a second server on the same port would silently get half of the calls.
                ("grpc.so_reuseport", 0),
                # A client whose computer died is noticed, and its memory freed, within a minute.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
        )
        service_pb2_grpc.add_SegmentationServiceServicer_to_server(Servicer(engine), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        port = self._bind(credentials)
        self._server.start()
        certificate = settings.tls_certificate
        self.endpoint = Endpoint(
            endpoint=f"{_bracketed(announced_host(settings.host, port, certificate))}:{port}",
            token=token,
            pid=os.getpid(),
            version=__version__,
            tls_certificate=str(certificate.resolve()) if certificate else "",
        )
        try:
            write_endpoint(self.endpoint)
        except OutputError:
            self._server.stop(0)
            raise
        self._set_health(serving=True)

    def ready(self) -> dict[str, object]:
        """What the READY line says."""
        return {
            "endpoint": self.endpoint.endpoint,
            "device": self.device,
            "pid": self.endpoint.pid,
            "version": self.endpoint.version,
            "tls": bool(self.endpoint.tls_certificate),
            "endpoint_file": str(endpoint_path()),
            "reads_files": bool(self._engine.roots.roots),
        }

    def stop(self) -> None:
        """Let `run` end; safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Serve until `stop`, the end of the parent, or idleness; then finish the calls at work."""
        reason = self._wait()
        _log.info("Ending: %s.", reason)
        self._set_health(serving=False)
        remove_endpoint(pid=self.endpoint.pid)
        self._stop.clear()
        # New calls are refused at once, those at work may finish; a second signal ends them, too.
        drained = self._server.stop(self._settings.drain_seconds)
        while not drained.wait(_WATCH_SECONDS):
            if self._stop.is_set():
                self._server.stop(0)
        self._engine.calls.close()
        self._engine.device.close()

    def _wait(self) -> str:
        settings = self._settings
        parent_lives = watch_process(settings.parent_pid) if settings.parent_pid is not None else lambda: True
        trimmed = True
        while not self._stop.wait(_WATCH_SECONDS):
            self._engine.calls.cancel_overdue()
            self._interceptor.cancel_half_requests()
            with suppress(OSError, OutputError):  # tried again in a moment
                if not endpoint_path().exists():  # a server that was started later has ended, and took its entry along
                    write_endpoint(self.endpoint)
            patience = _QUIET_SECONDS_CUT_SHORT if self._activity.cut_short else _QUIET_SECONDS
            quiet = self._activity.idle_seconds > patience
            if quiet and not trimmed:
                give_back_free_memory()
            trimmed = quiet
            if not parent_lives():
                return f"the parent process {settings.parent_pid} has ended"
            if settings.idle_seconds is not None and self._activity.idle_seconds > settings.idle_seconds:
                return f"no call for {settings.idle_seconds:g} s"
        return "told to"

    def _bind(self, credentials: grpc.ServerCredentials | None) -> int:
        address = f"{_bracketed(self._settings.host)}:{self._settings.port}"
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise InvalidRequestError(
                f"Cannot listen on {address}: the port is taken, or the address is not one of this computer. Choose "
                "another --port, or leave it out for a free one."
            ) from error

    def _set_health(self, *, serving: bool) -> None:
        response = health_pb2.HealthCheckResponse
        for service in ("", SERVICE):
            self._health.set(service, response.SERVING if serving else response.NOT_SERVING)


def _credentials(settings: ServeSettings) -> grpc.ServerCredentials | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if (certificate is None) != (key is None):
        raise InvalidRequestError("TLS needs both --tls-cert and --tls-key.")
    if certificate is None or key is None:
        if not _is_loopback(settings.host):
            raise InvalidRequestError(
                f"--host {settings.host} can be reached by other computers, and without TLS they could read the token "
                "and the images. Give --tls-cert and --tls-key, or listen on 127.0.0.1 and use an SSH tunnel."
            )
        return None
    try:
        return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    except OSError as error:
        raise InvalidRequestError(f"The TLS files cannot be read: {error}.") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
