"""The server against the local call and against bare grpcio; cancelling; many requests."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from common import result, time_in_turn, tissue

from conceptseg.domain.errors import CancelledByCallerError
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.source import RegionSource, open_region
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.segment import segment
from conceptseg.qupath.geojson import feature_collection
from conceptseg.rpc.client import Client

SIDE = 4096
CLIENTS, REQUESTS_EACH, REGION_SIDE = 8, 4, 768
CANCELLED, WARM_UP_CANCELS = 200, 50
SOAK, SOAK_WARM_UP, SOAK_SIDE = 2000, 200, 128

# The least that grpcio does: bytes in, the same bytes out.
_BARE_SERVER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import grpc
echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server = grpc.server(ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", {"Echo": echo}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
"""


def measure() -> Iterator[dict[str, Any]]:
    """Yield the five results whose names begin with ``grpc_``."""
    with _server() as server:
        yield _unary(server)
        yield _stream_against_local(server)
    for part in (_concurrent, _cancel, _soak):  # each with a server of its own: they report its memory
        with _server() as server:
            yield part(server)


class _Server:
    def __init__(self, process: subprocess.Popen[str], endpoint: str, token: str) -> None:
        self.endpoint, self.token = endpoint, token
        self._process = psutil.Process(process.pid)

    def client(self) -> Client:
        return Client(self.endpoint, self.token)

    @property
    def rss_mb(self) -> float:
        return self._process.memory_info().rss / 2**20

    @property
    def peak_rss_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10

    @property
    def threads(self) -> int:
        return self._process.num_threads()

    def seconds_until_idle(self) -> float:
        started = time.perf_counter()
        with self.client() as client:
            while client.info().running_calls or client.info().waiting_calls:
                time.sleep(0.005)
        return time.perf_counter() - started


@contextmanager
def _server() -> Iterator[_Server]:
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "conceptseg.cli.main", "serve", "--device", "cpu", "--log-level", "warning"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"CONCEPTSEG_CONFIG_DIR": folder},
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("READY ")
            found = json.loads((Path(folder) / "server.json").read_text())
            yield _Server(process, found["endpoint"], found["token"])
        finally:
            process.terminate()
            process.wait()


def _source(height: int, width: int, *, shift: int = 0) -> RegionSource:
    pixels, _ = tissue(height + shift, width + shift)
    reader = ArrayReader(np.ascontiguousarray(pixels[shift:, shift:]), name="tissue", pixel_size_um=0.5)
    return open_region(reader, region=None, pixel_size_um=0.5)


def _geojson(outcome: SegmentationResult) -> bytes:
    return b"".join(feature_collection(replace(outcome, run_id="run")))


