"""Coordinates as text, compiled: writing them is most of the work of a GeoJSON file."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

_LONGEST = 16
"""Characters of ``-99999999999.99,``: more than twelve digits no image needs."""


def rings_as_json(
    hundredths: NDArray[np.int64], ring_starts: NDArray[np.int64], polygon_starts: NDArray[np.int64]
) -> list[str]:
    """The rings of every polygon as a JSON array of arrays of points.

    Args:
        hundredths: (n, 2) coordinates in hundredths of a px, below 10^13.
        ring_starts: First point of every ring, and n.
        polygon_starts: First ring of every polygon, and their number.

    Returns:
        One string per polygon, with at most two decimals and no trailing zeros.
    """
    text = np.empty(len(hundredths) * (2 * _LONGEST + 4) + 4 * len(ring_starts) + 2 * len(polygon_starts), np.uint8)
    ends = np.empty(len(polygon_starts) - 1, np.int64)
    _write(hundredths, ring_starts, polygon_starts, text, ends)
    document = text[: ends[-1] if len(ends) else 0].tobytes().decode("ascii")
    starts = [0, *ends.tolist()]
    return [document[start:end] for start, end in pairwise(starts)]


@njit(cache=True, nogil=True)
def _write(hundredths, ring_starts, polygon_starts, text, ends):  # type: ignore[no-untyped-def]
    opening, closing, comma = 91, 93, 44
    at = 0
    for polygon in range(len(polygon_starts) - 1):
        text[at] = opening
        at += 1
        for ring in range(polygon_starts[polygon], polygon_starts[polygon + 1]):
            text[at] = opening
            at += 1
            for point in range(ring_starts[ring], ring_starts[ring + 1]):
                text[at] = opening
                at = _number(hundredths[point, 0], text, at + 1)
                text[at] = comma
                at = _number(hundredths[point, 1], text, at + 1)
                text[at] = closing
                text[at + 1] = comma
                at += 2
            text[at - 1] = closing
            text[at] = comma
            at += 1
        text[at - 1] = closing
        ends[polygon] = at


@njit(cache=True, nogil=True)
def _number(hundredths, text, at):  # type: ignore[no-untyped-def]
    """Write a number of hundredths with as few decimals as it needs; return where the next character goes."""
    minus, point, zero = 45, 46, 48
    if hundredths < 0:
        text[at] = minus
        at += 1
        hundredths = -hundredths
    whole, rest = hundredths // 100, hundredths % 100
    length = 1
    bound = 10
    while whole >= bound:
        bound *= 10
        length += 1
    for place in range(at + length - 1, at - 1, -1):
        text[place] = zero + whole % 10
        whole //= 10
    at += length
    if rest:
        text[at] = point
        text[at + 1] = zero + rest // 10
        at += 2
        if rest % 10:
            text[at] = zero + rest % 10
            at += 1
    return at
