"""The size of pixels that are taken for squares."""

from __future__ import annotations

import logging

_SQUARE = 1.01
"""Sides that differ by less are a scanner's rounding."""

UM_PER_UNIT = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "in": 25400.0,
} | dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m", "micrometer"), 1.0)
"""Units of length as OME and ImageJ write them."""

_log = logging.getLogger(__name__)


def pixel_side_um(x_um: float, y_um: float, *, name: str) -> float:
    """The mean of both sides in µm, as QuPath has it; a warning names the image where they are no square's."""
    mean = (x_um + y_um) / 2
    if max(x_um, y_um) > _SQUARE * min(x_um, y_um):
        _log.warning(
            "%s has pixels of %.3g × %.3g µm; analysed as squares of %.3g µm, so its areas in µm² are %.0f %% too "
            "large. Export it with square pixels, or give --pixel-size-um.",
            name,
            x_um,
            y_um,
            mean,
            100 * (mean * mean / (x_um * y_um) - 1),
        )
    return mean
