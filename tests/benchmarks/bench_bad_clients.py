"""One good client beside 64 bad ones, on this computer's loopback interface alone.

A third of the bad ones do not read what they asked for, a third send a pixel now and then, a third fall silent. Every
call of theirs ends by itself after two minutes at most.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
from bench_rpc import _Server, _server, _source
from common import result, tissue

from conceptseg.domain.region import PixelGrid, Region
from conceptseg.rpc import convert
from conceptseg.rpc.auth import credentials
from conceptseg.v1 import segment_pb2, service_pb2_grpc

BAD, RUNS, GOOD_SIDE, UNREAD_SIDE = 64, 5, 1024, 1024
LONGEST_SECONDS, PIXEL_SECONDS = 120.0, 3.0


def measure() -> Iterator[dict[str, Any]]:
    """Yield ``grpc_bad_clients``: seconds of the good client's call beside bad ones, and alone."""
    source = _source(GOOD_SIDE, GOOD_SIDE)

    def median(server: _Server) -> float:
        seconds = []
        with server.client() as client:
            for _ in range(RUNS):
                started = time.perf_counter()
                client.segment(source)
                seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)

    with _server() as server:
        with server.client() as client:
            client.segment(source)
        alone = median(server)
        with ExitStack() as stack:
            stopped = threading.Event()
            calls = [_bad_call(server, number, stopped, stack) for number in range(BAD)]
            stack.callback(stopped.set)
            settled = _settled(server)
            beside = median(server)
            held = sum(call.is_active() for call in calls)
    yield result(
        "grpc_bad_clients",
        ours=beside,
        baseline=alone,
        times_as_long=beside / alone,
        bad=BAD,
        still_there_at_the_end=held,
        waiting_calls=settled,
        region_px=GOOD_SIDE,
    )


def _settled(server: _Server) -> int:
    """Wait until what the bad clients asked for is done; how many of their calls there are then."""
    until = time.perf_counter() + LONGEST_SECONDS / 2
    with server.client() as client:
        while (info := client.info()).running_calls or info.waiting_calls < BAD // 2:
            if time.perf_counter() > until:
                break
            time.sleep(0.1)
        return info.waiting_calls


def _bad_call(server: _Server, number: int, stopped: threading.Event, stack: ExitStack) -> Any:
    """A call on a connection of its own; what comes of it is never read."""
    # Small buffers, so that what is not read stays with the server.
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 16384),
    ]
    channel = stack.enter_context(grpc.insecure_channel(server.endpoint, options=options))
    messages = (_all_of_it, _trickle, _a_pixel_and_silence)[number % 3]
    return service_pb2_grpc.SegmentationServiceStub(channel).SegmentPixels(
        messages(stopped), metadata=(credentials(server.token),), timeout=LONGEST_SECONDS
    )


def _all_of_it(_: threading.Event) -> Iterator[segment_pb2.SegmentPixelsRequest]:
    """So many polygons that they do not fit the buffers between client and server."""
    yield _header(UNREAD_SIDE)
    yield _tile(0, 0, UNREAD_SIDE)


def _trickle(stopped: threading.Event) -> Iterator[segment_pb2.SegmentPixelsRequest]:
    yield _header(UNREAD_SIDE)
    for number in itertools.count():
        yield _tile(number % UNREAD_SIDE, number // UNREAD_SIDE, 1)
        if stopped.wait(PIXEL_SECONDS):
            return


def _a_pixel_and_silence(stopped: threading.Event) -> Iterator[segment_pb2.SegmentPixelsRequest]:
    yield _header(UNREAD_SIDE)
    yield _tile(0, 0, 1)
    stopped.wait(LONGEST_SECONDS)


def _header(side: int) -> segment_pb2.SegmentPixelsRequest:
    grid = PixelGrid(region=Region(x=0, y=0, width=side, height=side), width=side, height=side, pixel_size_um=0.5)
    settings = {"tolerance_px": 0, "min_area_um2": 0, "whole_region": True}
    options = {"dictionary": {"k": 64}, "want_label_map": True, "settings": settings}
    return segment_pb2.SegmentPixelsRequest(
        header={"pixels": {"grid": convert.grid_to_proto(grid)}, "options": options}
    )


def _tile(x: int, y: int, side: int) -> segment_pb2.SegmentPixelsRequest:
    pixels, _ = tissue(side, side)
    return segment_pb2.SegmentPixelsRequest(
        tile={
            "rect": {"x": x, "y": y, "width": side, "height": side},
            "encoding": segment_pb2.PIXEL_ENCODING_RAW_RGB,
            "data": np.ascontiguousarray(pixels).tobytes(),
        }
    )
