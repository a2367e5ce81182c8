"""Dictionary files, the library, and the safe import of published ones."""

import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DictionaryError, OutputError
from conceptseg.factorization.dictionary_file import load_dictionary, save_dictionary
from conceptseg.factorization.library import dictionary_paths, find_dictionary
from conceptseg.factorization.published import read_published


def make(k=3, channels=5, **others):
    concepts = np.random.default_rng(0).random((k, channels), np.float32)
    return ConceptDictionary(
        **{"identifier": "test", "concepts": concepts, "encoder": "default", "pixel_size_um": 0.5, **others}
    )


def test_a_file_gives_back_what_was_saved(tmp_path):
    classes = tuple(ConceptClass(concept=i, name=f"Tumör {i} 😀", colour=(i, 20, 255)) for i in range(3))
    saved = make(classes=classes, provenance={"seed": "7", "data": "a “quoted” name"}, pixel_size_um=0.4987)
    save_dictionary(tmp_path / "d.safetensors", saved)
    loaded = load_dictionary(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(loaded.concepts, saved.concepts)
    for field in ("identifier", "encoder", "pixel_size_um", "classes", "provenance"):
        assert getattr(loaded, field) == getattr(saved, field)


def test_a_dictionary_is_clipped_copied_and_cannot_be_changed():
    concepts = np.array([[1, -1], [2, 3]], np.float32)
    dictionary = make(concepts=concepts)
    assert dictionary.concepts.min() == 0
    assert concepts.min() == -1, "the caller's array stays as it was"
    with pytest.raises(ValueError, match="read-only"):
        dictionary.concepts[0, 0] = 5


@pytest.mark.parametrize("concepts", [np.zeros((0, 4)), np.zeros(4), np.full((2, 2), np.nan), np.full((2, 2), np.inf)])
def test_concepts_of_a_wrong_shape_or_not_finite_are_refused(concepts):
    with pytest.raises(DictionaryError):
        make(concepts=concepts)


def test_a_dictionary_of_another_encoder_is_refused_with_the_way_out():
    with pytest.raises(DictionaryError, match=r"belongs to encoder default .5 channels.*--encoder default"):
        make().require_encoder("uni", channels=1024)
    with pytest.raises(DictionaryError, match=r"5 channels, and default has 6 now.*concepts fit") as refused:
        make().require_encoder("default", channels=6)
    assert "--encoder" not in str(refused.value)


def broken_files(folder: Path):
    save_file({"x": np.zeros(3, np.float32)}, folder / "other.safetensors")
    metadata = {"format": "conceptseg-dictionary", "version": "99"}
    save_file({"concepts": np.ones((2, 2), np.float32)}, folder / "future.safetensors", metadata=metadata)
    metadata = {"format": "conceptseg-dictionary", "version": "1", "identifier": "x"}
    save_file({"concepts": np.ones((2, 2), np.float32)}, folder / "incomplete.safetensors", metadata=metadata)
    (folder / "damaged.safetensors").write_bytes(b"\x08" * 50)
    (folder / "d.joblib").write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.safetensors", "no such dictionary"),
        ("other.safetensors", "not a concept dictionary"),
        ("future.safetensors", "version '99'.*reads version 1"),
        ("incomplete.safetensors", "damaged metadata"),
        ("damaged.safetensors", "damaged or not a safetensors"),
        ("d.joblib", "conceptseg concepts import"),
    ],
)
def test_a_file_that_is_no_dictionary_says_what_it_is(tmp_path, name, message):
    broken_files(tmp_path)
    with pytest.raises(DictionaryError, match=message):
        load_dictionary(tmp_path / name)


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": "[" * 9000 + "]" * 9000},
        {"classes": "[" * 400 + "]" * 400},
        {"classes": '[{"name": 7, "colour": [1, 2, 3]}, {"name": "b", "colour": [1, 2, 3]}]'},
        {"classes": '[{"name": "a", "colour": "red"}, {"name": "b", "colour": [1, 2, 3]}]'},
        {"classes": '[{"name": "a", "colour": [1e999, 2, 3]}, {"name": "b", "colour": [1, 2, 3]}]'},
        {"classes": "7"},
        {"provenance": "[" * 9000 + "]" * 9000},
        {"provenance": "[]"},
        {"provenance": '{"a": "\\ud800"}'},
        {"pixel_size_um": "nan"},
        {"pixel_size_um": "1e999"},
        {"pixel_size_um": "-0.5"},
    ],
)
def test_damaged_metadata_are_named(tmp_path, changed):
    file = tmp_path / "d.safetensors"
    save_dictionary(file, make())
    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
    save_file({"concepts": make().concepts}, file, metadata=metadata | changed)
    with pytest.raises(DictionaryError, match=r"d\.safetensors.*(damaged|expected)") as error:
        load_dictionary(file)
    assert len(str(error.value)) < 1000


