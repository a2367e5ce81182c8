"""Encoders that stay in memory between calls."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, stop_if
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import choose_devices, load_encoder

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_LONGEST_NAME = 200


class EncoderStore:
    """Loads encoders when they are first asked for and keeps the ones used last."""

    def __init__(self, *, device: str, weights: Mapping[str, Path], keep: int = 3) -> None:
        """Choose the device.

        Args:
            device: As for `load_encoder`.
            weights: Local checkpoints by encoder name.
            keep: Encoders in memory; of more, the one that was not used for longest is given up.

        Raises:
            EncoderError: the device cannot be used.
        """
        self.device = choose_devices(device)[0]
        self._devices = device
        self._weights, self._keep = dict(weights), keep
        self._encoders: OrderedDict[str, Encoder] = OrderedDict()
        self._lock = threading.Lock()
        # Loading seeds torch's global generator and patches the hub's settings: one at a time.
        self._loading = threading.Lock()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the encoders in memory."""
        with self._lock:
            return tuple(self._encoders)

    def get(self, identifier: str, *, cancelled: IsCancelled) -> Encoder:
        """The encoder of that name, ``default`` for an empty one.

        Raises:
            EncoderError: see `load_encoder`.
            CancelledByCallerError: the caller gave up while another encoder was being loaded.
        """
        identifier = identifier or "default"
        if len(identifier) > _LONGEST_NAME:
            raise InvalidRequestError(f"Expected the name of an encoder, got {len(identifier)} characters.")
        if (encoder := self._known(identifier)) is not None:
            return encoder
        while not self._loading.acquire(timeout=_POLL_SECONDS):
            stop_if(cancelled)
        try:
            if (encoder := self._known(identifier)) is not None:  # somebody else was waiting for it, too
                return encoder
            started = time.perf_counter()
            encoder = load_encoder(identifier, device=self._devices, weights=self._weights.get(identifier))
            _log.info("Loaded encoder %s in %.1f s.", identifier, time.perf_counter() - started)
            self._remember(identifier, encoder)
            return encoder
        finally:
            self._loading.release()

    def _known(self, identifier: str) -> Encoder | None:
        with self._lock:
            encoder = self._encoders.get(identifier)
            if encoder is not None:
                self._encoders.move_to_end(identifier)
            return encoder

    def _remember(self, identifier: str, encoder: Encoder) -> None:
        with self._lock:
            self._encoders[identifier] = encoder
            while len(self._encoders) > self._keep:
                given_up, _ = self._encoders.popitem(last=False)
                _log.info("Gave up encoder %s.", given_up)
