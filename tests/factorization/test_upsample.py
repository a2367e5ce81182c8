"""Upsampling and argmax in one pass are bilinear interpolation and argmax."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conceptseg.factorization.activations import ActivationMapBuilder
from conceptseg.factorization.upsample import component_statistics, upsample_argmax
from conceptseg.geometry.components import label_components


def sparse(dense):
    """(n_concepts, grid_h, grid_w) to an ActivationMap."""
    n_concepts, grid_h, grid_w = dense.shape
    builder = ActivationMapBuilder(grid_h=grid_h, grid_w=grid_w, n_concepts=n_concepts)
    rows, columns = np.divmod(np.arange(grid_h * grid_w), grid_w)
    builder.add(dense.reshape(n_concepts, -1).T.copy(), rows=rows, columns=columns)
    return builder.build()


def interpolated(dense, stride, height, width):
    size = (dense.shape[1] * stride, dense.shape[2] * stride)
    up = torch.nn.functional.interpolate(torch.from_numpy(dense)[None].double(), size, mode="bilinear")[0]
    return up[:, :height, :width].numpy()


def random_activations(seed, n_concepts, grid_h, grid_w, share):
    rng = np.random.default_rng(seed)
    dense = rng.random((n_concepts, grid_h, grid_w), np.float32)
    return np.where(rng.random(dense.shape) < share, dense, 0).astype(np.float32)


@given(
    seed=st.integers(0, 10_000),
    n_concepts=st.sampled_from([1, 3, 40, 300]),
    grid_h=st.integers(1, 5),
    grid_w=st.integers(1, 5),
    stride=st.sampled_from([1, 3, 8, 14, 16]),
    share=st.sampled_from([0.05, 0.5, 1.0]),
)
# A pixel that lies exactly on a token without any activation, next to one with a single concept.
@example(seed=0, n_concepts=1, grid_h=1, grid_w=3, stride=1, share=0.05)
@settings(max_examples=60, deadline=None)
def test_labels_are_those_of_torch(seed, n_concepts, grid_h, grid_w, stride, share):
    dense = random_activations(seed, n_concepts, grid_h, grid_w, share)
    height, width = max(1, grid_h * stride - seed % stride), max(1, grid_w * stride - seed // 7 % stride)
    labels = upsample_argmax(sparse(dense), stride_px=stride, height=height, width=width)
    up = interpolated(dense, stride, height, width)
    best = up.max(axis=0)
    assert labels.dtype == (np.uint8 if n_concepts < 256 else np.uint16)
    np.testing.assert_array_equal(labels == 0, best == 0)
    chosen = np.take_along_axis(up, np.maximum(labels.astype(int) - 1, 0)[None], axis=0)[0]
    # Where two concepts are as strong as each other to 7 digits, either may win.
    np.testing.assert_allclose(chosen, best, rtol=1e-5, atol=1e-7)


def test_a_tie_goes_to_the_lowest_concept():
    dense = np.zeros((4, 2, 2), np.float32)
    dense[3] = dense[1] = 1
    assert (upsample_argmax(sparse(dense), stride_px=4, height=8, width=8) == 2).all()


def test_tiles_may_come_in_any_order():
    dense = random_activations(0, 6, 4, 4, 0.5)
    builder = ActivationMapBuilder(grid_h=4, grid_w=4, n_concepts=6)
    for row in (2, 0, 3, 1):
        builder.add(dense[:, row].T.copy(), rows=np.full(4, row), columns=np.arange(4))
    np.testing.assert_array_equal(builder.build().dense(), dense)


def test_an_empty_map_is_unlabelled():
    empty = ActivationMapBuilder(grid_h=2, grid_w=3, n_concepts=5).build()
    assert not upsample_argmax(empty, stride_px=16, height=30, width=40).any()


@pytest.mark.parametrize("stride", [5, 16])
def test_statistics_are_means_over_the_pixels_of_a_component(stride):
    dense = random_activations(1, 7, 6, 5, 0.4)
    height, width = 6 * stride - 2, 5 * stride - 1
    activations = sparse(dense)
    labels = upsample_argmax(activations, stride_px=stride, height=height, width=width)
    labels[: stride // 2] = 3  # as if cleaned up: counts with the activation of the concept it was given
    parts = label_components(labels)
    activation, purity = component_statistics(
        activations,
        stride_px=stride,
        runs=parts.runs,
        labels=parts.label,
    )
    up = interpolated(dense, stride, height, width)
    own = np.take_along_axis(up, np.maximum(labels.astype(int) - 1, 0)[None], axis=0)[0]
    total = np.maximum(up.sum(axis=0), 1e-30)
    component = parts.painted(np.arange(parts.label.size))
    for index, label in enumerate(parts.label):
        inside = (component == index) & (label > 0)
        assert activation[index] == pytest.approx(own[inside].sum(), rel=1e-5)
        assert purity[index] == pytest.approx((own / total)[inside].sum(), rel=1e-5)
