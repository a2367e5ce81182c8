"""A region in, concept polygons out: the main job."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from conceptseg.domain.classes import ConceptClass, default_classes
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.labels import LabelMap, Labels, label_dtype
from conceptseg.domain.polygons import ConceptPolygon
from conceptseg.domain.progress import (
    IsCancelled,
    Progress,
    ReportProgress,
    never_cancelled,
    report_nothing,
    stop_if,
)
from conceptseg.domain.region import PixelGrid
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.upsample import component_statistics, upsample_argmax
from conceptseg.geometry.coverage import Coverage, polygonize
from conceptseg.geometry.place import concept_polygons, rasterize, require_clip
from conceptseg.geometry.sieve import remove_small
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.activate import Activated, activate, tissue_pixels
from conceptseg.pipeline.result import ConceptSummary, SegmentationResult
from conceptseg.pipeline.settings import SegmentSettings

_BAND_ROWS = 1024


def segment(
    source: PixelSource,
    *,
    encoder: Encoder,
    dictionary: ConceptDictionary | None,
    settings: SegmentSettings | None = None,
    clip: Polygon | MultiPolygon | None = None,
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> SegmentationResult:
    """Segment a region into concept polygons.

    Args:
        source: The region's pixels on its analysis grid.
        encoder: The frozen encoder.
        dictionary: The concepts; None for method ``learned``.
        settings: How; the defaults when None.
        clip: Shape of the parent annotation in full-resolution px; None for the whole region.
        progress: Told after every tile and stage.
        cancelled: Asked before every batch of tiles and every stage.

    Returns:
        Polygons that form one planar coverage of the labelled tissue, label map, and a summary per concept. A
        region without tissue gives a result without polygons.

    Raises:
        ConceptSegError: see the error tree; there is no partial result.
    """
    settings = settings or SegmentSettings()
    if clip is not None:
        require_clip(clip)
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        stop_if(cancelled)
        if name != "encode":
            progress(Progress(stage=name, done=0, total=1))
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started
        if name != "encode":
            progress(Progress(stage=name, done=1, total=1))

    with stage("encode"):
        activated = activate(
            source,
            encoder=encoder,
            dictionary=dictionary,
            settings=settings,
            progress=progress,
            cancelled=cancelled,
        )
    seconds["encode"] = activated.encode_seconds
    seconds["factorize"] = activated.factorize_seconds
    n_concepts = len(activated.concepts)
    grid = source.grid
    with stage("label"):
        labels = _labels(activated, grid=grid, stride_px=encoder.spec.stride_px, settings=settings, clip=clip)
    with stage("polygons"):
        coverage = polygonize(labels, tolerance_px=settings.tolerance_px)
        components, outlines = concept_polygons(coverage, grid=grid, clip=clip)
    with stage("measure"):
        activation, purity = component_statistics(
            activated.labelled_activations,
            stride_px=encoder.spec.stride_px,
            labels=labels,
            components=coverage.components.map,
            area_px=coverage.components.area_px,
        )
        polygons = _measured(outlines, components, coverage, activation=activation, purity=purity, grid=grid)
        classes = _classes(dictionary, n_concepts)
        summaries = _summaries(polygons, classes, coverage, activation=activation)
    return SegmentationResult(
        run_id=str(uuid.uuid4()),
        image=source.name,
        label_map=LabelMap(labels=labels, grid=grid, n_concepts=n_concepts),
        polygons=polygons,
        concepts=summaries,
        encoder=encoder.spec.identifier,
        dictionary=dictionary.identifier if dictionary else f"learned-k{n_concepts}-seed{settings.seed}",
        method=settings.method,
        relative_residual=activated.relative_residual,
        seconds=seconds,
    )


def _labels(
    activated: Activated,
    *,
    grid: PixelGrid,
    stride_px: int,
    settings: SegmentSettings,
    clip: Polygon | MultiPolygon | None,
) -> Labels:
    """The cleaned label map (grid.height, grid.width)."""
    labels: Labels = upsample_argmax(activated.activations, stride_px=stride_px, height=grid.height, width=grid.width)
    if activated.relabel is not None:
        table = np.zeros(len(activated.relabel) + 1, label_dtype(len(activated.concepts)))
        table[1:] = activated.relabel + 1
        labels = table[labels]
    if not settings.whole_region:
        for first in range(0, grid.height, _BAND_ROWS):
            last = min(first + _BAND_ROWS, grid.height)
            labels[first:last] *= tissue_pixels(activated, first_row=first, last_row=last, width=grid.width)
    if clip is not None:
        labels *= rasterize(clip, grid=grid, dilate_px=int(np.ceil(settings.tolerance_px)) + 2)
    return remove_small(
        labels,
        min_area_px=settings.min_area_um2 / grid.pixel_area_um2,
        min_hole_area_px=settings.min_hole_area_um2 / grid.pixel_area_um2,
    )


def _measured(
    outlines: NDArray[np.object_],
    components: NDArray[np.int32],
    coverage: Coverage,
    *,
    activation: NDArray[np.float64],
    purity: NDArray[np.float64],
    grid: PixelGrid,
) -> tuple[ConceptPolygon, ...]:
    areas = shapely.area(outlines) * grid.full_pixel_area_um2
    perimeters = shapely.length(outlines) * grid.full_pixel_size_um
    total = float(areas.sum())
    concepts = coverage.components.label[components].astype(np.int64) - 1
    rows = zip(
        concepts.tolist(),
        outlines,
        areas.tolist(),
        perimeters.tolist(),
        activation[components].tolist(),
        purity[components].tolist(),
        strict=True,
    )
    return tuple(
        ConceptPolygon(
            concept=concept,
            polygon=outline,
            measurements={
                "Area µm^2": area,
                "Area %": 100 * area / total,
                "Perimeter µm": perimeter,
                "Mean activation": mean_activation,
                "Concept purity": mean_purity,
            },
        )
        for concept, outline, area, perimeter, mean_activation, mean_purity in rows
    )


def _summaries(
    polygons: Sequence[ConceptPolygon],
    classes: tuple[ConceptClass, ...],
    coverage: Coverage,
    *,
    activation: NDArray[np.float64],
) -> tuple[ConceptSummary, ...]:
    n = len(classes)
    concepts = np.array([polygon.concept for polygon in polygons], np.int64)
    areas = np.bincount(concepts, [polygon.measurements["Area µm^2"] for polygon in polygons], minlength=n)
    counts = np.bincount(concepts, minlength=n)
    parts = coverage.components
    pixels = np.bincount(parts.label, parts.area_px, minlength=n + 1)[1:]
    summed = np.bincount(parts.label, parts.area_px * activation, minlength=n + 1)[1:]
    total = max(float(areas.sum()), np.finfo(float).tiny)
    return tuple(
        ConceptSummary(
            concept_class=classes[k],
            area_um2=float(areas[k]),
            area_percent=100 * float(areas[k]) / total,
            polygons=int(counts[k]),
            mean_activation=float(summed[k] / pixels[k]) if pixels[k] else 0.0,
        )
        for k in range(n)
    )


def _classes(dictionary: ConceptDictionary | None, n_concepts: int) -> tuple[ConceptClass, ...]:
    return dictionary.classes if dictionary is not None else default_classes(n_concepts)
