"""How a server starts, is found, and ends."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conceptseg.domain.errors import DeviceMemoryError, EncoderError, InvalidRequestError, OutputError
from conceptseg.domain.progress import Progress
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.source import RegionSource
from conceptseg.qupath.run import annotate_in_threads
from conceptseg.rpc import convert
from conceptseg.rpc import server as server_module
from conceptseg.rpc.auth import credentials
from conceptseg.rpc.client import Client, connect
from conceptseg.rpc.endpoint import Endpoint, endpoint_path, read_endpoint, remove_endpoint, write_endpoint
from conceptseg.rpc.errors import (
    STATUS,
    AuthenticationError,
    ServerError,
    ServerUnavailableError,
    error_of,
    status_of,
)
from conceptseg.rpc.limits import Limits
from conceptseg.rpc.logs import choose_request_id
from conceptseg.rpc.server import Server, ServeSettings
from conceptseg.rpc.watch import watch_process
from conceptseg.v1 import catalogue_pb2, segment_pb2, service_pb2_grpc

MakeSource = Callable[..., RegionSource]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCEPTSEG_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("CONCEPTSEG_DICTIONARIES", str(tmp_path / "dictionaries"))
    monkeypatch.delenv("CONCEPTSEG_TOKEN", raising=False)


@contextmanager
def running(**settings: Any) -> Iterator[Server]:
    """A server in this process, over a real channel."""
    server = Server(ServeSettings(device="cpu", **settings), annotate=annotate_in_threads)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


class TestBeingFound:
    def test_ready_line_and_endpoint_file(self, server: Any) -> None:
        ready = server.ready
        assert ready["endpoint"] == server.endpoint
        assert ready["endpoint"].startswith("127.0.0.1:")
        assert (ready["device"], ready["pid"], ready["tls"]) == ("cpu", server.process.pid, False)
        path = Path(ready["endpoint_file"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert server.token not in json.dumps(ready)  # the line ends up in logs
        assert server.token not in server.log.read_text()

    def test_programs_of_the_same_user_connect_without_being_told(self) -> None:
        with pytest.raises(ServerUnavailableError, match="conceptseg serve"):
            connect()
        with running() as server:
            with connect() as client:
                assert client.info().name == "conceptseg"
            with connect(server.endpoint.endpoint) as client:
                assert client.info().name == "conceptseg"
            with pytest.raises(ServerUnavailableError, match="CONCEPTSEG_TOKEN"):
                connect("127.0.0.1:1")
        with pytest.raises(ServerUnavailableError, match="conceptseg serve"):
            connect()

    def test_the_latest_server_wins_and_cleans_up_only_after_itself(self) -> None:
        first = Endpoint(endpoint="127.0.0.1:1", token="a", pid=1, version="1")
        second = Endpoint(endpoint="127.0.0.1:2", token="b", pid=2, version="1")
        write_endpoint(first)
        write_endpoint(second)
        remove_endpoint(pid=1)
        assert read_endpoint() == second
        remove_endpoint(pid=2)
        assert not endpoint_path().exists()

    def test_a_server_is_found_again_when_a_later_one_has_ended(self) -> None:
        with running() as first:
            with running():
                assert read_endpoint().endpoint != first.endpoint.endpoint
            give_up = time.monotonic() + 30
            while not endpoint_path().exists() and time.monotonic() < give_up:
                time.sleep(0.05)
            assert read_endpoint() == first.endpoint

    def test_a_damaged_endpoint_file_is_explained(self) -> None:
        for content in ("", "[]", '{"endpoint": 1}'):
            endpoint_path().write_text(content)
            with pytest.raises(ServerUnavailableError, match="Restart"):
                read_endpoint()

    def test_nobody_there(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        started = time.monotonic()
        with Client(endpoint, "token") as client, pytest.raises(ServerUnavailableError, match="conceptseg serve"):
            client.info()
        assert time.monotonic() - started < 5


class TestStarting:
    def test_a_configuration_folder_that_cannot_be_written_is_said(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("CONCEPTSEG_CONFIG_DIR", str(tmp_path / "file"))  # a folder that even root cannot write
        with pytest.raises(OutputError, match=r"server\.json: File exists.*CONCEPTSEG_CONFIG_DIR"):
            Server(ServeSettings(device="cpu"), annotate=annotate_in_threads)
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]

    def test_a_configuration_folder_that_goes_while_it_runs_does_not_end_the_server(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with running() as server, connect() as client:
            (tmp_path / "file").touch()
            monkeypatch.setenv("CONCEPTSEG_CONFIG_DIR", str(tmp_path / "file"))
            tried = threading.Event()
            write = server_module.write_endpoint

            def write_and_tell(endpoint: Endpoint) -> Path:
                try:
                    return write(endpoint)
                finally:
                    tried.set()

            monkeypatch.setattr(server_module, "write_endpoint", write_and_tell)
            assert tried.wait(30)
            assert client.info().name == "conceptseg"
            assert server.endpoint

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"host": "0.0.0.0"}, "--tls-cert"),
            ({"host": "192.0.2.1"}, "--tls-cert"),
            ({"host": "example.org"}, "--tls-cert"),
            ({"tls_certificate": Path("cert.pem")}, "both"),
            ({"tls_certificate": Path("none.pem"), "tls_key": Path("none.pem")}, "cannot be read"),
            ({"roots": (Path("/no/such/folder"),)}, "no such folder"),
        ],
    )
    def test_unsafe_or_impossible_settings_are_refused(self, settings: dict[str, Any], says: str) -> None:
        with pytest.raises(InvalidRequestError, match=says):
            Server(ServeSettings(device="cpu", **settings), annotate=annotate_in_threads)

    def test_an_unknown_device_is_refused(self) -> None:
        with pytest.raises(EncoderError, match="--device"):
            Server(ServeSettings(device="cuda:77"), annotate=annotate_in_threads)

    def test_a_taken_port_is_refused(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(InvalidRequestError, match="--port"):
                Server(ServeSettings(device="cpu", port=taken.getsockname()[1]), annotate=annotate_in_threads)

    def test_two_servers_cannot_share_a_port(self) -> None:
        with running() as server:
            port = int(server.endpoint.endpoint.rpartition(":")[2])
            with pytest.raises(InvalidRequestError, match="--port"):
                Server(ServeSettings(device="cpu", port=port), annotate=annotate_in_threads)

    def test_the_command_says_it_in_one_line(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "conceptseg.cli.main", "serve", "--host", "0.0.0.0"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("Error: --host 0.0.0.0")
        assert done.stderr.count("\n") == 1


@pytest.fixture
def certificate(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost, or for the names of the test's parameter, and its key."""
    names = getattr(request, "param", "DNS:localhost,IP:127.0.0.1")
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", f"subjectAltName={names}"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.mark.parametrize(
    ("certificate", "host", "announced"),
    [
        ("DNS:gpu-machine,DNS:localhost", "0.0.0.0", "localhost"),
        ("DNS:localhost", "127.0.0.1", "localhost"),
        ("DNS:localhost,IP:127.0.0.1", "0.0.0.0", "127.0.0.1"),
    ],
    indirect=["certificate"],
)
def test_the_server_announces_a_name_that_its_certificate_has(
    certificate: tuple[Path, Path], host: str, announced: str
) -> None:
    with running(host=host, tls_certificate=certificate[0], tls_key=certificate[1]) as server:
        assert server.endpoint.endpoint.rpartition(":")[0] == announced
        with connect() as client:
            assert client.info().name == "conceptseg"


