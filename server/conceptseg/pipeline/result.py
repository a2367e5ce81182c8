"""What a segmentation returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.labels import LabelMap
from conceptseg.domain.polygons import ConceptPolygon


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptSummary:
    """One concept over the whole region.

    Attributes:
        concept_class: Index, name and colour.
        area_um2: Area in µm².
        area_percent: Share of the labelled tissue in %.
        polygons: Number of polygons.
        mean_activation: Mean activation over the concept's own pixels; 0 if it has none.
    """

    concept_class: ConceptClass
    area_um2: float
    area_percent: float
    polygons: int
    mean_activation: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationResult:
    """Everything a run found in one region.

    Attributes:
        run_id: Identifies the run in every object it makes.
        image: Name of the image.
        label_map: Concept of every output pixel; carries the region and the pixel grid.
        polygons: One planar coverage of the labelled area, in full-resolution px.
        concepts: One summary per concept of the dictionary, in its order.
        encoder: Identifier of the encoder.
        dictionary: Identifier of the concept dictionary.
        method: How activations were computed.
        relative_residual: ||F - D^T A|| / ||F|| over the tissue tokens; NaN where the method has none.
        seconds: Wall time per stage.
        remarks: Sentences about the slide that the user should know.
    """

    run_id: str
    image: str
    label_map: LabelMap
    polygons: tuple[ConceptPolygon, ...]
    concepts: tuple[ConceptSummary, ...]
    encoder: str
    dictionary: str
    method: str
    relative_residual: float
    seconds: Mapping[str, float]
    remarks: tuple[str, ...] = ()
