"""Learning concepts from tokens."""

import numpy as np
import pytest
import torch

from conceptseg.domain.errors import CancelledByCallerError, InvalidRequestError
from conceptseg.factorization.learn import learn_nmf, match_concepts, nearest_scores
from conceptseg.factorization.nnls import NonNegativeProjector


def planted(n=600, k=5, channels=40, seed=0):
    rng = np.random.default_rng(seed)
    concepts = np.where(rng.random((k, channels)) < 0.3, rng.random((k, channels)), 0).astype(np.float32)
    activations = rng.random((n, k)) * (rng.random((n, k)) < 0.4)
    return (activations @ concepts).astype(np.float32), concepts


def test_planted_concepts_are_found():
    tokens, concepts = planted()
    learned = learn_nmf(torch.from_numpy(tokens), n_concepts=5, max_iterations=2000, tolerance=1e-9)
    unit = concepts / np.linalg.norm(concepts, axis=1, keepdims=True)
    assert ((unit @ learned.T).max(axis=1) > 0.98).all()
    result = NonNegativeProjector(learned).project(torch.from_numpy(tokens))
    assert result.residual < 1e-3 * result.energy


def test_more_concepts_never_explain_less_and_the_seed_decides():
    tokens = torch.from_numpy(planted(k=8)[0])
    residuals = [NonNegativeProjector(learn_nmf(tokens, n_concepts=k)).project(tokens).residual for k in (1, 3, 8)]
    assert residuals[0] > residuals[1] > residuals[2]
    np.testing.assert_array_equal(learn_nmf(tokens, n_concepts=3, seed=1), learn_nmf(tokens, n_concepts=3, seed=1))
    assert not np.array_equal(learn_nmf(tokens, n_concepts=3, seed=1), learn_nmf(tokens, n_concepts=3, seed=2))


def test_learning_can_be_cancelled():
    with pytest.raises(CancelledByCallerError):
        learn_nmf(torch.rand(50, 4), n_concepts=2, cancelled=lambda: True)


def test_k_larger_than_the_tokens_is_refused():
    tokens = torch.rand(5, 8)
    with pytest.raises(InvalidRequestError, match="5 tokens for k = 6"):
        learn_nmf(tokens, n_concepts=6)
    with pytest.raises(InvalidRequestError, match="k >= 1"):
        learn_nmf(tokens, n_concepts=0)


def test_similarity_is_the_cosine_and_zeros_are_similar_to_nothing():
    scores = nearest_scores(torch.tensor([[2.0, 0.0], [0.0, 0.0], [3.0, 4.0]]), np.eye(2, dtype=np.float32))
    np.testing.assert_allclose(scores, [[1, 0], [0, 0], [0.6, 0.8]], atol=1e-6)


def test_learned_concepts_match_the_most_similar_row():
    dictionary = np.eye(4, dtype=np.float32)
    learned = np.array([[0, 0, 5, 1], [3, 1, 0, 0]], np.float32)
    assert match_concepts(learned, dictionary).tolist() == [2, 0]
