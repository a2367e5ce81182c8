"""How many concepts tokens fall into, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import (
    IsCancelled,
    Progress,
    ReportProgress,
    never_cancelled,
    report_nothing,
    stop_if,
)
from conceptseg.factorization.stability import ShapelessTokens, agreement

CANDIDATES = (4, 6, 8, 12, 16, 24, 32, 48, 64)
REPEATS = 10
_HALF = 5000  # tokens of a half that are fitted
_TOKENS_PER_CONCEPT = 10
_LEAST_IMAGES = 4  # below, halves are halves of all tokens, not of the images
_RESAMPLINGS = 1000
_CLEAR, _FAIR = 0.7, 0.4
_LEAST_EXCESS = 0.1  # two clouds without groups differ by up to 0.09 themselves

Sureness = Literal["clear", "fair", "weak", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What was measured for one number of concepts; means over the repeats.

    Attributes:
        k: Number of concepts.
        agreement: Adjusted Rand index of dictionaries fitted on disjoint halves.
        shapeless: The same for tokens without groups that have the same mean and covariance.
        excess: The difference: agreement that comes from groups in the tokens.
        excess_error: Its standard error.
        residual: Held-out ||F - D^T A|| / ||F||.
        chosen: Share of resamplings of the repeats that choose this k.
    """

    k: int
    agreement: float
    shapeless: float
    excess: float
    excess_error: float
    residual: float
    chosen: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SuggestedK:
    """A number of concepts, and how sure it is.

    Attributes:
        k: The suggestion.
        sureness: ``clear``, ``fair``, ``weak``; ``none`` if the tokens do not fall into groups at all.
        low: Together with `high` the range in which 90 % of the resamplings choose.
        high: See `low`.
        sentence: The same in words.
        candidates: What was measured, smallest k first.
        halves: What the halves are made of: ``images`` or ``tokens``.
    """

    k: int
    sureness: Sureness
    low: int
    high: int
    sentence: str
    candidates: tuple[Candidate, ...]
    halves: Literal["images", "tokens"]


def suggest_k(
    tokens: NDArray[np.float32],
    *,
    counts: Sequence[int],
    ks: Sequence[int] = CANDIDATES,
    repeats: int = REPEATS,
    seed: int = 0,
    progress: ReportProgress = report_nothing,
    cancelled: IsCancelled = never_cancelled,
) -> SuggestedK:
    """Suggest a number of concepts.

    Dictionaries are fitted on random halves of the images (of the tokens, if there are fewer than four images). What
    they agree on beyond tokens of no shape, which any k cuts somehow, is in the data. Of the k whose excess is within
    a standard error of the best, the one with the smallest held-out residual is suggested.

    Args:
        tokens: (n, channels), image after image.
        counts: Tokens of each image.
        ks: Candidates.
        repeats: Random halves.
        seed: Chooses them.
        progress: Told after every repeat.
        cancelled: Asked before every repeat.

    Raises:
        InvalidRequestError: no candidate, fewer than two repeats, or too few tokens for the smallest candidate.
    """
    wanted = sorted(set(ks))
    if not wanted or wanted[0] < 2 or repeats < 2:
        raise InvalidRequestError(f"Expected candidates k >= 2 and at least 2 repeats, got {wanted} and {repeats}.")
    if sum(counts) != len(tokens):
        raise InvalidRequestError(f"Expected counts of {len(tokens)} tokens, got {sum(counts)}.")
    halves: Literal["images", "tokens"] = "images" if np.count_nonzero(counts) >= _LEAST_IMAGES else "tokens"
    splits = [_halves(np.asarray(counts), halves, seed=seed, repeat=repeat) for repeat in range(repeats)]
    most = min(len(half) for split in splits for half in split) // _TOKENS_PER_CONCEPT
    if most < wanted[0]:
        raise InvalidRequestError(
            f"Expected at least {2 * _TOKENS_PER_CONCEPT * wanted[0]} tissue tokens to tell whether k = {wanted[0]} is "
            f"right, got {len(tokens)}. Give more tissue or smaller candidates."
        )
    tried = [k for k in wanted if k <= most]
    rng = np.random.default_rng((seed, 1))
    some = np.sort(rng.permutation(len(tokens))[: 4 * _HALF])
    shapeless = ShapelessTokens(np.asarray(tokens[some]))
    found, expected, residuals = [], [], []
    for repeat, (first, second) in enumerate(splits):
        stop_if(cancelled)
        progress(Progress(stage="compare", done=repeat, total=repeats))
        real = agreement(tokens[first], tokens[second], ks=tried, seed=repeat)
        drawn = shapeless.draw(len(first) + len(second), rng=rng)
        null = agreement(drawn[: len(first)], drawn[len(first) :], ks=tried, seed=repeat)
        found.append(real.labels)
        expected.append(null.labels)
        residuals.append(real.residuals)
    progress(Progress(stage="compare", done=repeats, total=repeats))
    return _decided(tried, np.array(found), np.array(expected), np.array(residuals), halves=halves, seed=seed)