@pytest.mark.parametrize("certificate", ["DNS:gpu-machine,DNS:*.example.org"], indirect=True)
def test_a_certificate_for_other_names_is_said(
    certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with running(host="0.0.0.0", tls_certificate=certificate[0], tls_key=certificate[1]) as server:
        assert server.endpoint.endpoint.startswith("gpu-machine:")
    assert "is for gpu-machine, *.example.org and not for 0.0.0.0" in caplog.text


def test_tls(certificate: tuple[Path, Path], make_source: MakeSource) -> None:
    with running(tls_certificate=certificate[0], tls_key=certificate[1]) as server:
        with connect() as client:
            assert client.segment(make_source()).polygons
        with Client(server.endpoint.endpoint, server.endpoint.token) as plain, pytest.raises(ServerUnavailableError):
            plain.info()


class TestEnding:
    def test_idle(self) -> None:
        server = Server(ServeSettings(device="cpu", idle_seconds=1.2), annotate=annotate_in_threads)
        ended = threading.Thread(target=server.run)
        ended.start()
        with connect() as client:
            for _ in range(4):  # calls keep it alive, health checks do not
                time.sleep(0.5)
                client.info()
            assert ended.is_alive()
            with grpc.insecure_channel(server.endpoint.endpoint) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                metadata = (credentials(server.endpoint.token),)
                for _ in range(4):
                    time.sleep(0.5)
                    if not ended.is_alive():
                        break
                    try:
                        health.Check(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=5)
                    except grpc.RpcError:
                        break
        ended.join(20)
        assert not ended.is_alive()
        assert not endpoint_path().exists()

    def test_parent(self) -> None:
        parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        server = Server(ServeSettings(device="cpu", parent_pid=parent.pid), annotate=annotate_in_threads)
        ended = threading.Thread(target=server.run)
        ended.start()
        time.sleep(1.2)
        assert ended.is_alive()
        parent.kill()  # and nobody waits for it: it stays a zombie
        ended.join(20)
        assert not ended.is_alive()
        parent.communicate()

    def test_watching_a_process_that_is_gone(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        assert not watch_process(process.pid)()
        assert watch_process(os.getpid())()

    @pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
    def test_a_signal_lets_calls_finish(self, start_server: Callable[..., Any], make_source: MakeSource) -> None:
        server = start_server()
        source = make_source(1500, 1500)
        begun = threading.Event()
        results: list[Any] = []

        def report(progress: Progress) -> None:
            if progress.stage == "encode":
                begun.set()

        def work() -> None:
            with server.client() as client:
                results.append(client.segment(source, progress=report))

        thread = threading.Thread(target=work)
        thread.start()
        assert begun.wait(60)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.8)
        with server.client() as late, pytest.raises(ServerUnavailableError):
            late.info()
        thread.join(60)
        assert results[0].polygons
        assert server.process.wait(30) == 0
        assert not (server.config / "server.json").exists()

    @pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
    def test_a_killed_server_is_noticed_at_once_and_can_be_started_again(
        self, start_server: Callable[..., Any], make_source: MakeSource
    ) -> None:
        server = start_server()
        source = make_source(3000, 3000)
        killed: list[float] = []

        def report(progress: Progress) -> None:
            if progress.stage == "encode" and progress.done and not killed:
                killed.append(time.monotonic())
                os.kill(server.process.pid, signal.SIGKILL)

        with server.client() as client, pytest.raises(ServerUnavailableError, match="went away"):
            client.segment(source, progress=report)
        assert time.monotonic() - killed[0] < 3
        server.process.wait()
        # The endpoint file of the dead server is still there; it must mislead nobody for long.
        with server.client() as client, pytest.raises(ServerUnavailableError, match="conceptseg serve"):
            client.info()
        again = start_server()
        with again.client() as client:
            assert client.segment(make_source()).polygons


class TestFaults:
    def test_of_the_server_are_logged_and_told(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, make_source: MakeSource
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise KeyError("a bug")

        with running() as server, connect() as client:
            monkeypatch.setattr("conceptseg.rpc.servicer.segment", broken)
            with pytest.raises(ServerError, match="request id"):
                client.segment(make_source())
            assert "a bug" in caplog.text
            monkeypatch.undo()
            with Client(server.endpoint.endpoint, server.endpoint.token) as again:
                assert again.info().running_calls == 0

    def test_too_little_memory_comes_with_advice(
        self, monkeypatch: pytest.MonkeyPatch, make_source: MakeSource
    ) -> None:
        def too_large(*_: object, **__: object) -> None:
            raise DeviceMemoryError("A single tile does not fit cuda. Use a smaller --tile-px.")

        def full(*_: object, **__: object) -> None:
            raise MemoryError

        with running(), connect() as client:
            monkeypatch.setattr(Encoder, "encode", too_large)
            with pytest.raises(DeviceMemoryError, match="--tile-px"):
                client.segment(make_source())
            monkeypatch.setattr(Encoder, "encode", full)
            with pytest.raises(DeviceMemoryError, match="smaller region"):
                client.segment(make_source())

    def test_of_the_device_end_the_health(self, monkeypatch: pytest.MonkeyPatch, make_source: MakeSource) -> None:
        def fault(*_: object, **__: object) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        with running() as server, connect() as client:
            monkeypatch.setattr(Encoder, "encode", fault)
            with pytest.raises(ServerError):
                client.segment(make_source())
            with grpc.insecure_channel(server.endpoint.endpoint) as channel:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), metadata=(credentials(server.endpoint.token),), timeout=10
                )
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING

    def test_every_error_survives_the_wire(self) -> None:
        for kind in STATUS:
            code, message = status_of(kind("What happened. What to do."))
            again = error_of(code, message, (("conceptseg-error", kind.__name__),), endpoint="here")
            assert type(again) is kind
            if kind is AuthenticationError:  # the server's sentence is for programs
                assert "--token" in str(again)
            else:
                assert str(again) == "What happened. What to do."

    def test_long_messages_are_cut_to_what_headers_hold(self) -> None:
        _, message = status_of(InvalidRequestError("é" * 100_000))
        assert len(message) < 2000


