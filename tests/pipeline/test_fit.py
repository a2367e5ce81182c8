"""Fitting dictionaries on regions."""

import numpy as np
import pytest

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.pipeline.fit import fit_concepts


def fit(sources, encoder, **others):
    return fit_concepts(sources, encoder=encoder, **{"ks": [4], "provenance": {}, "total": len(sources), **others})


def test_the_same_seed_and_data_give_the_same_dictionary(region_of, colon, encoder):
    sources = [region_of(colon[:256]), region_of(colon[256:])]
    first, second, other = (fit(sources, encoder, seed=seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.concepts, second.concepts)
    assert not np.array_equal(first.concepts, other.concepts)


def test_a_dictionary_says_how_it_came_about(region_of, colon, encoder):
    small, large = fit(
        [region_of(colon)], encoder, ks=[4, 9], seed=5, tokens_per_source=300, provenance={"command": "x"}
    )
    assert (small.identifier, large.n_concepts) == ("default-k4", 9)
    assert small.provenance["seed"] == "5"
    assert small.provenance["tokens"] == "300"
    assert small.provenance["command"] == "x"
    assert small.encoder == "default"


def test_glass_alone_cannot_be_fitted(region_of, encoder):
    glass = np.full((128, 128, 3), 242, np.uint8)
    with pytest.raises(InvalidRequestError, match="0 tokens for k = 4"):
        fit([region_of(glass)], encoder)
    with pytest.raises(InvalidRequestError, match="at least one k"):
        fit([region_of(glass)], encoder, ks=[])
