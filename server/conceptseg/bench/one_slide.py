"""``python -m conceptseg.bench.one_slide SLIDE ENCODER DEVICE K``: one slide, its time and memory as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from conceptseg.bench.process import peak_gib
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment
from conceptseg.qupath.geojson import write_geojson


def main(path: Path, *, encoder_name: str, device: str, k: int) -> dict[str, float]:
    """Segment a slide; the keys are those of `conceptseg.bench.growth.SlideRun`."""
    encoder = load_encoder(encoder_name, device=device)
    dictionary = find_dictionary(encoder=encoder_name, name=None, k=k)
    with open_image(path) as reader, tempfile.TemporaryDirectory() as folder:
        region = open_region(reader, region=None, pixel_size_um=encoder.spec.pixel_size_um)
        few = region.read(x=0, y=0, width=512, height=512)
        small = ArrayReader(few, name="warm-up", pixel_size_um=0.5)
        segment(open_region(small, region=None, pixel_size_um=0.5), encoder=encoder, dictionary=dictionary)
        started = time.perf_counter()
        found = segment(region, encoder=encoder, dictionary=dictionary)
        write_geojson(Path(folder) / "slide.geojson", found)
        seconds = time.perf_counter() - started
    return {
        "tissue_mm2": sum(concept.area_um2 for concept in found.concepts) / 1e6,
        "seconds": seconds,
        "peak_gib": peak_gib(),
        "polygons": len(found.polygons),
    }


if __name__ == "__main__":
    slide, encoder, device, k = sys.argv[1:]
    print(json.dumps(main(Path(slide), encoder_name=encoder, device=device, k=int(k))))
