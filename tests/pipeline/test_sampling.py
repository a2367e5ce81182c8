"""Which tokens are learned from."""

import numpy as np
import pytest

from conceptseg.pipeline.sampling import TokenPool, fair_share, sample_tokens


@pytest.mark.parametrize(
    ("counts", "share"),
    [([50], 50), ([50, 50], 40), ([7, 50, 50], 36), ([0, 0, 90], 80), ([100] * 200, 1), ([0, 0], 1)],
)
def test_regions_that_have_enough_give_the_same_number_and_all_together_stay_bounded(counts, share):
    assert fair_share(counts, max_tokens=80) == share


def test_a_pool_that_does_not_know_what_comes_ends_like_one_that_does():
    regions = [np.full((count, 3), number, np.float32) for number, count in enumerate((50, 7, 50, 50))]
    pool = TokenPool(per_source=50, max_tokens=80)
    for region in regions:
        pool.add(region[: pool.wanted])
    tokens = pool.tokens(3)
    assert np.bincount(tokens[:, 0].astype(int)).tolist() == [24, 7, 24, 24]


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(region_of, colon, encoder):
    source = region_of(colon)
    small, large = (sample_tokens(source, encoder=encoder, seed=1, at_most=n) for n in (40, 300))
    np.testing.assert_array_equal(small, large[:40])
    everything = sample_tokens(source, encoder=encoder, seed=1, at_most=10_000)
    assert 300 < len(everything) <= 1024
    np.testing.assert_array_equal(large, everything[:300])


def test_glass_gives_no_tokens(region_of, encoder):
    glass = np.full((128, 128, 3), 242, np.uint8)
    assert sample_tokens(region_of(glass), encoder=encoder, seed=1, at_most=5).shape == (0, encoder.spec.channels)


def test_progress_counts_tiles_and_not_the_batches_they_come_in(region_of, colon, encoder, monkeypatch):
    monkeypatch.setattr(encoder, "batch_tiles", 4)  # as on a GPU
    seen = []
    monkeypatch.setattr(type(encoder), "default_tile_px", 128)
    sample_tokens(region_of(colon), encoder=encoder, seed=1, at_most=5, progress=seen.append)
    done = [step.done for step in seen]
    assert seen[-1].total > len(seen)  # batches held several tiles
    assert done == sorted(done)
    assert done[-1] == seen[-1].total
