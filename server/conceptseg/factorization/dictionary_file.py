"""Dictionary files: safetensors with the concepts, and metadata that says what they are.

Format 1: tensor ``concepts`` float32 (n_concepts, channels); metadata strings ``format``, ``version``,
``identifier``, ``encoder``, ``pixel_size_um``, and JSON in ``classes`` and ``provenance``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from conceptseg.domain.classes import Colour, ConceptClass
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DictionaryError
from conceptseg.domain.files import replacing
from conceptseg.domain.json_file import parse_json

FORMAT = "conceptseg-dictionary"
VERSION = 1
_REMEDY = "Fit or import the dictionary again."


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
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
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
        listed, provenance = (
            parse_json(metadata[key], name=f"{path}: its metadata ({key})", error=DictionaryError, remedy=_REMEDY)
            for key in ("classes", "provenance")
        )
        classes = tuple(
            ConceptClass(concept=index, name=_text(item["name"]), colour=_colour(item["colour"]))
            for index, item in enumerate(listed)
        )
        return ConceptDictionary(
            identifier=metadata["identifier"],
            concepts=concepts,
            encoder=metadata["encoder"],
            pixel_size_um=_size(metadata["pixel_size_um"]),
            classes=classes,
            provenance={key: str(value) for key, value in provenance.items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DictionaryError(f"{path} has damaged metadata ({type(error).__name__}: {error}). {_REMEDY}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r:.100}")
    return value


def _size(value: str) -> float:
    if not 0 < float(value) < math.inf:
        raise ValueError(f"expected µm per px above 0, got {value!r:.100}")
    return float(value)


def _colour(value: object) -> Colour:
    match value:
        case [int(red), int(green), int(blue)]:
            return red, green, blue
    raise TypeError(f"expected a colour of three whole numbers, got {value!r:.100}")
