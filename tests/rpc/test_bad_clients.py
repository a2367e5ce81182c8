"""Clients that do not read, trickle, fall silent or send half a request keep nobody else waiting."""

import itertools
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from conceptseg.domain.errors import CancelledByCallerError
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.imaging.source import RegionSource
from conceptseg.pipeline.batch import Image, ImageStarted
from conceptseg.rpc import convert
from conceptseg.rpc.admission import Admission, Turn
from conceptseg.rpc.auth import credentials
from conceptseg.rpc.callers import Callers, client_of
from conceptseg.rpc.client import Client
from conceptseg.rpc.errors import BusyError, CallTimeError
from conceptseg.rpc.inbox import Inbox, Slot
from conceptseg.rpc.limits import Limits
from conceptseg.rpc.patience import Patience
from conceptseg.rpc.server import Server, ServeSettings
from conceptseg.v1 import catalogue_pb2, fit_pb2, project_pb2, segment_pb2, service_pb2_grpc

MakeSource = Callable[..., RegionSource]
SIDE = 96
PIXELS = segment_pb2.PixelsHeader(
    grid=convert.grid_to_proto(
        PixelGrid(region=Region(x=0, y=0, width=SIDE, height=SIDE), width=SIDE, height=SIDE, pixel_size_um=0.5)
    )
)
HEADER = segment_pb2.SegmentPixelsRequest(header={"pixels": PIXELS})


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCEPTSEG_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("CONCEPTSEG_DICTIONARIES", str(tmp_path / "dictionaries"))


@contextmanager
def running(*, annotate: Any = None, roots: tuple[Path, ...] = (), **limits: Any) -> Iterator[Server]:
    """A server in this process."""
    settings = ServeSettings(device="cpu", roots=roots, limits=Limits(**limits), drain_seconds=0)
    server = Server(settings, annotate=annotate)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


