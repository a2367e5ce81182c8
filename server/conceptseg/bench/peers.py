"""Other programs on the same input and encoder, each in the environment where it is installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import conceptseg
from conceptseg.bench.line import Line, medians, time_in_turn
from conceptseg.bench.process import measured_apart
from conceptseg.bench.slides import synthetic_slide
from conceptseg.bench.throughput import segment_file
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.qupath.geojson import write_geojson

EXTRACTORS = ("lazyslide", "tiatoolbox")
FACTORIZER = "grad-cam"
_K = 16


def peer_lines(
    pythons: Mapping[str, Path],
    encoder: Encoder,
    dictionary: ConceptDictionary,
    texture: Rgb,
    *,
    side_px: int,
    folder: Path,
) -> Iterator[Line]:
    """Yield ``wsi_vs_peer``, by the peer's defaults and at its best setting, and ``learned_vs_grad_cam``.

    Theirs ends with a feature per tile of 256 px, ours with polygons. All of the slide is tissue, so nobody's tissue
    detection decides how much there is to do.

    Args:
        pythons: The interpreter of each peer's environment.
        encoder: Ours; theirs is the same architecture up to the same layer, with random weights.
        dictionary: Our concepts.
        texture: (h, w, 3) tissue.
        side_px: Side of the slide.
        folder: For files that are needed meanwhile.
    """
    package = Path(conceptseg.__file__).parent
    shutil.copytree(package, folder / "peers" / package.name, ignore=shutil.ignore_patterns("*.jar", "*.safetensors"))
    spec = encoder.spec
    described = {
        "architecture": spec.architecture,
        "arguments": dict(spec.arguments),
        "layer": spec.layer,
        "mean": spec.mean,
        "std": spec.std,
    }

    def theirs(peer: str, **task: Any) -> dict[str, Any]:
        return measured_apart(
            "conceptseg.bench.foreign",
            peer,
            {**task, "encoder": described},
            python=pythons[peer],
            packages=folder / "peers",
        )

    extractors = [peer for peer in EXTRACTORS if peer in pythons]
    if extractors:
        slide = folder / "peers.tif"
        synthetic_slide(slide, texture, side_px=side_px, tissue_share=1.0)

        def polygons() -> None:
            write_geojson(folder / "peers.geojson", segment_file(slide, encoder=encoder, dictionary=dictionary))

        for peer in extractors:
            found, mine = theirs(peer, slide=str(slide)), _seconds(polygons)
            for which in ("default", "best"):
                yield Line(
                    name="wsi_vs_peer",
                    ours=mine,
                    baseline=found[f"{which}_seconds"],
                    detail={
                        "peer": f"{peer} {found['version']}",
                        "its setting": found["best_setting"] if which == "best" else "default",
                        "slide": f"{side_px} px, all tissue",
                        "its tiles": found["items"],
                        "our dictionary": f"k = {len(dictionary.concepts)}",
                    },
                )
    if FACTORIZER in pythons:
        np.save(folder / "peers.npy", texture)
        reader = ArrayReader(texture, name="texture", pixel_size_um=spec.pixel_size_um)
        region = open_region(reader, region=None, pixel_size_um=spec.pixel_size_um)
        settings = SegmentSettings(method="learned", n_concepts=_K, whole_region=True)
        found = theirs(FACTORIZER, image=str(folder / "peers.npy"), k=_K)
        yield Line(
            name="learned_vs_grad_cam",
            ours=_seconds(lambda: segment(region, encoder=encoder, dictionary=None, settings=settings)),
            baseline=found["default_seconds"],
            detail={"peer": f"{FACTORIZER} {found['version']}", "image": f"{texture.shape[1]} px", "k": _K},
        )


def _seconds(call: Callable[[], object]) -> float:
    return medians(time_in_turn([call], runs=3))[0]
