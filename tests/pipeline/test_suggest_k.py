"""How many concepts there are, and how sure that is."""

import numpy as np
import pytest

from conceptseg.domain.errors import CancelledByCallerError, InvalidRequestError
from conceptseg.pipeline.suggest_k import suggest_k

KS = (2, 3, 5, 8, 12)


def groups(k=5, n=2400, channels=30, noise=0.2, seed=0):
    """Tokens around k random non-negative points."""
    rng = np.random.default_rng(seed)
    centres = rng.random((k, channels)) * (rng.random((k, channels)) < 0.4) * 3
    tokens = centres[rng.integers(0, k, n)] + noise * rng.standard_normal((n, channels))
    return np.maximum(tokens, 0).astype(np.float32)


def cloud(n=2400, channels=30, seed=0):
    """Tokens that fall into no groups, but are spread unevenly."""
    rng = np.random.default_rng(seed)
    tokens = 10 + rng.standard_normal((n, channels)) * np.exp(-np.arange(channels) / 6)
    return tokens.astype(np.float32)


@pytest.mark.parametrize("k", [3, 5, 8])
def test_planted_groups_are_found_and_it_is_clear(k):
    found = suggest_k(groups(k), counts=[400] * 6, ks=KS, repeats=5)
    assert (found.k, found.sureness) == (k, "clear")
    assert found.low <= k == found.high
    assert f"k = {k}, clear" in found.sentence
    measured = {one.k: one for one in found.candidates}
    assert measured[k].agreement > 0.95
    assert measured[k].agreement > measured[12].agreement + 0.2
    assert measured[k].residual < 0.6 * measured[2].residual


@pytest.mark.parametrize("seed", [0, 4])
def test_a_cloud_without_groups_is_told_as_one(seed):
    found = suggest_k(cloud(seed=seed), seed=seed, counts=[400] * 6, ks=KS, repeats=8)
    assert found.sureness == "none"
    assert "No k stands out" in found.sentence
    assert all(abs(one.excess) < 0.2 for one in found.candidates)


def test_groups_that_each_image_has_for_itself_do_not_count():
    """Stains of six slides: halves of the images share nothing, halves of the tokens would."""
    rng = np.random.default_rng(0)
    tokens = np.concatenate([cloud(400, seed=n) + 4 * rng.random(30) for n in range(6)]).astype(np.float32)
    by_image = suggest_k(tokens, counts=[400] * 6, ks=(2, 3, 6), repeats=5)
    by_token = suggest_k(tokens, counts=[2400], ks=(2, 3, 6), repeats=5)
    best = [max(one.agreement for one in found.candidates) for found in (by_image, by_token)]
    assert (by_image.halves, by_token.halves) == ("images", "tokens")
    assert best[0] < best[1] - 0.2
    assert "nothing about other slides" in by_token.sentence
    assert "nothing about other slides" not in by_image.sentence


def test_the_seed_decides():
    tokens = groups(n=600, noise=0.8)
    first, again, other = (suggest_k(tokens, counts=[600], ks=KS, repeats=3, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_candidates_that_the_tokens_are_too_few_for_are_not_tried():
    assert [one.k for one in suggest_k(groups(n=120), counts=[120], ks=KS, repeats=2).candidates] == [2, 3, 5]
    with pytest.raises(InvalidRequestError, match="at least 40 tissue tokens"):
        suggest_k(groups(n=30), counts=[30], ks=KS)
    with pytest.raises(InvalidRequestError, match="k >= 2"):
        suggest_k(groups(), counts=[2400], ks=[1, 4])


def test_it_can_be_cancelled():
    with pytest.raises(CancelledByCallerError):
        suggest_k(groups(), counts=[2400], ks=KS, cancelled=lambda: True)
