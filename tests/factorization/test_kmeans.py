"""Dictionaries from tokens: k-means, spherical k-means, NMF."""

import numpy as np
import pytest
import torch

from conceptseg.domain.errors import CancelledByCallerError, InvalidRequestError
from conceptseg.factorization.kmeans import fit_kmeans
from conceptseg.factorization.lloyd import lloyd
from conceptseg.factorization.nmf import fit_nmf
from conceptseg.factorization.nnls import NonNegativeProjector


def clusters(counts=(50, 400, 150), spread=1.0, seed=0):
    """Tokens around the axes of space, and the axis of each."""
    rng = np.random.default_rng(seed)
    axis = np.repeat(np.arange(len(counts)), counts)
    tokens = 10 * np.eye(len(counts), 6)[axis] + spread * rng.random((len(axis), 6))
    order = rng.permutation(len(axis))
    return tokens[order].astype(np.float32), axis[order]


@pytest.mark.parametrize("spherical", [False, True])
def test_centres_of_separate_clusters_are_found_largest_first(spherical):
    found = fit_kmeans(clusters()[0], n_concepts=3, seed=0, spherical=spherical)
    assert found.concepts.argmax(axis=1).tolist() == [1, 2, 0]
    assert found.sizes.tolist() == [400, 150, 50]


def test_blank_tokens_repeat_one_centre():
    for spherical, row in ((False, 1.0), (True, 0.5)):
        found = fit_kmeans(np.ones((50, 4), np.float32), n_concepts=3, seed=0, spherical=spherical)
        np.testing.assert_allclose(found.concepts, np.full((3, 4), row), atol=1e-6)


def test_spherical_centres_have_length_1_and_do_not_see_how_long_tokens_are():
    tokens, _ = clusters()
    stretched = tokens * np.random.default_rng(1).uniform(0.1, 30, (len(tokens), 1)).astype(np.float32)
    plain, other = (fit_kmeans(x, n_concepts=3, seed=0, spherical=True).concepts for x in (tokens, stretched))
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(plain, other, atol=1e-5)


@pytest.mark.parametrize("fit", [lambda x, **o: fit_kmeans(x, spherical=True, **o), fit_kmeans, fit_nmf])
def test_the_seed_decides_and_a_memory_map_is_as_good_as_memory(fit, tmp_path):
    tokens = np.random.default_rng(0).random((400, 12), np.float32)
    mapped = np.memmap(tmp_path / "tokens", np.float32, mode="w+", shape=tokens.shape)
    mapped[:] = tokens
    first, again, other = (fit(x, n_concepts=6, seed=seed) for x, seed in ((tokens, 1), (mapped, 1), (tokens, 2)))
    np.testing.assert_array_equal(first.concepts, again.concepts)
    assert not np.array_equal(first.concepts, other.concepts)


def test_planted_parts_are_found_by_nmf_with_length_1():
    rng = np.random.default_rng(0)
    parts = np.where(rng.random((4, 40)) < 0.3, rng.random((4, 40)), 0)
    activations = rng.random((3000, 4)) * (rng.random((3000, 4)) < 0.4)
    tokens = (activations @ parts).astype(np.float32)
    found = fit_nmf(tokens, n_concepts=4, seed=0).concepts
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found >= 0).all()
    result = NonNegativeProjector(found).project(torch.from_numpy(tokens))
    assert result.residual < 0.05 * result.energy


def test_k_larger_than_the_tokens_is_refused():
    tokens = np.random.default_rng(0).random((5, 8), np.float32)
    for fit in (fit_kmeans, fit_nmf):
        with pytest.raises(InvalidRequestError, match="5 tokens for k = 6"):
            fit(tokens, n_concepts=6, seed=0)


def test_k_means_in_torch_can_be_cancelled():
    with pytest.raises(CancelledByCallerError):
        fit_kmeans(clusters()[0], n_concepts=3, seed=0, spherical=True, cancelled=lambda: True)


def test_k_means_in_torch_is_at_least_as_good_as_scikit_learns():
    """It is what runs on a GPU; 20,000 tokens are more than one chunk."""
    tokens = np.random.default_rng(0).random((20_000, 5), np.float32)

    def inertia(centres):
        return ((tokens[:, None] - centres) ** 2).sum(axis=2).min(axis=1).mean()

    centres, sizes = lloyd(
        tokens, n_concepts=7, seed=0, spherical=False, device=torch.device("cpu"), cancelled=lambda: False
    )
    assert sizes.sum() == 20_000
    assert inertia(centres) < 1.01 * inertia(fit_kmeans(tokens, n_concepts=7, seed=0).concepts)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_clusters():
    device = torch.device("cuda" if torch.cuda.is_available() else "mps")
    for spherical in (False, True):
        here = fit_kmeans(clusters()[0], n_concepts=3, seed=0, spherical=spherical)
        there = fit_kmeans(clusters()[0], n_concepts=3, seed=0, spherical=spherical, device=device)
        np.testing.assert_allclose(here.concepts, there.concepts, atol=1e-3)
