"""Mixtures that were planted in features are found again, at least as well as by scikit-learn."""

import numpy as np
import pytest
import torch
from tests.benchmarks.planted import NOISE, coefficient_error, label_accuracy, plant, uni_dictionary

from conceptseg.factorization.learn import reference_projection
from conceptseg.factorization.nnls import NonNegativeProjector

TOKENS = 150


def found(features, concepts):
    return NonNegativeProjector(concepts).project(torch.from_numpy(features)).activations


def require_as_good_as_scikit_learn(concepts, noise):
    features, mixtures = plant(concepts, tokens=TOKENS, noise=noise)
    ours, theirs = found(features, concepts), reference_projection(features, concepts)
    # In much noise the optimum is no nearer to the truth than a solution just short of it; no farther, either.
    assert coefficient_error(ours, mixtures) <= 1.005 * coefficient_error(theirs, mixtures)
    # Two shares that are almost equal may swap places in either solution.
    assert label_accuracy(ours, mixtures) >= label_accuracy(theirs, mixtures) - 1 / TOKENS


@pytest.mark.parametrize("noise", NOISE)
def test_planted_mixtures_are_found_as_well_as_by_scikit_learn(noise, tmp_path):
    require_as_good_as_scikit_learn(uni_dictionary(tmp_path, k=16)[0], noise)


@pytest.mark.shared
@pytest.mark.parametrize("noise", NOISE)
def test_mixtures_of_the_published_concepts_are_found_as_well_as_by_scikit_learn(noise, shared_data):
    require_as_good_as_scikit_learn(uni_dictionary(shared_data, k=16)[0], noise)


def test_without_noise_the_mixtures_are_found_exactly(tmp_path):
    concepts, _ = uni_dictionary(tmp_path, k=64)
    features, mixtures = plant(concepts, tokens=TOKENS, noise=0)
    np.testing.assert_allclose(found(features, concepts), mixtures, atol=1e-4)


def test_the_stand_in_has_the_size_and_the_condition_of_the_published_dictionary(tmp_path):
    concepts, _ = uni_dictionary(tmp_path, k=64)
    assert concepts.shape == (64, 1024)
    assert np.linalg.norm(concepts, axis=1).mean() == pytest.approx(9, abs=1)
    gram = concepts.astype(float) @ concepts.T.astype(float)
    assert 1e4 < np.linalg.cond(gram) < 5e4
