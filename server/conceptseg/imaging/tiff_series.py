"""The images inside a TIFF file, their planes, and the one that is meant when nobody says which."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

import numpy as np
import tifffile

from conceptseg.domain.errors import ImageError
from conceptseg.imaging.ome import OmeImage, named_files, ome_images, red_green_blue
from conceptseg.imaging.tiff_pages import Page

_EXTRA_NAMES = frozenset(
    name + image for name in ("label", "macro", "overview", "thumbnail") for image in ("", " image")
) | {"macro mask image"}
"""Names, in small letters, by which QuPath knows pictures that belong to a slide and are not the slide."""

_MUCH_LARGER = 4
"""The first image is the one, unless another is more than this many times larger: QuPath's rule for previews."""

_MOST_PAGES = 64
"""Pages searched for levels; a pyramid has at most a dozen, a long stack has none."""

_LISTED = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class TiffImage:
    """One image of a TIFF file.

    Attributes:
        number: Its place in the file, from 0: the ``--series`` of Bio-Formats and of QuPath.
        series: Its pages.
        ome: What OME-XML says about it; None without.
        labels: What ImageJ calls its planes, in the order of the file; empty without.
    """

    number: int
    series: tifffile.TiffPageSeries
    ome: OmeImage | None
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the file calls it; may be empty."""
        if self.ome is not None:
            return self.ome.name.rstrip("\0")
        return self.series.name

    @property
    def page(self) -> tifffile.TiffPage:
        """A page that describes all others."""
        return self.series.keyframe

    @property
    def is_extra(self) -> bool:
        """Whether QuPath takes it for the label or the overview of a slide."""
        return len(self.series.levels) == 1 and self.name.lower() in _EXTRA_NAMES

    @property
    def px(self) -> int:
        """Full-resolution px of all planes."""
        return self.page.imagewidth * self.page.imagelength * self.z_slices * self.time_points

    @property
    def z_slices(self) -> int:
        """Number of z-slices."""
        return self._count("Z")

    @property
    def time_points(self) -> int:
        """Number of time points; pages of which nobody says what they are count as such, as in Bio-Formats."""
        return math.prod(n for axis, n in self._outer if axis not in "ZC")

    @property
    def channels(self) -> int:
        """Number of channels that lie in pages of their own."""
        return self._count("C")

    @property
    def red_green_blue(self) -> tuple[int, int, int] | None:
        """The places of red, green and blue among the channels, where the file gives them these names."""
        return red_green_blue(self.channel_names)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels; empty where the file has none."""
        if self.ome is not None:
            return self.ome.channels
        return self.labels[: self.channels] if len(self.labels) >= self.channels > 1 else ()

    def pages(self, *, z: int, t: int, level: int = 0) -> tuple[Page, ...]:
        """The pages of a plane, one per channel.

        Raises:
            ImageError: the file lacks one of them.
        """
        return tuple(self._page(self._index(z=z, t=t, channel=c), level) for c in range(self.channels))

    @cached_property
    def _outer(self) -> tuple[tuple[str, int], ...]:
        """Axes outside a page with their lengths, the slowest first."""
        axes, shape = self.series.get_axes(squeeze=False), self.series.get_shape(squeeze=False)
        inner = math.prod(self.page.shape)
        while axes and math.prod(shape) > 1 and inner > 1:
            # From the fastest axis on, those that make up a page.
            if inner % shape[-1]:
                break
            inner //= shape[-1]
            axes, shape = axes[:-1], shape[:-1]
        if math.prod(shape) == 3 and red_green_blue(self.labels):
            # ImageJ's "RGB Stack" is one of three slices that are called Red, Green and Blue.
            return (("C", 3),)
        return tuple(zip(axes, shape, strict=True))

    def _count(self, axis: str) -> int:
        return math.prod(n for name, n in self._outer if name == axis)

    def _index(self, *, z: int, t: int, channel: int) -> int:
        others = tuple(n for axis, n in self._outer if axis not in "ZC")
        time = iter(np.unravel_index(t, others)) if others else iter(())
        place = {"Z": z, "C": channel}
        at = [place[axis] if axis in place else int(next(time)) for axis, _ in self._outer]
        return int(np.ravel_multi_index(at, [n for _, n in self._outer])) if at else 0

    def _page(self, index: int, level: int) -> Page:
        series = self.series.levels[level]
        try:
            page = self._virtual(index) if series.is_truncated and index else series[index]
        except IndexError:
            page = None
        if page is None:
            raise ImageError(
                f"{self.series.keyframe.parent.filehandle.name} lacks plane {index} of {self.name or 'its image'}, "
                "which its description names. Copy or export it again."
            )
        return page

    def _virtual(self, index: int) -> tifffile.TiffFrame:
        """A plane behind the one page by which ImageJ describes stacks of more than 4 GB."""
        page = self.page
        return tifffile.TiffFrame(
            page.parent,
            index,
            keyframe=page,
            dataoffsets=tuple(offset + index * page.nbytes for offset in page.dataoffsets),
            databytecounts=page.databytecounts,
        )

    def reduced(self, *, z: int, t: int, alone: bool) -> Iterator[tuple[Page, ...]]:
        """Pages of a plane that may be smaller copies of it, wherever the file keeps them.

        Args:
            z: The z-slice.
            t: The time point.
            alone: No other image of the file has pages.
        """
        # In a file of no known software tifffile takes any later page of half the size for a level, unflagged.
        if self.series.kind not in ("generic", "uniform"):
            for level in range(1, len(self.series.levels)):
                yield self.pages(z=z, t=t, level=level)
        own = self.pages(z=z, t=t)
        if self.channels == 1:
            yield from ((page,) for page in list(own[0].pages or [])[:_MOST_PAGES])
            if alone:
                file = self.page.parent
                later = (file.pages[i] for i in range(1, min(len(file.pages), _MOST_PAGES)))
                pages = (page.aspage() if isinstance(page, tifffile.TiffFrame) else page for page in later)
                yield from ((page,) for page in pages if page.is_reduced)

    def __str__(self) -> str:
        """Number, name and size, for a person who must choose."""
        name = f" {self.name}" if self.name else ""
        return f"{self.number}{name} ({self.page.imagewidth} × {self.page.imagelength} px)"