def _unary(server: _Server) -> dict[str, Any]:
    """Round trip of the smallest call, token check and log line included, and of bare grpcio in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _BARE_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        with (
            grpc.insecure_channel(f"127.0.0.1:{process.stdout.readline().strip()}") as channel,
            server.client() as ours,
        ):
            echo = channel.unary_unary("/bare/Echo")
            calls: list[Callable[[], Any]] = [ours.info, lambda: echo(b"x"), ours.list_encoders]
            for call in calls:
                for _ in range(100):
                    call()
            info, bare, encoders = ([1000 * s for s in line] for line in time_in_turn(calls, runs=1000))
    finally:
        process.communicate()
    return result(
        "grpc_unary_ms",
        ours=statistics.median(info),
        baseline=statistics.median(bare),
        unit="ms",
        p99_ms=statistics.quantiles(info, n=100)[98],
        bare_p99_ms=statistics.quantiles(bare, n=100)[98],
        list_encoders_ms=statistics.median(encoders),
    )


def _stream_against_local(server: _Server) -> dict[str, Any]:
    """The same 4096² px segmented in this process, and by the server: raw RGB there, all results back."""
    source, encoder = _source(SIDE, SIDE), load_encoder("default", device="cpu")
    dictionary = find_dictionary(encoder="default", name=None, k=None)
    outcomes: list[SegmentationResult] = []
    with server.client() as client:
        local, remote = time_in_turn(
            [
                lambda: outcomes.append(segment(source, encoder=encoder, dictionary=dictionary)),
                lambda: outcomes.append(client.segment(source)),
            ],
            runs=5,
        )
    ratios = [theirs / ours for theirs, ours in zip(local, remote, strict=True)]
    return result(
        "grpc_stream_vs_local",
        ours=statistics.median(remote),
        baseline=statistics.median(local),
        ratios_of_pairs=ratios,
        equal=len({_geojson(outcome) for outcome in outcomes}) == 1,
        polygons=len(outcomes[0].polygons),
    )


def _concurrent(server: _Server) -> dict[str, Any]:
    """Regions per second of 8 clients with 4 requests each, and of one client with 32 in a row."""
    sources = [_source(REGION_SIDE, REGION_SIDE, shift=37 * i) for i in range(REQUESTS_EACH)]
    encoder = load_encoder("default", device="cpu")
    dictionary = find_dictionary(encoder="default", name=None, k=None)
    expected = [_geojson(segment(source, encoder=encoder, dictionary=dictionary)) for source in sources]
    wrong: list[int] = []

    def one_client(number: int) -> None:
        with server.client() as client:
            for step in range(REQUESTS_EACH):
                index = (number + step) % len(sources)
                if _geojson(client.segment(sources[index])) != expected[index]:
                    wrong.append(index)

    def together() -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(one_client, range(CLIENTS)))

    def in_a_row() -> None:
        for number in range(CLIENTS):
            one_client(number)

    concurrent, single = time_in_turn([together, in_a_row], runs=3)
    total = CLIENTS * REQUESTS_EACH
    return result(
        "grpc_concurrent_throughput",
        ours=total / statistics.median(concurrent),
        baseline=total / statistics.median(single),
        unit="regions/s",
        better="higher",
        region_px=REGION_SIDE,
        wrong=len(wrong),
        peak_rss_mb=server.peak_rss_mb,
    )


def _cancel(server: _Server) -> dict[str, Any]:
    """Memory of the server after 200 cancelled calls against before; how long the work goes on after a cancel."""
    source = _source(1536, 1536)
    rng = random.Random(0)

    def cancel_one(client: Client, *, after: float) -> None:
        stop = threading.Event()
        timer = threading.Timer(after, stop.set)
        timer.start()
        try:
            client.segment(source, cancelled=stop.is_set)
        except CancelledByCallerError:
            pass
        finally:
            timer.cancel()

    with server.client() as client:
        for _ in range(WARM_UP_CANCELS):
            cancel_one(client, after=rng.random() * 0.3)
        server.seconds_until_idle()
        time.sleep(5)
        before, threads_before = server.rss_mb, server.threads
        working_on = []
        for _ in range(CANCELLED):
            cancel_one(client, after=rng.random() * 0.3)
            working_on.append(server.seconds_until_idle())
        time.sleep(5)
        after, threads_after = server.rss_mb, server.threads
    return result(
        "grpc_cancel",
        ours=after,
        baseline=before,
        unit="MB",
        cancelled=CANCELLED,
        threads_before=threads_before,
        threads_after=threads_after,
        seconds_until_work_stops_median=statistics.median(working_on),
        seconds_until_work_stops_max=max(working_on),
        peak_rss_mb=server.peak_rss_mb,
    )


def _soak(server: _Server) -> dict[str, Any]:
    """Memory of the server after 2,000 small requests against that after the first ones."""
    sources = [_source(SOAK_SIDE + 16 * i, SOAK_SIDE) for i in range(4)]
    failures = 0
    seconds = []
    with server.client() as client:
        expected = [_geojson(client.segment(source)) for source in sources]
        for number in range(SOAK_WARM_UP):
            client.segment(sources[number % 4])
        before, threads_before = server.rss_mb, server.threads
        for number in range(SOAK):
            started = time.perf_counter()
            failures += _geojson(client.segment(sources[number % 4])) != expected[number % 4]
            seconds.append(time.perf_counter() - started)
        after = server.rss_mb
    return result(
        "grpc_soak",
        ours=after,
        baseline=before,
        unit="MB",
        requests=SOAK,
        failures=failures,
        threads_before=threads_before,
        threads_after=server.threads,
        median_ms=1000 * statistics.median(seconds),
    )
