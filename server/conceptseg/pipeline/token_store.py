"""Token samples of images on disk, so that a fit that was interrupted, or another one, need not read them again.

A work folder holds ``settings.json``, what all samples depend on, and ``samples/ID.safetensors``, one file per image
with what it was when it was read. Every file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.domain.files import replacing
from conceptseg.domain.json_file import read_json
from conceptseg.domain.scratch import reserve

_FORMAT = "conceptseg-token-samples"
_VERSION = 1
_SETTINGS = "settings.json"


class TokenStore:
    """The samples of a work folder."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str], channels: int) -> None:
        """Open a work folder, or begin one.

        Args:
            folder: Where; it is made if need be.
            settings: What samples depend on beside their image: encoder, seed, …
            channels: Channels of a token.

        Raises:
            InvalidRequestError: the folder belongs to other settings, or is no work folder and not empty.
            OutputError: it cannot be made or written.
        """
        self.folder = Path(folder)
        self._samples = self.folder / "samples"
        self._channels = channels
        content = {"format": _FORMAT, "version": _VERSION, "settings": dict(settings)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            existing = sorted(item.name for item in self.folder.iterdir())
            if _SETTINGS not in existing and any(not name.startswith(".") for name in existing):
                raise InvalidRequestError(
                    f"{self.folder} holds something else ({', '.join(existing[:3])}): expected an empty folder, or the "
                    "--work folder of an earlier run."
                )
            if _SETTINGS in existing:
                self._require_same(content)
            else:
                with replacing(self.folder / _SETTINGS) as temporary:
                    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            self._samples.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot use {self.folder}: {error.strerror or error}. Choose another --work.") from error

    def holds(self, image: Mapping[str, str], *, at_most: int) -> bool:
        """Whether there is a sample of the image as it is now, of so many tokens or of all it has.

        Args:
            image: What tells the image from others (``path``), and from an earlier state of it (the rest).
            at_most: Tokens wanted.
        """
        try:
            with safe_open(self._file(image), framework="numpy") as file:
                metadata = file.metadata() or {}
                count = file.get_slice("tokens").get_shape()[0]
        except (SafetensorError, OSError):
            return False  # there is none, or it is damaged
        if metadata.get("image") != _text(image):
            return False
        return bool(count >= at_most or count < int(metadata["at_most"]))

    def add(self, image: Mapping[str, str], tokens: NDArray[np.float32], *, at_most: int) -> None:
        """Keep a sample.

        Args:
            image: As for `holds`.
            tokens: (n, channels), first those that a smaller sample would have.
            at_most: How many were asked; fewer came if the image has no more.
        """
        with replacing(self._file(image)) as temporary:
            save_file(
                {"tokens": np.ascontiguousarray(tokens)},
                temporary,
                metadata={"image": _text(image), "at_most": str(at_most)},
            )

    def counts(self, images: Sequence[Mapping[str, str]], *, at_most: int) -> tuple[int, ...]:
        """Tokens of each of these images, if at most so many are wanted."""
        return tuple(min(at_most, self._count(image)) for image in images)

    def tokens(self, images: Sequence[Mapping[str, str]], *, at_most: int) -> NDArray[np.float32]:
        """The samples of these images one after another, (n, channels): a memory map that ends with this program."""
        counts = self.counts(images, at_most=at_most)
        if not sum(counts):
            return np.empty((0, self._channels), np.float32)
        try:
            # The map outlives the open file, which has no name and is gone when the map is, whatever happens.
            with tempfile.TemporaryFile(dir=self.folder) as scratch:
                reserve(scratch, 4 * sum(counts) * self._channels)
                joined = np.memmap(scratch, np.float32, mode="r+", shape=(sum(counts), self._channels))
        except OSError as error:
            raise OutputError(
                f"Cannot write into {self.folder}: {error.strerror or error}. Free some space there, or choose another "
                "--work."
            ) from error
        start = 0
        for image, count in zip(images, counts, strict=True):
            if not count:  # an image without tissue
                continue
            with safe_open(self._file(image), framework="numpy") as file:
                joined[start : start + count] = file.get_slice("tokens")[:count]
            start += count
        return joined

    def _count(self, image: Mapping[str, str]) -> int:
        with safe_open(self._file(image), framework="numpy") as file:
            return int(file.get_slice("tokens").get_shape()[0])

    def _file(self, image: Mapping[str, str]) -> Path:
        digest = hashlib.blake2b(image["path"].encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
        return self._samples / f"{digest}.safetensors"

    def _require_same(self, wanted: Mapping[str, object]) -> None:
        path = self.folder / _SETTINGS
        try:
            found = read_json(path)
            before, now = found["settings"], wanted["settings"]
            known = (found["format"], found["version"]) == (_FORMAT, _VERSION)
        except (InvalidRequestError, KeyError, TypeError) as error:
            raise InvalidRequestError(f"{path} is damaged ({error}): delete {self.folder} to begin anew.") from error
        if not known:
            raise InvalidRequestError(f"{path} is of another version: delete {self.folder} to begin anew.")
        assert isinstance(now, dict)
        changed = [
            f"{key} was {before.get(key, 'not set')}, is {now.get(key, 'not set')} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if changed:
            raise InvalidRequestError(
                f"{self.folder} was begun with other settings: {'; '.join(changed)}. Choose another --work folder, or "
                "delete this one to begin anew."
            )


def _text(image: Mapping[str, str]) -> str:
    return json.dumps(dict(image), sort_keys=True)
