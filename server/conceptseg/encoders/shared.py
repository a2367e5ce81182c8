"""One queue in front of the device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.domain.progress import IsCancelled, stop_if
from conceptseg.encoders.encoder import Encoder

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_POLL_SECONDS = 0.1


class DeviceQueue:
    """Runs batches one after another in one thread, in order of arrival.

    A call waits for its batch before it asks for the next, so calls take turns. The device sees one thread and one
    batch at a time, whatever else runs: results and memory are those of a call that is alone.
    """

    def __init__(self, *, on_fault: Callable[[], None]) -> None:
        """Start the thread; ``on_fault`` is called when the device does not work any more."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._on_fault = on_fault

    def run(self, work: Callable[[], _Result], *, cancelled: IsCancelled) -> _Result:
        """Do ``work`` when its turn comes.

        Raises:
            CancelledByCallerError: the caller gave up before.
        """
        future = self._thread.submit(work)
        try:
            while not wait([future], timeout=_POLL_SECONDS).done:
                stop_if(cancelled)
            return future.result()
        except RuntimeError as error:
            if "CUDA error" in str(error):
                # Sticky: every further call on the device fails until the process ends.
                _log.critical("The device failed: the server must be restarted.")
                self._on_fault()
            raise
        finally:
            future.cancel()  # of no effect once it has begun
            del future  # its error's traceback leads back here: a cycle that would keep the pixels alive

    def close(self) -> None:
        """End the thread after the batch at work."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class SharedEncoder(Encoder):
    """An encoder as one call sees it: the same, but in turn with the other calls."""

    def __init__(self, encoder: Encoder, queue: DeviceQueue, *, cancelled: IsCancelled) -> None:
        # The model stays the shared encoder's; without its initialiser nothing is built twice.
        self.spec = encoder.spec
        self.device, self.dtype = encoder.device, encoder.dtype
        self.batch_tiles, self.parallel = encoder.batch_tiles, encoder.parallel
        self._encoder, self._queue, self._cancelled = encoder, queue, cancelled

    def tune(self) -> None:
        """Find the fastest batch; see `Encoder.tune`."""
        self._queue.run(self._encoder.tune, cancelled=self._cancelled)
        self.batch_tiles = self._encoder.batch_tiles

    def in_turn(self) -> Encoder:
        """See `Encoder.in_turn`."""
        member = self._encoder.in_turn()
        self.batch_tiles = self._encoder.batch_tiles
        return self if member is self._encoder else SharedEncoder(member, self._queue, cancelled=self._cancelled)

    def encode(self, tiles: NDArray[np.uint8] | Tensor) -> Tensor:
        """Encode RGB tiles; see `Encoder.encode`."""
        features = self._queue.run(partial(self._encoder.encode, tiles), cancelled=self._cancelled)
        self.batch_tiles = self._encoder.batch_tiles
        return features
