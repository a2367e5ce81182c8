"""Safe import of the published F-SEG dictionaries, which are joblib pickles.

A pickle can run any code. This reader resolves only the handful of names that rebuild plain numeric arrays and
refuses everything else before it is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from numpy.typing import NDArray

from conceptseg.domain.errors import DictionaryError

_MAX_BYTES = 1 << 30


class _NumericArrayWrapper(NumpyArrayWrapper):  # type: ignore[misc]
    """joblib's array header, without object arrays: joblib would unpickle those freely."""

    def read_array(self, unpickler: Any, ensure_native_byte_order: bool = False) -> Any:
        if self.dtype.hasobject:
            raise pickle.UnpicklingError("an array of Python objects")
        return super().read_array(unpickler, ensure_native_byte_order)


class _NumericUnpickler(NumpyUnpickler):  # type: ignore[misc]
    """Rebuilds dicts, numbers and numeric arrays; nothing else can be named."""

    _ALLOWED = {  # noqa: RUF012
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): _NumericArrayWrapper,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_published(path: Path) -> dict[int, NDArray[np.float32]]:
    """Read ``{k: array (k, channels)}`` from a joblib file without executing anything in it.

    Raises:
        DictionaryError: no such file, not such a file, or one that asks for code.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DictionaryError(f"{path} is larger than 1 GiB; a published dictionary has some megabytes.")
        with path.open("rb") as file:
            if file.read(1) != b"\x80":
                raise pickle.UnpicklingError("it does not start as one (compressed joblib files are not read)")
            file.seek(0)
            content = _NumericUnpickler(str(path), file, ensure_native_byte_order=False).load()
    except DictionaryError:
        raise
    except OSError as error:
        raise DictionaryError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a hostile or damaged pickle can fail in any way
        raise DictionaryError(
            f"{path} was refused: {error}. Expected a joblib pickle that holds nothing but "
            "{k: float array (k, channels)}, as published by F-SEG. Nothing in it was executed."
        ) from error
    if not isinstance(content, dict) or not content:
        raise DictionaryError(f"{path}: expected a dict {{k: array}}, got {type(content).__name__}.")
    for k, concepts in content.items():
        fits = isinstance(k, int) and isinstance(concepts, np.ndarray) and concepts.dtype.kind == "f"
        if not fits or concepts.ndim != 2 or len(concepts) != k:
            raise DictionaryError(f"{path}: entry {k!r} is not a float array (k, channels).")
    return {k: concepts.astype(np.float32) for k, concepts in sorted(content.items())}
