"""How long QuPath takes to show many polygons, and what it adds to the segmentation itself.

Run by hand on a machine with QuPath, Xvfb, openbox and xdotool; the jar must be built (``make jar``):

    python tests/benchmarks/bench_qupath.py --image SLIDE

The overhead is the time of a script's ``ConceptSeg.segment(..).wholeImage().run()`` (QuPath reads the pixels, sends
them, makes annotations and adds them) over that of the same segmentation of pixels in memory, without QuPath.

Many polygons count from the server's summary until the window is at rest again. A server of its own speaks the real
protocol and sends outlines of 30 vertices; the real extension makes annotations of them in the real window. QuPath
paints annotations on its JavaFX thread, so they are on the screen when that thread was kept busy for the last time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import shapely
from common import time_in_turn

from conceptseg.domain.classes import default_classes
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment
from conceptseg.qupath.install import find_extension
from conceptseg.qupath.locate import QuPathInstallation, find_qupath_installations
from conceptseg.rpc.servicer import PROTOCOL_REVISION
from conceptseg.v1 import catalogue_pb2, common_pb2, segment_pb2, service_pb2_grpc

sys.path.insert(0, str(Path(__file__).parents[1] / "qupath_client"))
from qupath_window import install_extension, isolated, open_qupath

CONCEPTS = 16
VERTICES = 30
BATCH = 800
AT_REST_SECONDS = 4
RUNS = 9
SEGMENT = f"""
import io.github.conceptseg.ConceptSeg
def imageData = getCurrentImageData()
{RUNS + 2}.times {{
    def started = System.nanoTime()
    ConceptSeg.segment(imageData).wholeImage().run()
    println "RUN " + (System.nanoTime() - started) / 1e9
    System.in.read()
}}
"""


class ManyPolygons(service_pb2_grpc.SegmentationServiceServicer):
    """Answers every region with ``count`` outlines all over it, without looking at the pixels."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.summary_sent = 0.0
        self.all_sent = 0.0

    def GetServerInfo(self, _request: object, _context: object) -> catalogue_pb2.GetServerInfoResponse:  # noqa: N802
        return catalogue_pb2.GetServerInfoResponse(name="conceptseg", protocol_revision=PROTOCOL_REVISION)

    def PlanRegion(  # noqa: N802
        self, request: catalogue_pb2.PlanRegionRequest, _context: object
    ) -> catalogue_pb2.PlanRegionResponse:
        self.region = request.region
        rect = common_pb2.OutputRect(width=64, height=64)
        grid = common_pb2.PixelGrid(region=request.region, width=64, height=64, grid_pixel_size_um=1)
        tile = catalogue_pb2.PlannedTile(rect=rect, region=request.region)
        return catalogue_pb2.PlanRegionResponse(grid=grid, downsample=1, window=rect, tiles=[tile])

    def SegmentPixels(  # noqa: N802
        self, requests: Iterator[segment_pb2.SegmentPixelsRequest], _context: object
    ) -> Iterator[segment_pb2.SegmentEvent]:
        for _ in requests:
            pass
        outlines = [outline.wkb for outline in self._outlines()]
        summary = segment_pb2.SegmentSummary(run_id="bench", dictionary="bench", polygon_count=self.count)
        for item in default_classes(CONCEPTS):
            colour = int.from_bytes(bytes(item.colour), "big")
            concept = common_pb2.ConceptClass(concept=item.concept, name=item.name, colour_rgb=colour)
            summary.concepts.add(concept_class=concept)
        self.summary_sent = time.time()
        yield segment_pb2.SegmentEvent(summary=summary)
        for start in range(0, self.count, BATCH):
            batch = segment_pb2.PolygonBatch(measurement_names=["Area µm^2", "Mean activation"])
            for index, wkb in enumerate(outlines[start : start + BATCH], start):
                batch.polygons.add(concept=index % CONCEPTS, wkb=wkb, measurements=[float(index), 0.5])
            yield segment_pb2.SegmentEvent(polygons=batch)
        self.all_sent = time.time()

    def _outlines(self) -> np.ndarray:
        """Blobs on a lattice that fills the region."""
        region, random = self.region, np.random.default_rng(0)
        columns = round((self.count * region.width / region.height) ** 0.5)
        spacing = region.width / columns
        index = np.arange(self.count)
        x, y = region.x + spacing * (index % columns + 0.5), region.y + spacing * (index // columns + 0.5)
        angle = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
        radius = spacing * random.uniform(0.3, 0.5, (self.count, VERTICES))
        points = np.stack([x[:, None] + radius * np.cos(angle), y[:, None] + radius * np.sin(angle)], axis=-1)
        return shapely.polygons(points)


def measure(
    installation: QuPathInstallation, jar: Path, count: int, image: Path, screenshot: Path | None
) -> dict[str, float]:
    """Seconds after the server's summary until all objects are there, and until they are drawn."""
    server = grpc.server(ThreadPoolExecutor(8))
    polygons = ManyPolygons(count)
    service_pb2_grpc.add_SegmentationServiceServicer_to_server(polygons, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = isolated(folder) | {"CONCEPTSEG_SERVER": f"127.0.0.1:{port}", "CONCEPTSEG_TOKEN": "bench"}
        install_extension(jar, environment)
        with open_qupath(installation, folder, environment) as window:
            window.make_project(folder / "project", image)
            window.open_image()
            window.ask(
                "added = 0L\n"
                "def hierarchy = getQuPath().getImageData().getHierarchy()\n"
                f"hierarchy.addListener {{ if (it.getChangedObjects().size() >= {count}) "
                "added = System.currentTimeMillis() }"
            )
            window.menu("Extensions", "ConceptSeg", "Segment selected annotations")
            added = window.wait_for("added", seconds=300) / 1000
            window.ask("longestWait.set(0)")
            drawn = 0.0
            while time.time() < (drawn or time.time()) + AT_REST_SECONDS:
                time.sleep(1)
                drawn = window.ask("Math.max(lastStall.get(), added)") / 1000
            if screenshot is not None:
                window.screenshot(screenshot.with_stem(f"{screenshot.stem}-{installation.version}"))
    server.stop(None)
    return {
        "received": polygons.all_sent - polygons.summary_sent,
        "added": added - polygons.summary_sent,
        "drawn": drawn - polygons.summary_sent,
    }


def segment_in_memory(image: Path) -> Callable[[], object]:
    """The segmentation alone: pixels at full resolution are there already."""
    encoder, dictionary = load_encoder("default"), find_dictionary(encoder="default", name=None, k=None)
    with open_image(image) as reader:
        pixels = reader.read(x=0, y=0, width=reader.width, height=reader.height, scale_x=1, scale_y=1)
        array = ArrayReader(pixels, name=image.name, pixel_size_um=reader.pixel_size_um)
    source = open_region(array, region=None, pixel_size_um=encoder.spec.pixel_size_um)
    return lambda: segment(source, encoder=encoder, dictionary=dictionary)


def overhead(installation: QuPathInstallation, jar: Path, image: Path) -> tuple[list[float], list[float]]:
    """Seconds of a script that segments the whole image in QuPath, and of the segmentation alone, in turn."""
    inside, alone, call = [], [], segment_in_memory(image)
    with tempfile.TemporaryDirectory() as name:
        environment = isolated(Path(name))
        install_extension(jar, environment)
        script = Path(name) / "segment.groovy"
        script.write_text(SEGMENT, encoding="utf-8")
        command = [installation.launcher, "script", "-i", image, script]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=os.environ | environment, **pipes) as process:
            for line in process.stdout:
                if "RUN " in line:
                    inside.append(float(line.split("RUN ")[1]))
                    alone += time_in_turn([call], runs=1, warm_up=False)[0]
                    process.stdin.write("\n")
                    process.stdin.flush()
    return inside[2:], alone[2:]  # the first ones start the server and load the encoder


def main() -> None:
    """Measure every QuPath that is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, required=True, help="Any image that QuPath opens, e.g. a slide.")
    parser.add_argument("--polygons", type=int, default=20_000)
    parser.add_argument("--screenshot", type=Path, help="Keep a picture of the screen (needs ImageMagick).")
    arguments = parser.parse_args()
    jar, image = find_extension().jar, arguments.image.resolve()
    for installation in find_qupath_installations():
        inside, alone = overhead(installation, jar, image)
        ratio = statistics.median(a / b for a, b in zip(inside, alone, strict=True))
        told = f"{statistics.median(inside):.2f} s, in memory {statistics.median(alone):.2f} s"
        print(f"QuPath {installation.version}: {told}, overhead {ratio - 1:.0%} (median of pairs)", flush=True)
        seconds = measure(installation, jar, arguments.polygons, image, arguments.screenshot)
        told = ", ".join(f"{step} after {value:.1f} s" for step, value in seconds.items())
        print(f"QuPath {installation.version}: {arguments.polygons} polygons {told}", flush=True)


if __name__ == "__main__":
    main()
