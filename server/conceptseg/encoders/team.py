"""One encoder on several GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from conceptseg.encoders.encoder import Encoder


class EncoderTeam(Encoder):
    """The same model on several devices, which get batches in turn.

    Nothing waits for a GPU until its activations are fetched, so one thread keeps all of them busy.
    """

    def __init__(self, members: Sequence[Encoder]):
        """Make one encoder of ``members``, at least one, that differ in nothing but their device."""
        self.spec, self.device, self.dtype = members[0].spec, members[0].device, members[0].dtype
        self.parallel = len(members)
        self._members, self._next = tuple(members), 0
        self._follow_members()

    def tune(self) -> None:
        """Find the fastest batch of every member; see `Encoder.tune`."""
        for member in self._members:
            member.tune()
        self._follow_members()

    def in_turn(self) -> Encoder:
        """See `Encoder.in_turn`."""
        member = self._members[self._next]
        self._next = (self._next + 1) % len(self._members)
        self._follow_members()
        return member

    def _follow_members(self) -> None:
        self.batch_tiles = min(member.batch_tiles for member in self._members)

    def encode(self, tiles: NDArray[np.uint8] | Tensor) -> Tensor:
        """Encode on the device whose turn it is; see `Encoder.encode`."""
        return self.in_turn().encode(tiles)
