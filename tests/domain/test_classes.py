"""Names and colours of concepts."""

import hashlib

import numpy as np
import pytest

from conceptseg.domain.classes import ConceptClass, cielab, default_classes, require_class_name
from conceptseg.domain.errors import InvalidRequestError

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
EOSIN = [(232, 170, 205), (205, 120, 170)]
HAEMATOXYLIN = [(120, 80, 150), (85, 55, 130), (160, 110, 180)]
SLIDE_BACKGROUND = [(245, 240, 245)]


def colours(n: int) -> np.ndarray:
    return np.array([c.colour for c in default_classes(n)])


def smallest_distance(rgb: np.ndarray) -> float:
    lab = cielab(rgb)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return float(distances[~np.eye(len(lab), dtype=bool)].min())


def as_seen_with(matrix: list[list[float]], rgb: np.ndarray) -> np.ndarray:
    encoded = rgb / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    return 255 * np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


def test_the_number_in_a_name_is_the_index_in_the_dictionary():
    assert [c.name for c in default_classes(3)] == ["Concept 00", "Concept 01", "Concept 02"]
    assert [c.concept for c in default_classes(3)] == [0, 1, 2]


@pytest.mark.parametrize(("n", "last"), [(1, "Concept 00"), (100, "Concept 99"), (101, "Concept 100")])
def test_names_are_padded_so_that_they_sort_in_order(n, last):
    names = [c.name for c in default_classes(n)]
    assert names[-1] == last
    assert names == sorted(names)


def test_a_concept_keeps_its_colour_whatever_the_size_of_the_dictionary():
    large = colours(1000)
    for n in (1, 16, 64, 255, 256, 257):
        np.testing.assert_array_equal(colours(n), large[:n])


def test_colours_are_the_same_on_every_machine_and_in_every_release():
    digest = hashlib.sha256(colours(256).astype(np.uint8).tobytes()).hexdigest()
    assert digest == "f0f8f96104261574dcd8dde745277c6eea0b8916ce30ca5c384be93e7a7bdbf0"


@pytest.mark.parametrize(("n", "distance"), [(4, 60), (8, 35), (16, 20), (64, 20), (256, 12)])
def test_colours_are_far_apart_for_normal_vision(n, distance):
    assert smallest_distance(colours(n)) > distance


@pytest.mark.parametrize("matrix", [DEUTERANOPIA, PROTANOPIA], ids=["deuteranopia", "protanopia"])
@pytest.mark.parametrize(("n", "distance"), [(8, 30), (10, 24), (16, 14)])
def test_the_first_colours_are_told_apart_by_colour_blind_readers(matrix, n, distance):
    assert smallest_distance(as_seen_with(matrix, colours(n))) > distance


def test_the_first_colours_stand_out_from_stained_tissue_and_background():
    tissue = cielab(EOSIN + HAEMATOXYLIN + SLIDE_BACKGROUND)
    distances = np.linalg.norm(cielab(colours(16))[:, None] - tissue[None], axis=-1)
    assert distances.min() > 30


def test_the_largest_dictionary_still_has_one_colour_per_concept():
    every = default_classes(65_535)
    assert len({c.colour for c in every}) == len({c.name for c in every}) == 65_535


@pytest.mark.parametrize("n", [0, -1, 65_536])
def test_a_dictionary_has_between_one_and_65535_concepts(n):
    with pytest.raises(InvalidRequestError, match=f"got {n}"):
        default_classes(n)


@pytest.mark.parametrize(
    "name", ["Tumor", "Ignore*", "1+", "<script>alert('x')</script>", 'a "quote"', "🧬", "x" * 200]
)
def test_any_name_that_qupath_takes_unchanged_is_fine(name):
    require_class_name(name)
    assert ConceptClass(concept=0, name=name, colour=(0, 0, 0)).name == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("Tumor: Stroma", "sub-class"),
        ("a\nb", "line breaks"),
        ("a\rb", "line breaks"),
        ("a\u2028b", "line breaks"),
        ("a\x00b", "control"),
        ("\ud800x", "control"),
        (" Tumor", "space"),
        ("Tumor ", "space"),
    ],
)
def test_a_name_that_qupath_would_refuse_or_change_is_refused_with_the_reason(name, says):
    with pytest.raises(InvalidRequestError, match=says):
        ConceptClass(concept=0, name=name, colour=(0, 0, 0))


@pytest.mark.parametrize("colour", [(0, 0, 256), (-1, 0, 0), (0, 0)])
def test_a_colour_is_8_bit_rgb(colour):
    with pytest.raises(InvalidRequestError, match="colour"):
        ConceptClass(concept=0, name="Tumor", colour=colour)


def test_a_concept_index_is_not_negative():
    with pytest.raises(InvalidRequestError, match="index"):
        ConceptClass(concept=-1, name="Tumor", colour=(0, 0, 0))


def test_cielab_of_white_black_and_red_are_the_textbook_values():
    lab = cielab([(255, 255, 255), (0, 0, 0), (255, 0, 0)])
    np.testing.assert_allclose(lab, [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]], atol=0.05)
