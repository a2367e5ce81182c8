"""A dictionary that learns from corrections: rows are estimated again from the tokens inside corrected polygons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, Progress, ReportProgress, never_cancelled, report_nothing, stop_if
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.nnls import NonNegativeProjector
from conceptseg.imaging.reader import ImageReader
from conceptseg.pipeline.around import open_around
from conceptseg.pipeline.tokens import encode_tiles, tile_grid

_TOKENS_PER_POLYGON = 1000
_KEPT_PER_CONCEPT = 60
_STEPS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Example:
    """A polygon whose concept is known.

    Attributes:
        outline: Its area in full-resolution px.
        concept: The concept it belongs to, as a person sees it.
        before: The concept a person took it from; None if it is where the segmentation put it.
        accepted: A person said that it is right.
        plane: The z-slice and time point it lies on.
    """

    outline: Polygon | MultiPolygon
    concept: int
    before: int | None = None
    accepted: bool = False
    plane: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Refinement:
    """A new version of a dictionary, and what it is good for.

    Attributes:
        dictionary: The new version; its provenance names the old one and all that is below.
        polygons: Corrected polygons it learned from.
        tokens: Tokens inside them.
        kept_tokens: Tokens of polygons that nobody corrected, of the same concepts.
        corrected_before: Share of the corrected tokens that the old version gives the concept a person gave them.
        corrected_after: The same of the new version.
        kept_before: Share of the kept tokens that the old version leaves where they are.
        kept_after: The same of the new version.
    """

    dictionary: ConceptDictionary
    polygons: int
    tokens: int
    kept_tokens: int
    corrected_before: float
    corrected_after: float
    kept_before: float
    kept_after: float


def useful_examples(images: Sequence[Sequence[Example]]) -> list[list[Example]]:
    """Of each image the corrected polygons, and of the concepts they concern those that were left where they are.

    Of every such concept at most 60 polygons are kept over all images: accepted ones first, then the largest.
    """
    concerned = {
        concept
        for examples in images
        for example in examples
        if example.before is not None
        for concept in (example.concept, example.before)
    }
    ranked = sorted(
        (
            (not example.accepted, -example.outline.area, number, index)
            for number, examples in enumerate(images)
            for index, example in enumerate(examples)
            if example.before is None and example.concept in concerned
        ),
    )
    counts = dict.fromkeys(concerned, 0)
    useful: list[list[Example]] = [[e for e in examples if e.before is not None] for examples in images]
    for *_, number, index in ranked:
        example = images[number][index]
        if counts[example.concept] < _KEPT_PER_CONCEPT:
            counts[example.concept] += 1
            useful[number].append(example)
    return useful


def refine(
    images: Iterable[tuple[ImageReader, float | None, Sequence[Example]]],
    *,
    dictionary: ConceptDictionary,
    encoder: Encoder,
    identifier: str,
    provenance: Mapping[str, str],
    total: int,
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> Refinement:
    """Estimate the rows of corrected concepts again.

    The aim of a row is the mean of its tokens, where those that a person gave to the concept count as much as all the
    others together; a concept that only lost polygons aims at the mean of what it kept. All rows go the same part of
    the way there: the part (a quarter, a half, …) after which most tokens have the concept they should have, corrected
    and kept ones counting the same.

    Args:
        images: Per image its reader, µm per full-resolution px (None to believe the file), and `useful_examples`.
        dictionary: The version to start from; it is not changed.
        encoder: The dictionary's encoder.
        identifier: Name of the new version.
        provenance: Recorded in it.
        total: Number of images, for the progress.
        progress: Told after every image.
        cancelled: Asked before every batch of tiles.

    Raises:
        InvalidRequestError: no corrected polygon, none with a token inside, or a concept that the dictionary lacks.
        DictionaryError: the dictionary belongs to another encoder.
    """
    dictionary.require_encoder(encoder.spec.identifier, channels=encoder.spec.channels)
    corrected, kept = _Tokens(), _Tokens()
    for number, (reader, image_pixel_size_um, examples) in enumerate(images):
        progress(Progress(stage="encode", done=number, total=total))
        for example in examples:
            if max(example.concept, example.before or 0) >= dictionary.n_concepts:
                raise InvalidRequestError(
                    f"{reader.name}: a polygon belongs to concept {max(example.concept, example.before or 0)}, but "
                    f"{dictionary.identifier} has {dictionary.n_concepts} concepts."
                )
            stop_if(cancelled)
            tokens = _tokens_inside(reader, image_pixel_size_um, example, dictionary, encoder, cancelled)
            (kept if example.before is None else corrected).add(example, tokens)
    progress(Progress(stage="encode", done=total, total=total))
    if not corrected.count:
        raise InvalidRequestError(
            "No polygon was reassigned, or those that were are smaller than a token. Reassign some in QuPath first "
            "(Extensions > ConceptSeg > Review concepts)."
        )
    aims = _aims(dictionary.concepts, corrected, kept)
    before = _agreements(dictionary.concepts, corrected, kept)
    rows, after, part = dictionary.concepts, before, 0.0
    for step in _STEPS:
        tried = dictionary.concepts.copy()
        for concept, aim in aims.items():
            tried[concept] = (1 - step) * dictionary.concepts[concept] + step * aim
        reached = _agreements(tried, corrected, kept)
        if sum(reached) > sum(after):
            rows, after, part = tried, reached, step
    if part == 0.0:
        raise InvalidRequestError(
            f"These corrections cannot be learned: the tokens inside {corrected.polygons} reassigned polygons are too "
            "much like those of the concept they came from. Reassign more of them, or merge the two concepts."
        )
    inherited = {f"parent: {key}": value for key, value in dictionary.provenance.items()}
    facts = {
        "parent": dictionary.identifier,
        "refined concepts": ", ".join(map(str, sorted(aims))),
        "reassigned polygons": str(corrected.polygons),
        "tokens in them": str(corrected.count),
        "tokens of other polygons": str(kept.count),
        "part of the way": f"{part:g}",
        "reassigned tokens with their new concept, before and after": f"{before[0]:.3f}, {after[0]:.3f}",
        "other tokens with their concept, before and after": f"{before[1]:.3f}, {after[1]:.3f}",
    }
    return Refinement(
        dictionary=ConceptDictionary(
            identifier=identifier,
            concepts=rows,
            encoder=dictionary.encoder,
            pixel_size_um=dictionary.pixel_size_um,
            classes=dictionary.classes,
            provenance={**inherited, **facts, **provenance},
        ),
        polygons=corrected.polygons,
        tokens=corrected.count,
        kept_tokens=kept.count,
        corrected_before=before[0],
        corrected_after=after[0],
        kept_before=before[1],
        kept_after=after[1],
    )


class _Tokens:
    """Tokens by the concept they should have."""

    def __init__(self) -> None:
        self.of: dict[int, list[NDArray[np.float32]]] = {}
        self.sources: set[int] = set()
        self.polygons = 0
        self.count = 0

    def add(self, example: Example, tokens: NDArray[np.float32]) -> None:
        if not len(tokens):
            return
        self.of.setdefault(example.concept, []).append(tokens)
        if example.before is not None:
            self.sources.add(example.before)
        self.polygons += 1
        self.count += len(tokens)

    def mean(self, concept: int) -> NDArray[np.float32] | None:
        return np.concatenate(self.of[concept]).mean(axis=0, dtype=np.float32) if concept in self.of else None


def _aims(rows: NDArray[np.float32], corrected: _Tokens, kept: _Tokens) -> dict[int, NDArray[np.float32]]:
    aims: dict[int, NDArray[np.float32]] = {}
    for concept in corrected.of.keys() | corrected.sources:
        new, old = corrected.mean(concept), kept.mean(concept)
        if new is not None:
            aims[concept] = np.float32(0.5) * (new + (rows[concept] if old is None else old))
        elif old is not None:
            aims[concept] = old
    return aims


def _agreements(rows: NDArray[np.float32], corrected: _Tokens, kept: _Tokens) -> tuple[float, float]:
    """Share of corrected and of kept tokens whose strongest concept is the one they should have."""
    projector = NonNegativeProjector(rows)

    def share(tokens: _Tokens) -> float:
        right = 0
        for concept, parts in tokens.of.items():
            activations = projector.project(torch.from_numpy(np.concatenate(parts))).activations
            right += int((activations.argmax(axis=1) == concept).sum())
        return right / tokens.count if tokens.count else 1.0

    return share(corrected), share(kept)


def _tokens_inside(
    reader: ImageReader,
    image_pixel_size_um: float | None,
    example: Example,
    dictionary: ConceptDictionary,
    encoder: Encoder,
    cancelled: IsCancelled,
) -> NDArray[np.float32]:
    """(n, channels) tokens whose centre lies in the polygon, evenly thinned if there are very many."""
    z, t = example.plane
    source = open_around(
        reader.at(z=z, t=t),
        example.outline,
        pixel_size_um=dictionary.pixel_size_um,
        image_pixel_size_um=image_pixel_size_um,
    )
    if source is None:
        return np.empty((0, encoder.spec.channels), np.float32)
    grid, stride = source.grid, encoder.spec.stride_px
    shapely.prepare(example.outline)
    found = [np.empty((0, encoder.spec.channels), np.float32)]
    tiles = tile_grid(grid, encoder, tile_px=None)
    for tile in encode_tiles(source, encoder, tiles, glass=None, cancelled=cancelled):
        if tile.tokens is None:
            continue
        x = grid.region.x + (tile.columns + 0.5) * stride * grid.scale_x
        y = grid.region.y + (tile.rows + 0.5) * stride * grid.scale_y
        inside = shapely.contains_xy(example.outline, x, y)
        found.append(tile.tokens.cpu().numpy()[inside])
    tokens = np.concatenate(found)
    return tokens[:: -(-len(tokens) // _TOKENS_PER_POLYGON) or 1]
