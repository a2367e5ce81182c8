"""The whole command against the bare encoder; peak memory; seams."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from common import result, tissue

from conceptseg.bench.line import medians, time_in_turn
from conceptseg.bench.process import measured_apart
from conceptseg.bench.throughput import best_bare_forward
from conceptseg.encoders.load import load_encoder
from conceptseg.encoders.registry import get_spec
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.fit import fit_concepts
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.qupath.geojson import write_geojson

SIDE = 4096
RUNS = 5


def measure() -> Iterator[dict[str, Any]]:
    """Yield ``segment_vs_encoder``, ``seam_agreement`` per encoder, and ``peak_rss``."""
    yield _against_encoder()
    for encoder in ("default", "resnet50", "lunit-vits16"):
        yield _seams(encoder)
    yield _peak_memory()


def write_slide(path: Path, pixels: np.ndarray) -> None:
    """A tiled TIFF at 0.5 µm/px, JPEG quality 90 as scanners write it."""
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        tile=(512, 512),
        compression="jpeg",
        compressionargs={"level": 90},
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )


def _against_encoder() -> dict[str, Any]:
    """File to GeoJSON against the forward pass alone, at its best batch × memory format × tile in this process."""
    torch.set_num_threads(2)
    pixels, source_name = tissue(SIDE, SIDE)
    encoder, dictionary = load_encoder("default", device="cpu"), find_dictionary(encoder="default", name=None, k=16)
    stages: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        slide, output = Path(folder) / "slide.tif", Path(folder) / "out.geojson"
        write_slide(slide, pixels)

        def ours() -> None:
            with open_image(slide) as reader:
                region = open_region(reader, region=None, pixel_size_um=0.5)
                found = segment(region, encoder=encoder, dictionary=dictionary)
                write_geojson(output, found)
                stages.append(dict(found.seconds))

        bare, bare_px, setting = best_bare_forward(encoder, pixels)
        mine, theirs = medians(time_in_turn([ours, bare], runs=RUNS))
    return result(
        "segment_vs_encoder",
        ours=SIDE * SIDE / mine / 1e6,
        baseline=bare_px / theirs / 1e6,
        unit="Mpx/s",
        better="higher",
        bare_encoder=f"timm's own model up to the same layer, {setting}",
        image=f"{source_name}, tiled JPEG TIFF",
        k=16,
        runs=RUNS,
        median_stage_seconds={name: statistics.median(run[name] for run in stages) for name in stages[0]},
    )


def _seams(name: str) -> dict[str, Any]:
    """Share of pixels labelled alike with tiles of 256 px, of 1024 px, and one single tile."""
    pixels, source_name = tissue(1536, 1536)
    region = open_region(ArrayReader(pixels, name="tissue", pixel_size_um=0.5), region=None, pixel_size_um=0.5)
    encoder = load_encoder(name, device="cpu", random_weights=name != "default")
    dictionary = fit_concepts([region], encoder=encoder, ks=[16], provenance={}, total=1)[0]
    maps = [
        segment(
            region,
            encoder=encoder,
            dictionary=dictionary,
            settings=SegmentSettings(tile_px=tile, min_area_um2=0, min_hole_area_um2=0),
        ).label_map.labels
        for tile in (256, 1024, 1536)
    ]
    agreement = [float((maps[0] == other).mean()) for other in maps[1:]]
    return result(
        f"seam_agreement_{name}" if name != "default" else "seam_agreement",
        ours=min(agreement),
        baseline=0.999 if encoder.spec.window_px is None else 0.99,
        unit="share of pixels",
        better="higher",
        tiles="256 against 1024 and 1536 (one tile)",
        agreement=agreement,
        weights="ImageNet" if name == "default" else "random",
        window_px=encoder.spec.window_px,
        halo_px=encoder.spec.halo_px,
        image=source_name,
    )


def _peak_memory() -> dict[str, Any]:
    """Peak resident memory of a process that segments 2k², 4k², 8k² px; growth per output pixel."""
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in (2048, 4096, 8192):
            slide = Path(folder) / f"{side}.tif"
            write_slide(slide, tissue(side, side)[0])
            apart = measured_apart("conceptseg.bench.one_slide", slide, "default", "cpu", 16)
            peaks[side] = 1024 * apart["peak_gib"]
    growth = (peaks[8192] - peaks[4096]) * 2**20 / (8192**2 - 4096**2)
    spec = get_spec("default")
    features = spec.channels / spec.stride_px**2 * 4
    return result(
        "peak_rss",
        ours=peaks[8192],
        baseline=peaks[2048] + (8192**2 - 2048**2) * (3 + features) / 2**20,
        unit="MiB",
        peak_mib=peaks,
        bytes_per_output_pixel=growth,
        baseline_is="all pixels and all features of the region held in memory",
    )


if __name__ == "__main__":
    started = time.perf_counter()
    for line in measure():
        print(line, f"{time.perf_counter() - started:.0f} s", flush=True)
