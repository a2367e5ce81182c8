"""Activations to outlines, sheet by sheet: memory does not grow with the region."""

from __future__ import annotations

import math
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from conceptseg.domain.errors import InvalidRequestError, OutputError
from conceptseg.domain.labels import Labels, Runs, label_dtype
from conceptseg.domain.region import PixelGrid
from conceptseg.domain.scratch import reserve
from conceptseg.factorization.activations import ActivationMap
from conceptseg.factorization.upsample import component_statistics, upsample_argmax
from conceptseg.geometry.coverage import polygonize
from conceptseg.geometry.join import join_sheets
from conceptseg.geometry.place import rasterize
from conceptseg.geometry.polygon_arrays import PolygonArrays
from conceptseg.geometry.sieve import remove_small
from conceptseg.imaging.tiles import Tile
from conceptseg.imaging.tissue import BlockMask
from conceptseg.pipeline.settings import SegmentSettings

_SHEET_PX = 4096
_MARGINS_PX = (128, 2048)
"""What is labelled around a sheet, so that areas on its edge are cleaned up as a whole: at least, and at most."""

_MARGIN_SIDES = 4
"""It is so many times as wide as a square of the smallest area that is kept."""

_OUTSIDE_WEIGHT = 1e-6
"""What a pixel outside the clip counts: next to nothing, but a sliver that holds no pixel's centre has means, too."""

