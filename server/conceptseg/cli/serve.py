"""``conceptseg serve``."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click

from conceptseg.cli.options import FILE, device_option
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.encoders.allocator import reuse_large_blocks
from conceptseg.qupath.run import annotate_in_threads
from conceptseg.rpc.limits import Limits
from conceptseg.rpc.logs import configure
from conceptseg.rpc.server import Server, ServeSettings

_LIMITS = Limits()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; any but loopback needs TLS.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--tls-cert", type=FILE, help="Certificate chain (PEM).")
@click.option("--tls-key", type=FILE, help="Private key (PEM).")
@click.option(
    "--root",
    "roots",
    type=FILE,
    multiple=True,
    help="Folder with images and QuPath projects that clients may name; projects are written. Several are possible. "
    "Without it the server opens no files.",
)
@device_option
@click.option("--weights", "weights", multiple=True, metavar="ENCODER=FILE", help="Local checkpoint of an encoder.")
@click.option("--max-concurrent", type=click.IntRange(1, 64), default=_LIMITS.running_calls, show_default=True)
@click.option("--max-waiting", type=click.IntRange(0, 1000), default=_LIMITS.waiting_calls, show_default=True)
@click.option(
    "--max-per-client",
    type=click.IntRange(1, 1000),
    default=_LIMITS.calls_per_client,
    show_default=True,
    help="Calls of one client at the same time: of another computer, or of one connection from this one.",
)
@click.option(
    "--max-sent-megapixels",
    type=click.FloatRange(0.01),
    default=_LIMITS.sent_region_px / 1e6,
    show_default=True,
    help="Pixels of a region sent by a client that are held in memory (3 bytes each). Larger regions stream through.",
)
@click.option(
    "--max-read-megapixels",
    type=click.FloatRange(0.01),
    default=_LIMITS.read_region_px / 1e6,
    show_default=True,
    help="Largest region.",
)
@click.option(
    "--call-timeout", type=click.FloatRange(0.1), default=_LIMITS.call_seconds, show_default=True, help="Seconds."
)
@click.option(
    "--stall-timeout",
    type=click.FloatRange(0.1),
    default=_LIMITS.stall_seconds,
    show_default=True,
    help="Seconds that a client may let the server wait, for its next message or to take one.",
)
@click.option(
    "--min-pixel-rate",
    type=click.FloatRange(0),
    default=_LIMITS.least_px_per_second,
    show_default=True,
    help="Pixels that a client must send, or bytes that it must take, for every further second; 0 for no such limit.",
)
@click.option("--parent-pid", type=int, help="End when this process ends.")
@click.option("--idle-timeout", type=click.FloatRange(0.1), help="End after so many seconds without a call.")
@click.option(
    "--drain-timeout", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to finish calls."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="JSON lines on standard error.",
)
def serve(
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    roots: tuple[Path, ...],
    device: str,
    weights: tuple[str, ...],
    max_concurrent: int,
    max_waiting: int,
    max_per_client: int,
    max_sent_megapixels: float,
    max_read_megapixels: float,
    call_timeout: float,
    stall_timeout: float,
    min_pixel_rate: float,
    parent_pid: int | None,
    idle_timeout: float | None,
    drain_timeout: float,
    log_level: str,
) -> None:
    """Start the server that QuPath talks to.

    Prints one line, READY and JSON, as soon as it can be used, and writes endpoint and token to server.json in the
    user's configuration folder, where QuPath and `conceptseg segment --server auto` find them.
    """
    configure(log_level)
    reuse_large_blocks()
    server = Server(
        ServeSettings(
            host=host,
            port=port,
            tls_certificate=tls_cert,
            tls_key=tls_key,
            roots=roots,
            device=device,
            weights=dict(_checkpoint(item) for item in weights),
            limits=Limits(
                running_calls=max_concurrent,
                waiting_calls=max_waiting,
                calls_per_client=max_per_client,
                sent_region_px=round(max_sent_megapixels * 1e6),
                read_region_px=round(max_read_megapixels * 1e6),
                call_seconds=call_timeout,
                stall_seconds=stall_timeout,
                least_px_per_second=min_pixel_rate,
            ),
            parent_pid=parent_pid,
            idle_seconds=idle_timeout,
            drain_seconds=drain_timeout,
        ),
        annotate=annotate_in_threads,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    click.echo(f"READY {json.dumps(server.ready())}")
    server.run()


def _checkpoint(item: str) -> tuple[str, Path]:
    name, separator, path = item.partition("=")
    if not (name and separator and path):
        raise InvalidRequestError(f"--weights {item}: expected ENCODER=FILE, e.g. uni=/models/uni.pth.")
    return name, Path(path)