def test_limits_are_settings_of_the_server(make_source: MakeSource) -> None:
    with running(limits=Limits(running_calls=2, tiles=1)), connect() as client:
        assert client.info().limits.tiles == 1
        assert client.segment(make_source()).polygons


def test_a_client_that_does_not_take_its_results_is_hung_up_on(
    make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flow control stops the server in the middle of sending. The slot is free by then, and in time the call ends."""
    large = segment_pb2.SegmentEvent(label_map_rows={"zlib_labels": bytes(1 << 20)})
    monkeypatch.setattr("conceptseg.rpc.convert.result_to_events", lambda *_, **__: iter([large] * 200))
    source = make_source(64, 64)
    pixels = segment_pb2.PixelsHeader(grid=convert.grid_to_proto(source.grid))
    tile = segment_pb2.PixelTile(
        rect={"width": 64, "height": 64},
        encoding=segment_pb2.PIXEL_ENCODING_RAW_RGB,
        data=source.read(x=0, y=0, width=64, height=64).tobytes(),
    )
    messages = [
        segment_pb2.SegmentPixelsRequest(header={"pixels": pixels}),
        segment_pb2.SegmentPixelsRequest(tile=tile),
    ]

    def counts() -> tuple[int, int]:
        return client.info().running_calls, client.info().waiting_calls

    with running(limits=Limits(stall_seconds=1.5)) as server, connect() as client:
        client.plan(catalogue_pb2.PlanRegionRequest(grid=pixels.grid))  # loads the encoder
        with grpc.insecure_channel(server.endpoint.endpoint) as channel:
            stub = service_pb2_grpc.SegmentationServiceStub(channel)
            call = stub.SegmentPixels(iter(messages), metadata=(credentials(server.endpoint.token),))
            for wanted in ((0, 1), (0, 0)):  # the work is done and its result waits; the client is given up
                until = time.monotonic() + 30
                while counts() != wanted:
                    assert time.monotonic() < until
                    time.sleep(0.01)
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            assert caught.value.code() is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize(
    ("wanted", "kept"), [("abc-1_2", True), ("", False), ("a" * 65, False), ("a b", False), ("ä", False), ('"', False)]
)
def test_request_ids_of_clients_are_kept_if_harmless(wanted: str, kept: bool) -> None:
    assert (choose_request_id(wanted) == wanted) is kept