def _halves(
    counts: NDArray[np.int64], halves: str, *, seed: int, repeat: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the tokens of two random halves, each in random order and of at most `_HALF`."""
    rng = np.random.default_rng((seed, 2, repeat))
    if halves == "tokens":
        order = rng.permutation(int(counts.sum()))
        first, second = np.array_split(order, 2)
    else:
        image = np.repeat(np.arange(len(counts)), counts)
        filled = rng.permutation(np.flatnonzero(counts))
        mine = np.isin(image, filled[: len(filled) // 2])
        first, second = rng.permutation(np.flatnonzero(mine)), rng.permutation(np.flatnonzero(~mine))
    return first[:_HALF], second[:_HALF]


def _decided(
    ks: Sequence[int],
    found: NDArray[np.float64],
    expected: NDArray[np.float64],
    residuals: NDArray[np.float64],
    *,
    halves: Literal["images", "tokens"],
    seed: int,
) -> SuggestedK:
    excess = found - expected
    residual = residuals.mean(axis=0)
    best = _choose(excess, residual)
    rng = np.random.default_rng((seed, 3))
    rows = rng.integers(0, len(excess), (_RESAMPLINGS, len(excess)))
    chosen = np.bincount([_choose(excess[row], residual) for row in rows], minlength=len(ks)) / _RESAMPLINGS
    inside = np.cumsum(chosen)
    low, high = ks[int(np.searchsorted(inside, 0.05))], ks[int(np.searchsorted(inside, 0.95))]
    errors = excess.std(axis=0, ddof=1) / np.sqrt(len(excess))
    grouped = excess[:, best].mean() > max(_LEAST_EXCESS, 2 * errors[best])
    sureness: Sureness = "weak"
    if not grouped:
        sureness = "none"
    elif chosen[best] >= _CLEAR:
        sureness = "clear"
    elif chosen[best] >= _FAIR:
        sureness = "fair"
    return SuggestedK(
        k=ks[best],
        sureness=sureness,
        low=low,
        high=high,
        sentence=_sentence(ks[best], sureness, chosen[best], low, high, halves),
        candidates=tuple(
            Candidate(
                k=k,
                agreement=float(found[:, n].mean()),
                shapeless=float(expected[:, n].mean()),
                excess=float(excess[:, n].mean()),
                excess_error=float(errors[n]),
                residual=float(residual[n]),
                chosen=float(chosen[n]),
            )
            for n, k in enumerate(ks)
        ),
        halves=halves,
    )


def _choose(excess: NDArray[np.float64], residual: NDArray[np.float64]) -> int:
    """Of those that fall behind the best by no more than the error of the difference, the one of least residual."""
    best = int(excess.mean(axis=0).argmax())
    behind = excess[:, [best]] - excess
    as_good = behind.mean(axis=0) <= behind.std(axis=0, ddof=1) / np.sqrt(len(excess))
    return int(np.where(as_good, residual, np.inf).argmin())


def _sentence(k: int, sureness: Sureness, share: float, low: int, high: int, halves: str) -> str:
    if sureness == "none":
        text = (
            f"No k stands out: these tokens agree no better than a cloud without groups. k = {k} is a cut like any "
            "other; choose by how much detail you want."
        )
    else:
        text = f"k = {k}, {sureness}: {share:.0%} of the resamplings choose it"
        text += "." if low == high else f", 90 % choose between {low} and {high}."
        if sureness == "weak":
            text += " Neighbouring numbers do about as well."
    if halves == "tokens":
        text += " With fewer than four images it says nothing about other slides."
    return text
