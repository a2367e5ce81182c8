"""The z-slices and time points of an image, and which of them is read when nobody chose."""

from __future__ import annotations

import logging
from typing import Protocol, Self

from conceptseg.domain.errors import RegionError

_log = logging.getLogger(__name__)


class HasPlanes(Protocol):
    """The part of `conceptseg.imaging.reader.ImageReader` that tells its planes."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def z(self) -> int: ...  # noqa: D102

    @property
    def t(self) -> int: ...  # noqa: D102

    @property
    def z_slices(self) -> int: ...  # noqa: D102

    @property
    def time_points(self) -> int: ...  # noqa: D102


class OnePlane:
    """What a reader of a flat image says about planes."""

    name: str
    z = 0
    t = 0
    z_slices = 1
    time_points = 1

    def at(self, *, z: int, t: int) -> Self:
        """This very reader; see `conceptseg.imaging.reader.ImageReader.at`."""
        require_plane(self, z=z, t=t)
        return self


def shown_first(count: int) -> int:
    """Which of so many z-slices, or time points, the window of QuPath (0.6 and 0.7) shows first: the middle one."""
    return count // 2


def require_plane(image: HasPlanes, *, z: int, t: int) -> None:
    """Raise RegionError unless ``image`` has z-slice ``z`` and time point ``t``, both counted from 0."""
    if not (0 <= z < image.z_slices and 0 <= t < image.time_points):
        raise RegionError(
            f"{image.name} has no plane z={z}, t={t}: it has {_counted(image)}. Choose 0 <= z < {image.z_slices} and "
            f"0 <= t < {image.time_points}."
        )


def tell_plane(image: HasPlanes) -> None:
    """Say which plane ``image`` reads, unless it has only one."""
    if image.z_slices == image.time_points == 1:
        return
    taken = [f"z-slice {image.z}"] if image.z_slices > 1 else []
    taken += [f"time point {image.t}"] if image.time_points > 1 else []
    as_shown = (image.z, image.t) == (shown_first(image.z_slices), shown_first(image.time_points))
    _log.warning(
        "%s has %s; %s is taken (counted from 0)%s.",
        image.name,
        _counted(image),
        " of ".join(taken),
        ", which QuPath shows first" if as_shown else "",
    )


def _counted(image: HasPlanes) -> str:
    counts = (
        (image.z_slices, "z-slice"),
        (image.time_points, "time point"),
    )
    return " and ".join(f"{n} {noun}{'s' * (n != 1)}" for n, noun in counts)