_IN_MEMORY_PX = 1 << 28
"""Label maps with more pixels are kept in a temporary file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlines:
    """Polygons of one label each that form one coverage, with sums over their pixels.

    Polygons that go on beyond a clip are whole until they are placed; their sums are those of the pixels inside it.

    Attributes:
        polygons: n polygons in pixel corners of the label map.
        label: (n,) concept + 1.
        area_px: (n,) pixels.
        activation: (n,) activation of the own concept, summed over pixels.
        purity: (n,) its share of all activations, summed over pixels.
    """

    polygons: PolygonArrays
    label: NDArray[np.int64]
    area_px: NDArray[np.float64]
    activation: NDArray[np.float64]
    purity: NDArray[np.float64]

    def take(self, mask: NDArray[np.bool_]) -> Outlines:
        """Some of them, (n,) True for those."""
        return Outlines(
            polygons=self.polygons.take(np.flatnonzero(mask)),
            label=self.label[mask],
            area_px=self.area_px[mask],
            activation=self.activation[mask],
            purity=self.purity[mask],
        )


class SheetPlan:
    """How a grid is cut into rows of sheets, and which token rows each row of sheets needs.

    Attributes:
        rows: Sheets of each row.
        bands: Per row of sheets, first token row and row after the last, margins included.
        columns: x of the lines between sheets.
        lines: y of the lines between sheets.
    """

    def __init__(self, grid: PixelGrid, *, stride_px: int, settings: SegmentSettings):
        """Cut ``grid`` for an encoder with tokens of ``stride_px``.

        Raises:
            InvalidRequestError: areas to clean up are so large that sheets would not agree on them.
        """
        side = _SHEET_PX // stride_px * stride_px
        several = max(grid.width, grid.height) > side
        margin_px = _margin_px(grid, settings) if several else 0
        self._margin = -(-margin_px // stride_px) * stride_px
        self._grid, self._stride = grid, stride_px
        self.columns = list(range(side, grid.width, side))
        self.lines = list(range(side, grid.height, side))
        lefts, tops = [0, *self.columns], [0, *self.lines]
        self.rows = [
            [Tile(x=x, y=y, width=min(side, grid.width - x), height=min(side, grid.height - y)) for x in lefts]
            for y in tops
        ]
        # One row more: the tissue of the last px depends on the next block.
        tokens_high = -(-grid.height // stride_px)
        self.bands = [
            (max(0, y - self._margin) // stride_px, min(tokens_high, (y + side + self._margin) // stride_px + 1))
            for y in tops
        ]

    def with_margin(self, sheet: Tile) -> Tile:
        """The sheet and what is labelled around it."""
        outer = sheet.grown(self._margin)
        left, top = max(0, outer.x), max(0, outer.y)
        return Tile(
            x=left,
            y=top,
            width=min(self._grid.width, outer.x + outer.width) - left,
            height=min(self._grid.height, outer.y + outer.height) - top,
        )


def _margin_px(grid: PixelGrid, settings: SegmentSettings) -> int:
    least, most = _MARGINS_PX
    largest_um2 = (most / _MARGIN_SIDES) ** 2 * grid.pixel_area_um2
    for name in ("min_area_um2", "min_hole_area_um2"):
        if getattr(settings, name) > largest_um2:
            raise InvalidRequestError(
                f"Expected {name} of at most {largest_um2:g} for a region of {grid.width} × {grid.height} px, which is "
                f"cleaned up in parts; got {getattr(settings, name):g}. Choose less, or segment smaller regions."
            )
    area_px = max(settings.min_area_um2, settings.min_hole_area_um2) / grid.pixel_area_um2
    return max(least, math.ceil(_MARGIN_SIDES * math.sqrt(area_px)))


class LabelCanvas:
    """Collects the labels of sheets; large maps in a temporary file, which goes with the last array that uses it."""

    def __init__(self, grid: PixelGrid, *, n_concepts: int):
        """Make room for the labels of ``grid``.

        Raises:
            OutputError: a large map does not fit the disk.
        """
        self._shape, self._dtype = (grid.height, grid.width), np.dtype(label_dtype(n_concepts))
        self._array: Labels | None = None
        if grid.height * grid.width <= _IN_MEMORY_PX:
            self._array = np.zeros(self._shape, self._dtype)
            return
        self._lock = threading.Lock()
        size = grid.height * grid.width * self._dtype.itemsize
        with _on_disk(size):
            self._file = tempfile.TemporaryFile(prefix="conceptseg-labels-")  # noqa: SIM115 - lives as long as the map
            weakref.finalize(self, self._file.close)  # an array of its pixels has a handle of its own
            reserve(self._file, size)

    def put(self, labels: Labels, sheet: Tile) -> None:
        """Store the labels (height, width) of a sheet.

        Raises:
            OutputError: the disk is full.
        """
        if self._array is not None:
            self._array[sheet.y : sheet.y + sheet.height, sheet.x : sheet.x + sheet.width] = labels
            return
        # Written, not mapped: where the disk has no space after all, that is an error and not the end of the process.
        with self._lock, _on_disk():
            for row in np.flatnonzero(labels.any(axis=1)):
                self._file.seek(((sheet.y + int(row)) * self._shape[1] + sheet.x) * self._dtype.itemsize)
                self._file.write(labels[row].tobytes())

    def labels(self) -> Labels:
        """The whole map (grid.height, grid.width); of a large one only those parts are in memory that are looked at."""
        if self._array is not None:
            return self._array
        with _on_disk():
            self._file.flush()
        return np.memmap(self._file, self._dtype, mode="r", shape=self._shape)


@contextmanager
def _on_disk(size: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        needs = "" if size is None else f" It needs {size / 2**30:.1f} GiB there."
        raise OutputError(
            f"The label map of a large region does not fit the temporary folder {tempfile.gettempdir()}: "
            f"{error.strerror or error}.{needs} Free some space, or let the environment variable TMPDIR name a folder "
            "with more."
        ) from error


def outline_sheet(
    activations: ActivationMap,
    *,
    first_row: int,
    sheet: Tile,
    plan: SheetPlan,
    grid: PixelGrid,
    tissue: BlockMask | None,
    relabel: NDArray[np.intp] | None,
    n_concepts: int,
    settings: SegmentSettings,
    stride_px: int,
    clip: Polygon | MultiPolygon | None,
    canvas: LabelCanvas,
) -> Outlines:
    """Label a sheet, clean it up and outline it.

    Args:
        activations: Of the row of sheets, margins included.
        first_row: Token row of the grid with which ``activations`` begin.
        sheet: The sheet.
        plan: What the sheet is from.
        grid: All output pixels.
        tissue: Where there is tissue; None to label everything.
        relabel: The concept that each one of ``activations`` is labelled with; None where it is itself.
        n_concepts: Concepts of the labels.
        settings: How.
        stride_px: Output px per token side.
        clip: Shape of the parent annotation in full-resolution px, or None.
        canvas: Gets the labels, cut to ``clip``: a pixel is inside if its centre is.

    Returns:
        Outlines in px of the whole grid.
    """
    outer = plan.with_margin(sheet)
    first_column = outer.x // stride_px
    row = outer.y // stride_px - first_row
    columns = slice(first_column, -(-(outer.x + outer.width) // stride_px))
    rows = slice(row, row + -(-outer.height // stride_px))
    if not activations.count[rows, columns].any():
        return _NOTHING
    labels: Labels = upsample_argmax(
        activations.part(rows, columns), stride_px=stride_px, height=outer.height, width=outer.width
    )
    if relabel is not None:
        table = np.zeros(len(relabel) + 1, label_dtype(n_concepts))
        table[1:] = relabel + 1
        labels = table[labels]
        activations = activations.relabelled(relabel, n_concepts=n_concepts)
    if tissue is not None:
        labels *= tissue.pixels(x=outer.x, y=outer.y, width=outer.width, height=outer.height)
    if clip is not None:
        labels *= rasterize(
            clip,
            grid=grid,
            dilate_px=int(np.ceil(settings.tolerance_px)) + 2,
            part=(outer.x, outer.y, outer.width, outer.height),
        )
    labels = remove_small(
        labels,
        min_area_px=settings.min_area_um2 / grid.pixel_area_um2,
        min_hole_area_px=settings.min_hole_area_um2 / grid.pixel_area_um2,
    )
    top, left = sheet.y - outer.y, sheet.x - outer.x
    labels = np.ascontiguousarray(labels[top : top + sheet.height, left : left + sheet.width])
    if not labels.any():
        return _NOTHING
    coverage = polygonize(labels, tolerance_px=settings.tolerance_px)
    parts = coverage.components

    def summed(runs: Runs) -> NDArray[np.float64]:
        """(3, n) pixels, activation and purity of every component, summed over runs of its pixels."""
        n_pixels = np.bincount(runs.component, runs.stop - runs.first, minlength=len(parts.label))
        offset_px = (sheet.y - first_row * stride_px, sheet.x)
        statistics = component_statistics(
            activations, stride_px=stride_px, runs=runs, labels=parts.label, offset_px=offset_px
        )
        return np.stack([n_pixels, *statistics])

    sums = summed(parts.runs)
    if clip is not None:
        inside = rasterize(clip, grid=grid, part=(sheet.x, sheet.y, sheet.width, sheet.height))
        if not inside.all():
            sums = (1 - _OUTSIDE_WEIGHT) * summed(parts.runs_inside(inside)) + _OUTSIDE_WEIGHT * sums
            labels = labels * inside
    canvas.put(labels, sheet)
    area_px, activation, purity = sums
    own = coverage.component
    corner = np.array([sheet.x, sheet.y], np.float64)
    return Outlines(
        polygons=coverage.outlines.with_xy(coverage.outlines.xy + corner),
        label=coverage.labels.astype(np.int64),
        area_px=area_px[own],
        activation=activation[own],
        purity=purity[own],
    )


def join_outlines(sheets: Sequence[Outlines], plan: SheetPlan) -> Outlines:
    """One coverage of all sheets: polygons that go on beyond a sheet's edge become one."""
    sheets = [_NOTHING, *sheets]
    label = np.concatenate([sheet.label for sheet in sheets])
    joined, owner = join_sheets(
        PolygonArrays.concatenated([sheet.polygons for sheet in sheets]), label, columns=plan.columns, rows=plan.lines
    )
    label_of = np.zeros(len(joined), np.int64)
    label_of[owner] = label

    def summed(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.bincount(owner, np.concatenate(parts), minlength=len(joined)).astype(np.float64)

    return Outlines(
        polygons=joined,
        label=label_of,
        area_px=summed([sheet.area_px for sheet in sheets]),
        activation=summed([sheet.activation for sheet in sheets]),
        purity=summed([sheet.purity for sheet in sheets]),
    )


_NOTHING = Outlines(
    polygons=PolygonArrays.concatenated([]),
    label=np.empty(0, np.int64),
    area_px=np.empty(0),
    activation=np.empty(0),
    purity=np.empty(0),
)
