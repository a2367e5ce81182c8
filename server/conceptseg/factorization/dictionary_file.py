"""Dictionary files: safetensors with the concepts, and metadata that says what they are.

Format 1: tensor ``concepts`` float32 (n_concepts, channels); metadata strings ``format``, ``version``,
``identifier``, ``encoder``, ``pixel_size_um``, and JSON in ``classes`` and ``provenance``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DictionaryError
from conceptseg.domain.files import replacing

FORMAT = "conceptseg-dictionary"
VERSION = 1


def save_dictionary(path: Path, dictionary: ConceptDictionary) -> None:
    """Write a dictionary file; an existing one is replaced as a whole.

    Raises:
        OutputError: the file cannot be written.
    """
    classes = [{"name": item.name, "colour": list(item.colour)} for item in dictionary.classes]
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "identifier": dictionary.identifier,
        "encoder": dictionary.encoder,
        "pixel_size_um": repr(dictionary.pixel_size_um),
        "classes": json.dumps(classes, ensure_ascii=False),
        "provenance": json.dumps(dict(dictionary.provenance), ensure_ascii=False),
    }
    with replacing(path) as temporary:
        save_file({"concepts": np.ascontiguousarray(dictionary.concepts)}, temporary, metadata=metadata)


def load_dictionary(path: Path) -> ConceptDictionary:
    """Read a dictionary file.

    Raises:
        DictionaryError: no such file, damaged, not a dictionary, or of another version.
    """
    if not path.is_file():
        raise DictionaryError(f"{path}: no such dictionary file. `conceptseg concepts list` shows what there is.")
    if path.suffix in {".joblib", ".pkl", ".pickle", ".npz", ".npy"}:
        raise DictionaryError(
            f"{path} is not a ConceptSeg dictionary. Published joblib files are converted safely with "
            f"`conceptseg concepts import {path.name}`."
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            concepts = file.get_tensor("concepts") if "concepts" in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DictionaryError(f"{path} is damaged or not a safetensors file: {error}.") from error
    if metadata.get("format") != FORMAT or concepts is None:
        raise DictionaryError(
            f"{path} is a safetensors file, but not a concept dictionary: expected format {FORMAT!r} and a tensor "
            f"'concepts', got format {metadata.get('format')!r}."
        )
    if metadata.get("version") != str(VERSION):
        raise DictionaryError(
            f"{path} is a dictionary of version {metadata.get('version')!r}; this ConceptSeg reads version {VERSION}. "
            "Update ConceptSeg, or fit the dictionary again."
        )
    try:
        classes = tuple(
            ConceptClass(concept=index, name=item["name"], colour=tuple(item["colour"]))
            for index, item in enumerate(json.loads(metadata["classes"]))
        )
        return ConceptDictionary(
            identifier=metadata["identifier"],
            concepts=concepts,
            encoder=metadata["encoder"],
            pixel_size_um=float(metadata["pixel_size_um"]),
            classes=classes,
            provenance=json.loads(metadata["provenance"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DictionaryError(f"{path} has damaged metadata ({type(error).__name__}: {error}).") from error
