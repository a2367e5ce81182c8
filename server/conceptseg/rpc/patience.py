"""How long somebody may let the server wait."""

from __future__ import annotations


class Patience:
    """Seconds that are used up by waiting, and earned again by what comes.

    Whoever delivers at least at a given rate can let the server wait for ever; whoever trickles comes to an end.
    """

    def __init__(self, seconds: float, *, rate: float, at_first: float | None = None) -> None:
        """Begin.

        Args:
            seconds: The most that can be left.
            rate: What must come to earn a second; 0 to earn all of them with whatever comes.
            at_first: What is left at the beginning; ``seconds`` by default.
        """
        self._seconds, self._rate = seconds, rate
        self._left = seconds if at_first is None else at_first

    def left(self, waited: float) -> float:
        """Seconds that are left when somebody has waited ``waited`` seconds for the next thing."""
        return self._left - waited

    def ended(self, waited: float, *, amount: float) -> None:
        """Something has come after ``waited`` seconds: ``amount`` of it counts."""
        earned = amount / self._rate if self._rate else self._seconds
        self._left = min(self._seconds, self._left - waited + max(0.0, earned))
