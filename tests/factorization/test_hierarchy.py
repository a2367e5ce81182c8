"""Dictionaries that contain each other."""

from itertools import pairwise

import numpy as np
import pytest

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.factorization.hierarchy import Family, families, nested_levels
from conceptseg.factorization.learned import Learned


def learned(k=24, channels=10, seed=0):
    rng = np.random.default_rng(seed)
    return Learned(concepts=rng.random((k, channels), np.float32), sizes=rng.integers(1, 500, k).astype(np.float64))


def test_every_coarse_concept_is_the_mean_of_the_finer_ones_it_is_the_parent_of():
    finest = learned()
    levels = nested_levels(finest, ks=[4, 9, 24], unit_length=False)
    assert [len(level.learned.concepts) for level in levels] == [4, 9, 24]
    for coarse, fine in pairwise(levels):
        assert set(fine.parents.tolist()) == set(range(len(coarse.learned.concepts)))
        for concept, row in enumerate(coarse.learned.concepts):
            mine = fine.parents == concept
            mean = np.average(fine.learned.concepts[mine], axis=0, weights=fine.learned.sizes[mine])
            np.testing.assert_allclose(row, mean, rtol=1e-5)
            assert coarse.learned.sizes[concept] == fine.learned.sizes[mine].sum()


def test_siblings_stand_side_by_side_and_the_largest_comes_first():
    levels = nested_levels(learned(), ks=[4, 24], unit_length=False)
    coarse, fine = levels
    assert (np.diff(coarse.learned.sizes) <= 0).all()
    assert (np.diff(fine.parents) >= 0).all()
    for concept in range(4):
        assert (np.diff(fine.learned.sizes[fine.parents == concept]) <= 0).all()


def test_nothing_of_the_finest_concepts_is_lost_or_changed():
    finest = learned()
    last = nested_levels(finest, ks=[5, 24], unit_length=True)[-1]
    assert sorted(map(tuple, last.learned.concepts)) == sorted(map(tuple, finest.concepts))


def test_what_is_alike_is_merged_first():
    centres = np.array([[0, 0], [0, 1], [10, 0], [10, 1], [0, 30]], np.float32)
    finest = Learned(concepts=centres, sizes=np.full(5, 10.0))
    _, fine = nested_levels(finest, ks=[3, 5], unit_length=False)
    groups = [fine.learned.concepts[fine.parents == concept] for concept in range(3)]
    assert {frozenset(map(tuple, group)) for group in groups} == {
        frozenset({(0, 0), (0, 1)}),
        frozenset({(10, 0), (10, 1)}),
        frozenset({(0, 30)}),
    }


def test_concepts_that_nothing_belongs_to_are_merged_away():
    finest = Learned(concepts=np.array([[1, 0], [0, 1], [0.5, 0.6]], np.float32), sizes=np.array([50.0, 40.0, 0.0]))
    coarse, _ = nested_levels(finest, ks=[2, 3], unit_length=False)
    np.testing.assert_allclose(coarse.learned.concepts, [[1, 0], [0, 1]], atol=0.01)


def test_merged_concepts_of_unit_length_have_unit_length():
    finest = learned()
    unit = finest.concepts / np.linalg.norm(finest.concepts, axis=1, keepdims=True)
    levels = nested_levels(Learned(concepts=unit, sizes=finest.sizes), ks=[3, 24], unit_length=True)
    np.testing.assert_allclose(np.linalg.norm(levels[0].learned.concepts, axis=1), 1, atol=1e-5)


def test_a_dictionary_file_remembers_parents_and_children():
    levels = nested_levels(learned(), ks=[4, 9, 24], unit_length=False)
    coarse, middle, fine = families(levels, ["a-k4", "a-k9", "a-k24"])
    assert (coarse.coarser, coarse.finer, middle.coarser, fine.finer) == (None, "a-k9", "a-k4", None)
    assert [middle.parents[child] for child in coarse.children[2]] == [2] * len(coarse.children[2])
    for family in (coarse, middle, fine):
        assert Family.from_provenance({"seed": "0", **family.to_provenance()}) == family
    assert Family.from_provenance({"seed": "0"}) == Family()


@pytest.mark.parametrize("ks", [[4, 30], [9, 4, 24], [4, 4, 24], [0, 24]])
def test_only_increasing_numbers_up_to_the_finest_are_a_hierarchy(ks):
    with pytest.raises(InvalidRequestError, match="increasing"):
        nested_levels(learned(), ks=ks, unit_length=False)
