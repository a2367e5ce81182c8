"""Tokens of many images that are opened one after another, and of which some may be unusable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import ConceptSegError, ImageError, InvalidRequestError
from conceptseg.domain.per_file import PerFile
from conceptseg.domain.progress import (
    IsCancelled,
    Progress,
    ReportProgress,
    never_cancelled,
    report_nothing,
    stop_if,
)
from conceptseg.encoders.encoder import Encoder
from conceptseg.imaging.slide import TissueSettings
from conceptseg.imaging.source import PixelSource
from conceptseg.pipeline.sampling import MAX_TOKENS, TOKENS_PER_SOURCE, TokenPool, fair_share, sample_tokens
from conceptseg.pipeline.token_store import TokenStore

_NAMED = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageToRead:
    """An image that nobody has opened yet.

    Attributes:
        name: What messages call it.
        identity: ``path``, and what changes when the image does: size, time, pixel size.
        open: Opens it, with its analysis grid.
    """

    name: str
    identity: Mapping[str, str]
    open: Callable[[], AbstractContextManager[PixelSource]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Collected:
    """Tokens of many images.

    Attributes:
        tokens: (n, channels); image after image.
        counts: Tokens of each image.
        names: Names of the images they are from.
        left_out: Name of every image that was left out, and why.
        reused: Images that a work folder held already.
    """

    tokens: NDArray[np.float32]
    counts: tuple[int, ...]
    names: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    reused: int


def collect_tokens(
    images: Sequence[ImageToRead],
    *,
    encoder: Encoder,
    seed: int = 0,
    tokens_per_image: int = TOKENS_PER_SOURCE,
    max_tokens: int = MAX_TOKENS,
    tissue: TissueSettings | None = None,
    store: TokenStore | None = None,
    skip_bad: bool = False,
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> Collected:
    """Sample tissue tokens evenly over images.

    All images are opened before the first is encoded, so that what is wrong is known at once. With a store, samples
    stay on disk, and images that it holds are not read again.

    Args:
        images: What to read.
        encoder: The frozen encoder.
        seed: Chooses the tokens.
        tokens_per_image: At most this many of an image.
        max_tokens: At most this many of all images.
        tissue: How tissue is told from glass; by what is found in every image when None.
        store: Where samples are kept; None to keep them in memory.
        skip_bad: Leave out images that cannot be used, instead of raising.
        progress: Told after every image and tile.
        cancelled: Asked before every batch of tiles.

    Raises:
        InvalidRequestError: images cannot be used and shall not be left out, or none is left.
    """
    left_out: list[tuple[str, str]] = []
    good: list[ImageToRead] = []
    for done, image in enumerate(images):
        stop_if(cancelled)
        progress(Progress(stage="check", done=done, total=len(images)))
        if store is not None and store.holds(image.identity, at_most=1):
            good.append(image)
            continue
        try:
            with image.open():
                good.append(image)
        except ConceptSegError as error:
            left_out.append((image.name, str(error)))
    progress(Progress(stage="check", done=len(images), total=len(images)))
    if left_out and not skip_bad:
        raise InvalidRequestError(_unusable(left_out, len(images)))
    pool = TokenPool(per_source=tokens_per_image, max_tokens=max_tokens)
    kept: list[ImageToRead] = []
    reused = 0
    for done, image in enumerate(good):
        stop_if(cancelled)
        progress(Progress(stage="encode", done=done, total=len(good)))
        if store is not None and store.holds(image.identity, at_most=tokens_per_image):
            reused += 1
            kept.append(image)
            continue
        # On disk a sample is as large as it can ever be needed: other images may come and go.
        at_most = pool.wanted if store is None else tokens_per_image
        try:
            with image.open() as source:
                tokens = sample_tokens(
                    source,
                    encoder=encoder,
                    seed=seed,
                    at_most=at_most,
                    tissue=tissue or TissueSettings(),
                    progress=progress,
                    cancelled=cancelled,
                )
        except ImageError as error:
            if not skip_bad:
                raise ImageError(f"{error} Leave such images out with --skip-bad.") from error
            left_out.append((image.name, str(error)))
            continue
        kept.append(image)
        if store is None:
            pool.add(tokens)
        else:
            store.add(image.identity, tokens, at_most=at_most)
    progress(Progress(stage="encode", done=len(good), total=len(good)))
    if not kept:
        raise InvalidRequestError(f"No image is left to learn from. {_unusable(left_out, len(images))}")
    if store is None:
        tokens, counts = pool.tokens(encoder.spec.channels), pool.counts
    else:
        identities = [image.identity for image in kept]
        share = fair_share(store.counts(identities, at_most=tokens_per_image), max_tokens=max_tokens)
        tokens, counts = store.tokens(identities, at_most=share), store.counts(identities, at_most=share)
    return Collected(
        tokens=tokens,
        counts=counts,
        names=tuple(image.name for image in kept),
        left_out=tuple(left_out),
        reused=reused,
    )


def _unusable(left_out: Sequence[tuple[str, str]], total: int) -> str:
    told = PerFile()
    reasons = " ".join(told.line(name, reason) for name, reason in left_out[:_NAMED])
    more = f" … and {len(left_out) - _NAMED} more." if len(left_out) > _NAMED else ""
    return f"{len(left_out)} of {total} images cannot be used: {reasons}{more} Leave such images out with --skip-bad."