def test_an_unwritable_folder_leaves_nothing_behind(tmp_path):
    with pytest.raises(OutputError, match="Cannot write"):
        save_dictionary(tmp_path / "missing" / "d.safetensors", make())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("k", [8, 16, 32, 64])
def test_the_package_ships_dictionaries_of_the_default_encoder_with_their_provenance(k):
    found = find_dictionary(encoder="default", name=None, k=k)
    assert (found.n_concepts, found.channels, found.encoder) == (k, 482, "default")
    assert found.provenance["command"].startswith("conceptseg concepts fit ")
    assert "seed" in found.provenance


def test_the_users_own_dictionaries_win_and_unknown_names_are_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("CONCEPTSEG_DICTIONARIES", str(tmp_path))
    save_dictionary(tmp_path / "default-k16.safetensors", make(k=16, identifier="mine"))
    assert dictionary_paths()["default-k16"].parent == tmp_path
    assert find_dictionary(encoder="default", name=None, k=None).identifier == "mine"
    assert find_dictionary(encoder="default", name=str(tmp_path / "default-k16.safetensors"), k=16).n_concepts == 16
    with pytest.raises(DictionaryError, match="has 16 concepts, not k = 8"):
        find_dictionary(encoder="default", name="default-k16", k=8)
    with pytest.raises(DictionaryError, match=r"concepts import.*--method learned"):
        find_dictionary(encoder="uni", name=None, k=16)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_published_centres_are_read_as_they_are(tmp_path, protocol):
    content = {k: np.random.default_rng(k).random((k, 6), np.float32) for k in (4, 2)}
    joblib.dump(content, tmp_path / "c.joblib", protocol=protocol)
    found = read_published(tmp_path / "c.joblib")
    assert list(found) == [2, 4]
    for k, centres in found.items():
        np.testing.assert_array_equal(centres, content[k])


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("form", ["plain", "in a dict", "in an object array", "as a key"])
def test_a_malicious_joblib_is_refused_and_never_executed(tmp_path, form):
    payload = _Payload(tmp_path / "executed")
    file = tmp_path / "evil.joblib"
    if form == "plain":
        file.write_bytes(pickle.dumps(payload))
    elif form == "in a dict":
        joblib.dump({2: np.zeros((2, 3)), 3: payload}, file)
    elif form == "in an object array":
        joblib.dump({2: np.array([[payload, 1], [2, 3]], object)}, file)
    else:
        file.write_bytes(pickle.dumps({payload: 1}))
    with pytest.raises(DictionaryError, match="was refused"):
        read_published(file)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"hello", pickle.dumps([1]), pickle.dumps({2: 3}), pickle.dumps({})])
def test_anything_else_is_refused(tmp_path, content):
    (tmp_path / "x.joblib").write_bytes(content)
    with pytest.raises(DictionaryError):
        read_published(tmp_path / "x.joblib")


def test_compressed_and_missing_files_are_refused(tmp_path):
    joblib.dump({2: np.zeros((2, 3))}, tmp_path / "z.joblib", compress=3)
    for name in ("z.joblib", "missing.joblib"):
        with pytest.raises(DictionaryError):
            read_published(tmp_path / name)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "channels", "ks"),
    [
        ("resnet", 1024, [16, 32, 64, 128, 256]),
        ("uni", 1024, [8, 16, 32, 64, 128, 256]),
        ("prov_gigapath", 1536, [8, 16, 32, 64, 128, 256]),
    ],
)
def test_the_published_dictionaries_are_read(shared_data, name, channels, ks):
    found = read_published(shared_data / "concepts" / f"{name}.joblib")
    assert list(found) == ks
    assert all(centres.shape == (k, channels) for k, centres in found.items())
