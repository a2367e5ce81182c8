"""Everything a page shows, as plain values that JSON can hold."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conceptseg import __version__
from conceptseg.domain.errors import ImageError, RegionError
from conceptseg.domain.per_file import PerFile, without_name
from conceptseg.domain.progress import Progress, ReportProgress, report_nothing
from conceptseg.imaging.reader import ImageReader, open_image
from conceptseg.report.evidence import (
    ACTIVATION,
    PURITY,
    Concept,
    Evidence,
    Piece,
    Slide,
    areas_px,
    concepts_of,
    measured,
    rows_of_pieces,
)
from conceptseg.report.gallery import PATCH_PX, Choice, Patch, choose, cut, field_um
from conceptseg.report.neighbours import shared_borders, similarities
from conceptseg.report.overview import STEPS_PER_PX, encoded_polygons, thumbnail, view_of
from conceptseg.report.review import own_names_of, review_of

_MOST_PATCHES, _FEWEST_PATCHES, _ALL_PATCHES = 6, 2, 420
_LARGEST_THUMBNAIL, _SMALLEST_THUMBNAIL, _ALL_THUMBNAILS_PX = 1600, 500, 28e6
_NEAREST = 3
_THREADS = 2  # decoding releases the interpreter's lock, and more would not be faster on a laptop
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Document:
    """What a page shows.

    Attributes:
        concepts: Its concepts, in the order of the rows.
        content: Plain values; `conceptseg.report.page` writes them into a page.
        warnings: What is missing, in sentences.
    """

    concepts: tuple[Concept, ...]
    content: dict[str, Any]
    warnings: tuple[str, ...]


def build(evidence: Evidence, *, progress: ReportProgress = report_nothing) -> Document:
    """Look at all slides and collect what a page shows.

    A slide that cannot be read is shown without pixels, with a note.

    Args:
        evidence: What was found.
        progress: Told after every slide.
    """
    concepts = concepts_of(evidence.slides)
    each = round(min(max(_ALL_PATCHES / (2 * max(len(concepts), 1)), _FEWEST_PATCHES), _MOST_PATCHES))
    chosen = choose(evidence.slides, concepts, each=each)
    max_px = math.sqrt(_ALL_THUMBNAILS_PX / max(len(evidence.slides), 1))
    max_px = round(min(max(max_px, _SMALLEST_THUMBNAIL), _LARGEST_THUMBNAIL))
    wanted: list[list[Choice]] = [[] for _ in evidence.slides]
    for kinds in chosen:
        for choice in (*kinds[0], *kinds[1]):
            wanted[choice.slide].append(choice)
    progress(Progress(stage="report", done=0, total=len(evidence.slides)))
    looks = []
    with ThreadPoolExecutor(_THREADS) as threads:
        jobs = [
            threads.submit(_look, slide, concepts, choices, max_px)
            for slide, choices in zip(evidence.slides, wanted, strict=True)
        ]
        for done, job in enumerate(jobs, start=1):
            looks.append(job.result())
            progress(Progress(stage="report", done=done, total=len(jobs)))
    patches = {(p.choice.slide, p.choice.piece): p for look in looks for p in look.patches}
    content = {
        "title": evidence.title,
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "patchPx": PATCH_PX,
        "stepsPerPx": STEPS_PER_PX,
        "slides": [look.content for look in looks],
        "concepts": _concepts(evidence, concepts, looks, chosen, patches),
        "review": review_of(evidence, concepts, evidence.labels),
        "classes": [
            {"name": name, "colour": list(colour) if colour else None}
            for name, colour in evidence.class_colours.items()
        ],
        "provenance": dict(evidence.provenance),
        "dictionaries": [
            {"identifier": item.identifier, "encoder": item.encoder, "concepts": item.n_concepts, **item.provenance}
            for item in evidence.dictionaries.values()
        ],
    }
    told = PerFile()
    warnings = (
        told.line(look.content["name"], look.content["note"], what="shown without its pixels")
        for look in looks
        if look.content["note"]
    )
    return Document(concepts=concepts, content=content, warnings=tuple(warnings))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look:
    """What one slide contributes; arrays have one item per concept."""

    content: dict[str, Any]
    patches: list[Patch]
    area_px: NDArray[np.float64]
    polygons: NDArray[np.int64]
    activation: NDArray[np.float64]
    purity: NDArray[np.float64]
    borders: NDArray[np.float64]


def _look(slide: Slide, concepts: Sequence[Concept], choices: Sequence[Choice], max_px: int) -> _Look:
    reader, note = None, slide.problem
    if note is None and slide.file is not None:
        try:
            reader = _on_plane(open_image(slide.file, series=slide.series), slide.plane)
        except (ImageError, RegionError) as error:
            note = str(error)
    picture = None
    try:
        view = view_of(slide, image=(reader.width, reader.height) if reader else None, max_px=max_px)
        if reader is not None:
            try:
                picture = thumbnail(reader, view)
            except ImageError as error:
                note = str(error)
        patches = cut(slide, reader if picture else None, choices)
    finally:
        if reader is not None:
            reader.close()
    n = len(concepts)
    rows, areas = rows_of_pieces(slide, concepts), areas_px(slide)
    region = view.region
    return _Look(
        content={
            "name": slide.name,
            "note": without_name(slide.name, note) if note else None,
            "picture": picture,
            "width": view.width,
            "height": view.height,
            "region": [region.x, region.y, region.width, region.height],
            "umPerPx": _finite(view.scale * slide.pixel_size_um) if slide.pixel_size_um else None,
            "patchUm": _finite(field_um(slide)),
            "polygons": encoded_polygons(slide, concepts, view),
            "provenance": dict(slide.provenance),
        },
        patches=patches,
        area_px=np.bincount(rows, areas, minlength=n).astype(np.float64),
        polygons=np.bincount(rows, minlength=n),
        activation=_means(rows, areas, measured(slide, ACTIVATION), n),
        purity=_means(rows, areas, measured(slide, PURITY), n),
        borders=shared_borders(slide, concepts),
    )


def _on_plane(reader: ImageReader, plane: tuple[int, int] | None) -> ImageReader:
    if plane is None:
        return reader
    try:
        return reader.at(z=plane[0], t=plane[1])
    except (ImageError, RegionError):
        reader.close()
        raise


def _concepts(
    evidence: Evidence,
    concepts: Sequence[Concept],
    looks: Sequence[_Look],
    chosen: Sequence[tuple[list[Choice], list[Choice]]],
    patches: dict[tuple[int, int], Patch],
) -> list[dict[str, Any]]:
    if not concepts:
        return []
    # Concepts × slides. Slides may have pixels of different size, so what spans slides is in µm² where that is known.
    sizes = [slide.pixel_size_um for slide in evidence.slides]
    known = all(size is not None for size, look in zip(sizes, looks, strict=True) if look.area_px.any())
    unit = np.array([size or 0.0 for size in sizes]) if known else np.ones(len(sizes))
    areas = np.stack([look.area_px for look in looks], axis=1) * unit**2
    polygons = np.stack([look.polygons for look in looks], axis=1)
    activation = np.stack([look.activation for look in looks], axis=1)
    purity = np.stack([look.purity for look in looks], axis=1)
    borders = sum(look.borders * side for look, side in zip(looks, unit, strict=True))
    cosines = similarities(concepts, {name: item.concepts for name, item in evidence.dictionaries.items()})
    corrections = _corrections(evidence.slides, concepts)
    own_names = own_names_of(evidence, concepts)
    per_slide = areas.sum(axis=0)
    total = areas.sum() or 1.0
    content = []
    for row, concept in enumerate(concepts):
        typical, doubtful = chosen[row]
        content.append(
            {
                "dictionary": concept.dictionary,
                "members": list(concept.members),
                "ownName": own_names[row],
                "share": float(areas[row].sum() / total),
                "areaUm2": float(areas[row].sum()) if known else None,
                "polygons": int(polygons[row].sum()),
                "activation": _weighted(activation[row], areas[row]),
                "purity": _weighted(purity[row], areas[row]),
                "slides": {
                    "share": [_finite(a / t) if t else 0.0 for a, t in zip(areas[row], per_slide, strict=True)],
                    "areaUm2": [float(a) if known else None for a in areas[row]],
                    "polygons": polygons[row].tolist(),
                    "activation": [_finite(value) for value in activation[row]],
                    "purity": [_finite(value) for value in purity[row]],
                },
                "typical": [_patch(patches[c.slide, c.piece]) for c in typical],
                "doubtful": [_patch(patches[c.slide, c.piece]) for c in doubtful],
                "neighbours": _neighbours(borders[row], known=known),
                "alike": _alike(cosines[row]),
                "corrections": corrections[row],
            }
        )
    return content


def _patch(patch: Patch) -> dict[str, Any]:
    return {
        "slide": patch.choice.slide,
        "picture": patch.picture,
        "outline": patch.outline,
        "activation": _finite(patch.choice.activation),
        "purity": _finite(patch.choice.purity),
        "centre": [round(value) for value in patch.centre],
    }


def _neighbours(borders: NDArray[np.float64], *, known: bool) -> list[dict[str, Any]]:
    """The concepts with the longest common border, and their part of all of it."""
    total = float(borders.sum())
    return [
        {"row": int(other), "share": float(borders[other] / total), "um": float(borders[other]) if known else None}
        for other in np.argsort(-borders, kind="stable")[:_NEAREST]
        if borders[other] > 0
    ]


def _alike(cosines: NDArray[np.float64]) -> list[dict[str, Any]]:
    order = np.argsort(-np.nan_to_num(cosines, nan=-1), kind="stable")[:_NEAREST]
    return [{"row": int(other), "cosine": float(cosines[other])} for other in order if np.isfinite(cosines[other])]


def _corrections(slides: Sequence[Slide], concepts: Sequence[Concept]) -> list[dict[str, int]]:
    """Per concept, how many polygons a person gave to it, took from it, accepted and rejected."""
    counts = [dict.fromkeys(("gained", "lost", "accepted", "rejected"), 0) for _ in concepts]
    row_of = {(concept.dictionary, member): i for i, concept in enumerate(concepts) for member in concept.members}
    for slide in slides:
        for piece in slide.pieces:
            row = row_of[piece.dictionary, piece.concepts[0]]
            if piece.reassigned_from is not None:
                counts[row]["gained"] += 1
                source = _source_row(piece, row_of)
                if source is not None:
                    counts[source]["lost"] += 1
            if piece.review in ("accepted", "rejected"):
                counts[row][piece.review] += 1
    return counts


def _source_row(piece: Piece, row_of: dict[tuple[str, int], int]) -> int | None:
    """Where a reassigned polygon came from; None if nothing of that concept is left."""
    before = piece.reassigned_from or ()
    return next((row_of[piece.dictionary, number] for number in before if (piece.dictionary, number) in row_of), None)


def _means(
    rows: NDArray[np.int64], areas: NDArray[np.float64], values: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """(n,) means weighted by area; NaN where nothing was measured."""
    there = np.isfinite(values)
    weights = np.bincount(rows[there], areas[there], minlength=n)
    sums = np.bincount(rows[there], areas[there] * values[there], minlength=n)
    means = np.full(n, np.nan)
    np.divide(sums, weights, out=means, where=weights > 0)
    return means


def _weighted(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float | None:
    there = np.isfinite(values) & (weights > 0)
    return float(np.average(values[there], weights=weights[there])) if there.any() else None


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
