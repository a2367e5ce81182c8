"""Fitting concept dictionaries on many regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import (
    IsCancelled,
    Progress,
    ReportProgress,
    never_cancelled,
    report_nothing,
    stop_if,
)
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.hierarchy import Family, families
from conceptseg.factorization.learned import Learned
from conceptseg.factorization.library import dictionary_identifier
from conceptseg.imaging.slide import TissueSettings
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.recipe import Recipe
from conceptseg.pipeline.sampling import MAX_TOKENS, TOKENS_PER_SOURCE, TokenPool, sample_tokens


def fit_concepts(
    sources: Iterable[PixelSource],
    *,
    encoder: Encoder,
    ks: Sequence[int],
    seed: int = 0,
    tokens_per_source: int = TOKENS_PER_SOURCE,
    max_tokens: int = MAX_TOKENS,
    tissue: TissueSettings | None = None,
    recipe: Recipe | None = None,
    provenance: Mapping[str, str],
    total: int,
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> tuple[ConceptDictionary, ...]:
    """Fit one dictionary per k on tissue tokens sampled evenly over regions.

    Memory does not grow with the number of regions: beyond ``max_tokens``, earlier ones give up tokens for later ones.

    Args:
        sources: The regions, read one after another.
        encoder: The frozen encoder.
        ks: Numbers of concepts.
        seed: Seed of the sampling and of the fit; the same seed and data give the same dictionaries.
        tokens_per_source: At most this many tissue tokens per region.
        max_tokens: At most this many of all regions.
        tissue: How tissue is told from glass; by what is found in every region's slide when None.
        recipe: How to learn; by default mini-batch k-means.
        provenance: Recorded in every dictionary.
        total: Number of regions, for the progress.
        progress: Told after every region.
        cancelled: Asked before every batch of tiles.

    Raises:
        InvalidRequestError: no k, or fewer tissue tokens than the largest k.
    """
    _require_ks(ks)
    pool = TokenPool(per_source=tokens_per_source, max_tokens=max_tokens)
    for number, source in enumerate(sources):
        progress(Progress(stage="encode", done=number, total=total))
        pool.add(
            sample_tokens(
                source,
                encoder=encoder,
                seed=seed,
                at_most=pool.wanted,
                tissue=tissue or TissueSettings(),
                cancelled=cancelled,
            )
        )
    return fit_tokens(
        pool.tokens(encoder.spec.channels),
        encoder=encoder,
        ks=ks,
        seed=seed,
        recipe=recipe,
        provenance={
            "regions": str(len(pool.counts)),
            "tokens per region, at most": str(tokens_per_source),
            **provenance,
        },
        progress=progress,
        cancelled=cancelled,
    )


def fit_tokens(
    tokens: NDArray[np.float32],
    *,
    encoder: Encoder,
    ks: Sequence[int],
    seed: int = 0,
    recipe: Recipe | None = None,
    name: str | None = None,
    provenance: Mapping[str, str],
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> tuple[ConceptDictionary, ...]:
    """Fit one dictionary per k on tokens.

    Args:
        tokens: (n, channels) of the encoder; may be a memory map.
        encoder: The frozen encoder.
        ks: Numbers of concepts.
        seed: Seed of the fit.
        recipe: How to learn; by default mini-batch k-means.
        name: The dictionaries are called ``NAME-kK``; by default the encoder's name.
        provenance: Recorded in every dictionary.
        progress: Told after every k.
        cancelled: Asked before every k.

    Returns:
        The dictionaries in the order of ``ks``.

    Raises:
        InvalidRequestError: no k, a k twice in a hierarchy, or fewer tokens than the largest k.
    """
    _require_ks(ks)
    recipe = recipe or Recipe()
    spec = encoder.spec
    identifiers = [dictionary_identifier(spec.identifier, name=name, k=k) for k in ks]

    def learn(k: int, done: int, total: int) -> Learned:
        stop_if(cancelled)
        progress(Progress(stage="fit", done=done, total=total))
        return recipe.learn(tokens, n_concepts=k, seed=seed, device=encoder.device, cancelled=cancelled)

    if recipe.hierarchical:
        if len(set(ks)) != len(ks):
            raise InvalidRequestError(f"Expected different numbers of concepts in a hierarchy, got {list(ks)}.")
        order = np.argsort(ks)
        levels = recipe.merge(learn(max(ks), 0, 1), [ks[n] for n in order])
        related = families(levels, [identifiers[n] for n in order])
        place = np.argsort(order)
        fitted = [(levels[n].learned, related[n]) for n in place]
    else:
        fitted = [(learn(k, number, len(ks)), Family()) for number, k in enumerate(ks)]
    progress(Progress(stage="fit", done=len(fitted), total=len(fitted)))
    return tuple(
        ConceptDictionary(
            identifier=identifier,
            concepts=learned.concepts,
            encoder=spec.identifier,
            pixel_size_um=spec.pixel_size_um,
            provenance={
                "method": recipe.describe(encoder.device)
                + (f", k = {max(ks)}, then merged" if recipe.hierarchical and len(learned.concepts) < max(ks) else ""),
                "layer": spec.layer,
                "transform": f"mean {spec.mean}, std {spec.std}",
                "seed": str(seed),
                "tokens": str(len(tokens)),
                **provenance,
                **family.to_provenance(),
            },
        )
        for identifier, (learned, family) in zip(identifiers, fitted, strict=True)
    )


def _require_ks(ks: Sequence[int]) -> None:
    if not ks:
        raise InvalidRequestError("Expected at least one k.")
