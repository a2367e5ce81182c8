"""The published algorithm, step by step, against ours on the same image and encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from conceptseg.bench.line import Line, medians, time_in_turn
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.kmeans import fit_kmeans
from conceptseg.factorization.learn import reference_projection
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings

_SIDE = 1024


def reference_lines(encoder: Encoder, texture: Rgb, *, ks: Sequence[int]) -> Iterator[Line]:
    """Yield ``end_to_end_kK``: image in, polygons out, against encoder, scikit-learn, interpolation and argmax.

    Theirs ends with a label map, ours with simplified polygons. A k above 64 is timed once: it takes minutes.
    """
    image = np.ascontiguousarray(texture[:_SIDE, :_SIDE])
    region = open_region(
        ArrayReader(image, name="texture", pixel_size_um=encoder.spec.pixel_size_um),
        region=None,
        pixel_size_um=encoder.spec.pixel_size_um,
    )
    features = encoder.encode(image[None]).cpu()
    tokens = features.reshape(-1, features.shape[3]).numpy()
    for k in ks:
        concepts = fit_kmeans(tokens, n_concepts=k, seed=0).concepts
        dictionary = ConceptDictionary(
            identifier=f"bench-k{k}",
            concepts=concepts,
            encoder=encoder.spec.identifier,
            pixel_size_um=encoder.spec.pixel_size_um,
        )

        def ours(dictionary: ConceptDictionary = dictionary) -> None:
            settings = SegmentSettings(whole_region=True)
            segment(region, encoder=encoder, dictionary=dictionary, settings=settings)

        def theirs(concepts: NDArray[np.float32] = concepts) -> None:
            grid = encoder.encode(image[None]).cpu()
            flat = grid.reshape(-1, grid.shape[3]).numpy()
            maps = reference_projection(flat, concepts).reshape(1, *grid.shape[1:3], -1)
            dense = torch.from_numpy(maps).permute(0, 3, 1, 2)
            torch.nn.functional.interpolate(dense, image.shape[:2], mode="bilinear").argmax(1)

        ours()
        runs = 3 if k <= 64 else 1
        mine, reference = medians(time_in_turn([ours, theirs], runs=runs, warm_up=False))
        yield Line(
            name=f"end_to_end_k{k}",
            ours=mine,
            baseline=reference,
            detail={"image": f"{image.shape[1]} × {image.shape[0]} px", "runs": runs},
        )