def images_of(file: tifffile.TiffFile, *, name: str) -> tuple[TiffImage, ...]:
    """The images inside a file, in its order.

    Raises:
        ImageError: there is none, or its planes are in files of other folders.
    """
    description = (file.ome_metadata or "") if file.is_ome else ""
    elsewhere = sorted(part for part in named_files(description) if PurePath(part.replace("\\", "/")).name != part)
    if elsewhere:
        raise ImageError(
            f"{name} keeps planes in {elsewhere[0]}, in another folder. Put all files of an OME-TIFF into one folder, "
            "or export it as one file."
        )
    if not file.series:
        raise ImageError(f"{name} holds no image, or its list of images is damaged. Copy the file again.")
    described = iter(ome_images(description))
    labels = tuple(map(str, (file.imagej_metadata or {}).get("Labels") or ())) if file.is_imagej else ()
    found = []
    for number, series in enumerate(file.series):
        # tifffile leaves out images that it cannot read, so the numbers of both differ.
        ome = next((image for image in described if _fits(image, series)), None) if series.kind == "ome" else None
        found.append(TiffImage(number=ome.number if ome else number, series=series, ome=ome, labels=labels))
    return tuple(found)


def first_slide(images: Sequence[TiffImage]) -> TiffImage:
    """The first image that is no label or overview: QuPath's scripts open it, its window puts it first."""
    return next((image for image in images if not image.is_extra), images[0])


def proposed(images: Sequence[TiffImage]) -> TiffImage:
    """The image that is meant when nobody says which: the first slide, unless that can only be a preview."""
    first = first_slide(images)
    largest = max((image for image in images if not image.is_extra), key=lambda image: image.px, default=first)
    return largest if largest.px > _MUCH_LARGER * first.px else first


def choose(images: Sequence[TiffImage], series: int, *, name: str) -> TiffImage:
    """The image with a number.

    Raises:
        ImageError: there is no such image.
    """
    for image in images:
        if image.number == series:
            return image
    raise ImageError(f"{name} has no image {series}. It holds {listed(images)}. Choose one of these with --series.")


def listed(images: Sequence[TiffImage]) -> str:
    """The images for a person who must choose."""
    more = f" and {len(images) - _LISTED} more" if len(images) > _LISTED else ""
    return ", ".join(str(image) for image in images[:_LISTED]) + more


def _fits(image: OmeImage, series: tifffile.TiffPageSeries) -> bool:
    page = series.keyframe
    return (image.width, image.height) == (page.imagewidth, page.imagelength) and (
        not image.name or image.name == series.name
    )
