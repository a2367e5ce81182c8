"""Does ahead what the first segmentation on a computer would make people wait for."""

from __future__ import annotations

import cv2
import numpy as np

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.region import Region
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.array_reader import ArrayReader
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.source import open_region
from conceptseg.pipeline.segment import segment
from conceptseg.pipeline.settings import SegmentSettings

_WIDTH_PX, _HEIGHT_PX = 4608, 256
"""More than one sheet wide, so that sheets are joined too."""


def compile_ahead(encoder: Encoder, dictionary: ConceptDictionary) -> None:
    """Segment made-up tissue: loops that are compiled at their first use are on disk afterwards, for every process.

    Args:
        encoder: The encoder to do it with.
        dictionary: A dictionary of its.
    """
    size_um = encoder.spec.pixel_size_um
    # Finer than the encoder wants it, so that pixels are averaged.
    reader = ArrayReader(_made_up(2 * _WIDTH_PX, 2 * _HEIGHT_PX), name="made-up tissue", pixel_size_um=size_um / 2)
    whole = open_region(reader, region=None, pixel_size_um=size_um)
    segment(whole, encoder=encoder, dictionary=dictionary)
    corner = open_region(reader, region=Region(x=0, y=0, width=512, height=512), pixel_size_um=size_um)
    segment(corner, encoder=encoder, dictionary=None, settings=SegmentSettings(method="learned", n_concepts=4))


def _made_up(width: int, height: int) -> Rgb:
    """Areas in the colours of nuclei, stroma and glass, (height, width, 3)."""
    random = np.random.default_rng(0)
    field = cv2.resize(random.random((height // 32, width // 32)), (width, height), interpolation=cv2.INTER_CUBIC)
    colours = np.array([[92, 52, 128], [214, 130, 176], [243, 243, 243]], np.uint8)
    grain = random.integers(0, 12, (height, width, 1), dtype=np.uint8)
    tissue: Rgb = colours[np.digitize(field, [0.4, 0.7])] - grain
    return tissue
