"""Where dictionaries are found: in the package, in the user's folder, or by path."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import platformdirs

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DictionaryError
from conceptseg.factorization.dictionary_file import load_dictionary

SUFFIX = ".safetensors"
DEFAULT_K = 16


def user_folder() -> Path:
    """The folder of the user's own dictionaries (``CONCEPTSEG_DICTIONARIES`` overrides it)."""
    override = os.environ.get("CONCEPTSEG_DICTIONARIES")
    return Path(override) if override else platformdirs.user_data_path("conceptseg") / "dictionaries"


def shipped_folder() -> Path:
    """The dictionaries that come with ConceptSeg."""
    return Path(str(resources.files("conceptseg"))) / "dictionaries"


def dictionary_paths() -> dict[str, Path]:
    """Name -> file of all dictionaries; the user's own win over the shipped ones of the same name."""
    return {
        path.stem: path
        for folder in (shipped_folder(), user_folder())
        if folder.is_dir()
        for path in sorted(folder.glob(f"*{SUFFIX}"))
    }


def dictionary_identifier(encoder: str, *, name: str | None, k: int) -> str:
    """``NAME-kK``, by default with the encoder's name."""
    return f"{name or encoder.replace(':', '-').replace('/', '-')}-k{k}"


def find_dictionary(*, encoder: str, name: str | None, k: int | None) -> ConceptDictionary:
    """Choose a dictionary.

    Args:
        encoder: Identifier of the encoder in use.
        name: Name of a shipped or user dictionary, or path of a dictionary file; None for ``{encoder}-k{k}``.
        k: Number of concepts; 16 when neither name nor k is given.

    Raises:
        DictionaryError: there is none, or it does not have k concepts.
    """
    paths = dictionary_paths()
    if name is None:
        name = dictionary_identifier(encoder, name=None, k=k or DEFAULT_K)
    if name in paths:
        dictionary = load_dictionary(paths[name])
    elif name.endswith(SUFFIX) or os.sep in name or Path(name).exists():
        dictionary = load_dictionary(Path(name))
    else:
        own = sorted(known for known, path in paths.items() if _encoder_of(path) == encoder)
        raise DictionaryError(
            f"There is no dictionary {name!r}. "
            + (f"For encoder {encoder} there are: {', '.join(own)}. " if own else "")
            + "Give --dictionary FILE, make one with `conceptseg concepts fit` or `conceptseg concepts import`, "
            "or learn concepts from the region itself with --method learned --k K."
        )
    dictionary.require_encoder(encoder)
    if k is not None and dictionary.n_concepts != k:
        raise DictionaryError(f"Dictionary {dictionary.identifier} has {dictionary.n_concepts} concepts, not k = {k}.")
    return dictionary


def _encoder_of(path: Path) -> str | None:
    try:
        return load_dictionary(path).encoder
    except DictionaryError:
        return None