class BadClient:
    """One connection of its own, as another program has."""

    def __init__(self, server: Server) -> None:
        self.channel = grpc.insecure_channel(server.endpoint.endpoint, options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub = service_pb2_grpc.SegmentationServiceStub(self.channel)
        self.metadata = (credentials(server.endpoint.token),)
        self.stopped = threading.Event()

    def __enter__(self) -> "BadClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.channel.close()

    def silent_after(self, *messages: Any) -> Iterator[Any]:
        yield from messages
        self.stopped.wait()

    def trickle(self, *, seconds: float = 0.3) -> Iterator[segment_pb2.SegmentPixelsRequest]:
        """The header, and a pixel now and then."""
        yield HEADER
        for number in itertools.count():
            yield pixel(number)
            if self.stopped.wait(seconds):
                return

    def everything(self) -> Iterator[segment_pb2.SegmentPixelsRequest]:
        return iter([HEADER, tile(0, 0, SIDE, SIDE)])


def tile(x: int, y: int, width: int, height: int) -> segment_pb2.SegmentPixelsRequest:
    data = np.random.default_rng(0).integers(60, 200, (height, width, 3), np.uint8).tobytes()
    return segment_pb2.SegmentPixelsRequest(
        tile={
            "rect": {"x": x, "y": y, "width": width, "height": height},
            "encoding": segment_pb2.PIXEL_ENCODING_RAW_RGB,
            "data": data,
        }
    )


def pixel(number: int) -> segment_pb2.SegmentPixelsRequest:
    return tile(number % SIDE, number // SIDE, 1, 1)


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


def good_client(server: Server) -> Client:
    return Client(server.endpoint.endpoint, server.endpoint.token)


def counts(client: Client) -> tuple[int, int]:
    info = client.info()
    return info.running_calls, info.waiting_calls


class TestAGoodClientFinishesWhile:
    """Every slot could be taken by a bad one: there are four of each kind and two slots."""

    @pytest.fixture
    def server(self) -> Iterator[Server]:
        with running(running_calls=2, waiting_calls=30) as server:
            yield server

    @pytest.mark.parametrize("kind", ["silent", "header only", "one pixel", "trickling", "fitting"])
    def test_others_hold_on(self, server: Server, make_source: MakeSource, kind: str) -> None:
        with ExitStack() as stack:
            good = stack.enter_context(good_client(server))
            expected = good.segment(make_source(), run_id="run")
            calls = []
            for _ in range(4):
                bad = stack.enter_context(BadClient(server))
                messages: Iterator[Any] = {
                    "silent": lambda bad=bad: bad.silent_after(),
                    "header only": lambda bad=bad: bad.silent_after(HEADER),
                    "one pixel": lambda bad=bad: bad.silent_after(HEADER, pixel(0)),
                    "trickling": lambda bad=bad: bad.trickle(),
                    "fitting": lambda bad=bad: bad.silent_after(
                        fit_pb2.FitConceptsRequest(header={"ks": [2]}), fit_pb2.FitConceptsRequest(pixels=PIXELS)
                    ),
                }[kind]()
                method = bad.stub.FitConcepts if kind == "fitting" else bad.stub.SegmentPixels
                calls.append(method(messages, metadata=bad.metadata))
            until(lambda: sum(counts(good)) == 4)
            result = good.segment(make_source(), run_id="run")
            assert [(p.concept, p.polygon.wkb) for p in result.polygons] == [
                (p.concept, p.polygon.wkb) for p in expected.polygons
            ]
            assert all(call.is_active() for call in calls)

    def test_others_do_not_take_their_results(
        self, server: Server, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        large = segment_pb2.SegmentEvent(label_map_rows={"zlib_labels": bytes(1 << 20)})
        whole = convert.result_to_events

        def many(result: Any, **options: Any) -> Iterator[segment_pb2.SegmentEvent]:
            if result.label_map.labels.shape == (SIDE, SIDE):
                yield from itertools.repeat(large, 200)
            yield from whole(result, **options)

        monkeypatch.setattr("conceptseg.rpc.convert.result_to_events", many)
        with ExitStack() as stack:
            good = stack.enter_context(good_client(server))
            good.segment(make_source())
            calls = []
            for _ in range(4):
                bad = stack.enter_context(BadClient(server))
                calls.append(bad.stub.SegmentPixels(bad.everything(), metadata=bad.metadata))
            until(lambda: counts(good) == (0, 4))  # done, and nobody takes it
            assert good.segment(make_source()).polygons
            assert all(call.is_active() for call in calls)

    def test_sixty_four_of_all_kinds_hold_on(self, make_source: MakeSource) -> None:
        with running() as server, ExitStack() as stack:
            good = stack.enter_context(good_client(server))
            good.segment(make_source())
            calls = []
            for number in range(64):
                bad = stack.enter_context(BadClient(server))
                messages = (bad.silent_after(HEADER, pixel(0)), bad.trickle(seconds=1.0), bad.silent_after())[
                    number % 3
                ]
                calls.append(bad.stub.SegmentPixels(messages, metadata=bad.metadata))
            until(lambda: sum(counts(good)) == 64)
            assert good.segment(make_source()).polygons
            assert sum(call.is_active() for call in calls) == 64


class TestABadClientIsGivenUp:
    def test_that_sends_too_slowly(self) -> None:
        with running(stall_seconds=1.5, least_px_per_second=100) as server, BadClient(server) as bad:
            with pytest.raises(grpc.RpcError) as caught:
                list(bad.stub.SegmentPixels(bad.trickle(), metadata=bad.metadata))
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert dict(caught.value.trailing_metadata())["conceptseg-error"] == CallTimeError.__name__
            assert "less than 100 px per second" in caught.value.details()
            assert "--min-pixel-rate" in caught.value.details()

    @pytest.mark.parametrize("messages", [(), (HEADER,), (HEADER, pixel(0))])
    def test_that_falls_silent(self, messages: tuple[Any, ...]) -> None:
        with running(stall_seconds=1.0) as server, BadClient(server) as bad:
            with pytest.raises(grpc.RpcError) as caught:
                list(bad.stub.SegmentPixels(bad.silent_after(*messages), metadata=bad.metadata))
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "--stall-timeout" in caught.value.details()

    def test_that_does_not_take_what_a_run_over_a_project_tells(self, tmp_path: Path) -> None:
        """The run itself does not wait for it, and is done when the client is hung up on."""
        (tmp_path / "project.qpproj").write_text("{}")
        finished = threading.Event()

        def annotate(*_: Any, tell: Any, cancelled: Any, **__: Any) -> tuple[()]:
            for number in range(300):
                tell(ImageStarted(image=Image(identifier=str(number), name="x" * (1 << 16)), reviewed=0))
            finished.set()
            return ()

        request = project_pb2.AnnotateProjectRequest(project_path=str(tmp_path / "project.qpproj"))
        with (
            running(annotate=annotate, roots=(tmp_path,), stall_seconds=1.0) as server,
            BadClient(server) as bad,
            good_client(server) as good,
        ):
            good.plan(catalogue_pb2.PlanRegionRequest(grid=PIXELS.grid))  # loads the encoder
            call = bad.stub.AnnotateProject(request, metadata=bad.metadata)
            assert finished.wait(60)
            until(lambda: counts(good) == (0, 1))
            until(lambda: counts(good) == (0, 0))
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            assert caught.value.code() is grpc.StatusCode.CANCELLED

    def test_that_never_sends_the_message_of_a_short_call(self) -> None:
        with running(stall_seconds=1.0) as server, BadClient(server) as bad:
            method = bad.channel.stream_unary("/conceptseg.v1.SegmentationService/GetServerInfo")
            call = method.future(bad.silent_after(), metadata=bad.metadata)
            assert call.code() is grpc.StatusCode.CANCELLED


class TestOneClientAlone:
    def test_cannot_have_more_than_its_calls(self) -> None:
        with running(calls_per_client=3) as server, BadClient(server) as bad, BadClient(server) as other:
            held = [bad.stub.SegmentPixels(bad.silent_after(HEADER), metadata=bad.metadata) for _ in range(3)]
            info = catalogue_pb2.GetServerInfoRequest()
            until(lambda: other.stub.GetServerInfo(info, metadata=other.metadata).waiting_calls == 3)
            for call in (
                lambda: bad.stub.GetServerInfo(info, metadata=bad.metadata),
                lambda: list(bad.stub.SegmentPixels(bad.everything(), metadata=bad.metadata)),
                lambda: list(bad.stub.FitConcepts(bad.silent_after(), metadata=bad.metadata)),
                lambda: list(bad.stub.AnnotateProject(project_pb2.AnnotateProjectRequest(), metadata=bad.metadata)),
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    call()
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "--max-per-client" in caught.value.details()
            held[0].cancel()
            until(lambda: sum(server._interceptor._callers._calls.values()) == 2)
            assert bad.stub.GetServerInfo(info, metadata=bad.metadata).limits.calls_per_client == 3

    def test_leaves_a_slot_for_another(self) -> None:
        admission = Admission(running=3, waiting=10)
        begun: list[str] = []
        with ExitStack() as stack:
            turns = [stack.enter_context(admission.enter("greedy")) for _ in range(4)]
            for number, turn in enumerate(turns):
                turn.when_free(lambda number=number: begun.append(f"greedy {number}"))
            assert begun == ["greedy 0", "greedy 1"]
            assert [turn.ahead for turn in turns] == [0, 0, 1, 2]
            other = stack.enter_context(admission.enter("other"))
            other.when_free(lambda: begun.append("other"))
            assert begun[2:] == ["other"]
            turns[0].lend()
            assert begun[3:] == ["greedy 2"]

    def test_waits_in_order_of_arrival(self) -> None:
        admission = Admission(running=1, waiting=10)
        begun: list[int] = []
        with ExitStack() as stack:
            turns = [stack.enter_context(admission.enter(str(number))) for number in range(3)]
            for number in (2, 0, 1):
                turns[number].when_free(lambda number=number: begun.append(number))
            turns[2].lend()
            turns[0].lend()
            assert begun == [2, 0, 1]
            assert admission.counts == (1, 2)

    def test_that_waits_for_its_slot_again_can_be_cancelled(self) -> None:
        admission = Admission(running=1, waiting=10)
        with admission.enter("a") as first, admission.enter("b") as second:
            first.when_free(lambda: None)
            second.when_free(lambda: None)
            first.lend()
            with pytest.raises(CancelledByCallerError):
                first.take_back(cancelled=lambda: True)

    @pytest.mark.parametrize(
        ("peer", "client"),
        [
            ("ipv4:192.0.2.1:50412", "ipv4:192.0.2.1"),
            ("ipv6:[2001:db8::1]:50412", "ipv6:[2001:db8::1]"),
            ("ipv6:%5B2001:db8::1%5D:50412", "ipv6:%5B2001:db8::1%5D"),
            ("ipv4:127.0.0.1:50412", "ipv4:127.0.0.1:50412"),
            ("ipv6:[::1]:50412", "ipv6:[::1]:50412"),
            ("ipv6:%5B::1%5D:50412", "ipv6:%5B::1%5D:50412"),
            ("unix:/run/socket", "unix:/run/socket"),
        ],
    )
    def test_is_another_computer_or_a_connection_from_this_one(self, peer: str, client: str) -> None:
        assert client_of(peer) == client

    def test_is_forgotten_when_its_calls_have_ended(self) -> None:
        callers = Callers(most=1)
        with callers.call("ipv4:192.0.2.1:1"):
            with pytest.raises(BusyError, match="1 calls open"), callers.call("ipv4:192.0.2.1:2"):
                pass
            with callers.call("ipv4:192.0.2.2:1"):
                pass
        with callers.call("ipv4:192.0.2.1:3"):
            pass
        assert not callers._calls


class TestPatience:
    def test_lasts_for_ever_with_whoever_delivers_at_the_rate(self) -> None:
        patience = Patience(10, rate=100)
        for _ in range(1000):
            assert patience.left(5) > 0
            patience.ended(5, amount=500)

    def test_ends_with_whoever_trickles(self) -> None:
        patience = Patience(10, rate=100)
        waits = 0
        while patience.left(3) >= 0:
            patience.ended(3, amount=1)
            waits += 1
        assert waits == 3

    def test_cannot_be_saved_up(self) -> None:
        patience = Patience(10, rate=100)
        patience.ended(0, amount=1e9)
        assert patience.left(10.5) < 0

    def test_without_a_rate_ends_with_silence_alone(self) -> None:
        patience = Patience(10, rate=0)
        for _ in range(100):
            patience.ended(9, amount=1)
        assert patience.left(9) > 0
        assert patience.left(11) < 0


class TestASlotOfAStreamingCall:
    @staticmethod
    def inbox(messages: Iterator[int], turn: Turn) -> Inbox[int]:
        return Inbox(
            messages,
            stall_seconds=60,
            cancelled=lambda: False,
            pixels=lambda message: message,
            slot=Slot(lend=turn.lend, take_back=lambda: turn.take_back(cancelled=lambda: False)),
        ).start()

    def test_is_lent_while_a_slow_client_lets_it_wait(self) -> None:
        admission, more = Admission(running=1, waiting=5), threading.Event()

        def messages() -> Iterator[int]:
            yield 1
            more.wait(60)
            yield 2

        with admission.enter("slow") as turn, admission.enter("other") as other, ThreadPoolExecutor(1) as pool:
            turn.when_free(lambda: None)
            inbox = self.inbox(messages(), turn)
            assert inbox.next() == 1
            following = pool.submit(inbox.next)
            begun = threading.Event()
            other.when_free(begun.set)
            assert begun.wait(60)
            more.set()
            until(lambda: turn.ahead == 1)  # its message has come, and it waits for its slot
            assert not following.done()
            other.lend()
            assert following.result(60) == 2

    def test_stays_with_a_client_that_sends_much(self) -> None:
        admission, more = Admission(running=1, waiting=5), threading.Event()

        def messages() -> Iterator[int]:
            yield 1 << 30
            more.wait(60)
            yield 2

        with admission.enter("quick") as turn, admission.enter("other") as other, ThreadPoolExecutor(1) as pool:
            turn.when_free(lambda: None)
            inbox = self.inbox(messages(), turn)
            inbox.next()
            following = pool.submit(inbox.next)
            other.when_free(lambda: pytest.fail("it had the slot"))
            assert other.ahead == 1
            more.set()
            assert following.result(60) == 2
            other.begin = None


class HalfRequest:
    """HTTP/2 by hand, to stop where no client library does."""

    def __init__(self, server: Server, method: str) -> None:
        host, port = server.endpoint.endpoint.split(":")
        self._socket = socket.create_connection((host, int(port)))
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": host,
            "content-type": "application/grpc",
            "te": "trailers",
            "authorization": f"Bearer {server.endpoint.token}",
        }
        block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers.items())
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0) + _frame(1, 4, 1, block))

    def __enter__(self) -> "HalfRequest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def part_of_a_message(self) -> None:
        self._socket.sendall(_frame(0, 0, 1, b"\x00\x00\x00\x00\x50abc"))

    def reset(self) -> None:
        self._socket.sendall(_frame(3, 0, 1, struct.pack(">I", 8)))

    def close(self) -> None:
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


@pytest.mark.parametrize("ends", ["reset", "close"])
@pytest.mark.parametrize("part", [False, True])
def test_half_requests_end_without_a_trace_in_the_log(
    ends: str, part: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    own = "/conceptseg.v1.SegmentationService/"
    methods = [f"{own}{name}" for name in ("GetServerInfo", "SegmentRegion", "SegmentPixels", "FitConcepts")]
    methods += ["/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Watch"]
    caplog.set_level(logging.DEBUG, logger="conceptseg")
    with running() as server:
        for method in methods:
            caplog.clear()
            with HalfRequest(server, method) as request:
                until(lambda: bool(server._interceptor._callers._calls))
                if part:
                    request.part_of_a_message()
                getattr(request, ends)()
                until(lambda: any(record.message == "call" for record in caplog.records))
            assert [record.message for record in caplog.records if record.exc_info] == []
    written = capfd.readouterr()
    assert "Traceback" not in written.out + written.err
