"""The projection is the exact optimum, whatever the dictionary."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.factorization._nnls_batched import solve_batched
from conceptseg.factorization.learn import reference_projection
from conceptseg.factorization.nnls import NonNegativeProjector


def objective(tokens, activations, concepts):
    return float(((tokens.astype(float) - activations.astype(float) @ concepts.astype(float)) ** 2).sum())


def project(tokens, concepts):
    return NonNegativeProjector(concepts).project(torch.from_numpy(tokens))


def random_problem(seed, *, n=200, k=12, channels=40, correlated=0.0):
    rng = np.random.default_rng(seed)
    concepts = rng.random((k, channels)) + correlated * rng.random(channels)
    tokens = np.maximum(rng.normal(0.3, 1, (n, channels)), 0)
    return tokens.astype(np.float32), concepts.astype(np.float32)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 40), correlated=st.sampled_from([0.0, 1.0, 30.0]))
@settings(max_examples=40, deadline=None)
def test_it_equals_a_float64_active_set_solution_on_the_data_itself(seed, k, correlated):
    tokens, concepts = random_problem(seed, n=20, k=k, correlated=correlated)
    ours = project(tokens, concepts)
    exact = np.stack([nnls(concepts.T.astype(float), x.astype(float))[0] for x in tokens])
    best = objective(tokens, exact, concepts)
    assert objective(tokens, ours.activations, concepts) <= best * (1 + 1e-6)
    assert ours.residual == pytest.approx(best, rel=1e-6)
    assert (ours.activations >= 0).all()


def test_it_meets_the_optimality_conditions():
    tokens, concepts = random_problem(0, n=300, k=64, correlated=5.0)
    activations = project(tokens, concepts).activations.astype(float)
    gradient = (tokens - activations @ concepts) @ concepts.T.astype(float)
    scale = np.abs(tokens @ concepts.T.astype(float)).max()
    assert gradient.max() < 1e-5 * scale, "no concept could lower the error"
    assert np.abs(gradient[activations > 0]).max() < 1e-5 * scale, "active concepts are at their optimum"


def test_planted_activations_are_recovered():
    rng = np.random.default_rng(3)
    concepts = rng.random((10, 60)).astype(np.float32)
    planted = np.where(rng.random((100, 10)) < 0.3, rng.random((100, 10)), 0)
    ours = project((planted @ concepts).astype(np.float32), concepts)
    np.testing.assert_allclose(ours.activations, planted, atol=1e-4)
    assert ours.residual < 1e-8 * ours.energy


def test_it_never_ends_above_the_reference():
    tokens, concepts = random_problem(1, n=150, k=32, correlated=10.0)
    reference = reference_projection(tokens, concepts)
    ours = project(tokens, concepts).activations
    assert objective(tokens, ours, concepts) <= objective(tokens, reference, concepts)


def test_a_token_does_not_depend_on_its_neighbours():
    tokens, concepts = random_problem(2, n=5000)
    together = project(tokens, concepts).activations
    alone = np.concatenate([project(tokens[i : i + 1], concepts).activations for i in range(0, 5000, 500)])
    np.testing.assert_array_equal(together[::500].argmax(1), alone.argmax(1))
    np.testing.assert_allclose(together[::500], alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(together, project(tokens, concepts).activations)


def test_zeros_duplicates_and_collinear_concepts_are_finite_and_deterministic():
    tokens, concepts = random_problem(4, k=12)
    concepts[3] = 0
    concepts[5] = concepts[4]
    concepts[7] = 2 * concepts[6]
    concepts[9] = concepts[0] + concepts[1]
    tokens[0] = 0
    first = project(tokens, concepts)
    assert np.isfinite(first.activations).all()
    assert not first.activations[0].any()
    assert not first.activations[:, 3].any()
    assert not (first.activations[:, 4] * first.activations[:, 5]).any(), "one copy takes the weight"
    np.testing.assert_array_equal(first.activations, project(tokens, concepts).activations)
    without = np.delete(concepts, [3, 5, 7, 9], axis=0)
    assert first.residual == pytest.approx(project(tokens, without).residual, rel=1e-9)


def test_the_batched_solver_for_gpus_finds_the_same_optimum():
    tokens, concepts = random_problem(5, n=400, k=48, correlated=3.0)
    concepts[5] = concepts[4]
    wide = concepts.astype(float)
    gram, correlations = torch.from_numpy(wide @ wide.T), torch.from_numpy(tokens @ wide.T)
    activations, given_up = solve_batched(gram, correlations, max_steps=300)
    assert len(given_up) == 0
    ours = project(tokens, concepts)
    assert objective(tokens, activations.numpy(), concepts) == pytest.approx(ours.residual, rel=1e-9)
    np.testing.assert_array_equal(activations.numpy().argmax(1), ours.activations.argmax(1))


def test_the_batched_solver_gives_up_openly():
    tokens, concepts = random_problem(6, n=50, k=30)
    wide = concepts.astype(float)
    _, given_up = solve_batched(torch.from_numpy(wide @ wide.T), torch.from_numpy(tokens @ wide.T), max_steps=2)
    assert 0 < len(given_up) <= 50


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same_as_on_the_cpu():
    tokens, concepts = random_problem(7, n=2000, k=64, correlated=3.0)
    on_gpu = NonNegativeProjector(concepts).project(torch.from_numpy(tokens).cuda())
    on_cpu = project(tokens, concepts)
    assert (on_gpu.activations.argmax(1) == on_cpu.activations.argmax(1)).mean() >= 0.999
    assert on_gpu.residual == pytest.approx(on_cpu.residual, rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_tokens_that_are_not_finite_are_refused(bad):
    tokens, concepts = random_problem(8)
    tokens[3, 3] = bad
    with pytest.raises(InvalidRequestError, match="NaN or infinite"):
        project(tokens, concepts)


def test_tokens_of_another_encoder_are_refused():
    tokens, concepts = random_problem(9)
    with pytest.raises(InvalidRequestError, match="another encoder"):
        project(tokens[:, :-1], concepts)


@pytest.mark.shared
def test_it_equals_the_exact_solution_on_a_published_dictionary(shared_data):
    from conceptseg.factorization.published import read_published

    concepts = np.maximum(read_published(shared_data / "concepts" / "uni.joblib")[64], 0)
    rng = np.random.default_rng(0)
    mixture = rng.random((100, 64)) * (rng.random((100, 64)) < 0.06)
    tokens = np.maximum(mixture @ concepts + rng.normal(0, 0.05, (100, concepts.shape[1])), 0).astype(np.float32)
    ours = project(tokens, concepts)
    exact = np.stack([nnls(concepts.T.astype(float), x.astype(float))[0] for x in tokens])
    assert ours.residual == pytest.approx(objective(tokens, exact, concepts), rel=1e-9)
    np.testing.assert_array_equal(ours.activations.argmax(1), exact.argmax(1))
