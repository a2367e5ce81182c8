"""Polygons of a very large label map."""

from __future__ import annotations

import json
import sys
import time

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from conceptseg.bench.process import measured_apart, peak_gib
from conceptseg.geometry.coverage import polygonize
from conceptseg.geometry.join import join_sheets
from conceptseg.geometry.polygon_arrays import PolygonArrays

_SHEET_PX = 4096
_FEATURE_PX = 64


def large_map(*, side_px: int, n_classes: int) -> dict[str, float | bool]:
    """`polygonize_large` in a process of its own."""
    return measured_apart("conceptseg.bench.polygons", side_px, n_classes)


def polygonize_large(*, side_px: int, n_classes: int) -> dict[str, float | bool]:
    """Outline a map of smooth noise sheet by sheet, as `segment` does, and join the sheets.

    Returns:
        Seconds without making the map, peak memory in GiB with it, the number of polygons, whether they form a
        valid coverage, and the mean side of one in px.
    """
    labels = _smooth_noise(side_px, n_classes)
    polygonize(labels[:512, :512], tolerance_px=1.0)  # compiles
    started = time.perf_counter()
    lines = list(range(_SHEET_PX, side_px, _SHEET_PX))
    polygons, values = [], []
    for y in (0, *lines):
        for x in (0, *lines):
            coverage = polygonize(labels[y : y + _SHEET_PX, x : x + _SHEET_PX], tolerance_px=1.0)
            corner = np.array([x, y], np.float64)
            polygons.append(coverage.outlines.with_xy(coverage.outlines.xy + corner))
            values.append(coverage.labels.astype(np.int64))
    arrays, _ = join_sheets(PolygonArrays.concatenated(polygons), np.concatenate(values), columns=lines, rows=lines)
    joined = arrays.polygons()
    seconds = time.perf_counter() - started
    peak = peak_gib()
    return {
        "side_px": side_px,
        "classes": n_classes,
        "seconds": round(seconds, 1),
        "peak_gib": round(peak, 2),
        "polygons": joined.size,
        "mean_side_px": round(float(side_px / np.sqrt(joined.size)), 1),
        "coverage_is_valid": bool(shapely.coverage_is_valid(joined)),
    }


def _smooth_noise(side_px: int, n_classes: int) -> NDArray[np.uint8]:
    """(side, side) labels 1 … n_classes whose areas are about `_FEATURE_PX` wide."""
    coarse = side_px // (_FEATURE_PX // 4)
    rng = np.random.default_rng(0)
    fields = [
        cv2.GaussianBlur(rng.normal(size=(coarse, coarse)).astype(np.float32), (0, 0), 2) for _ in range(n_classes)
    ]
    labels = np.empty((side_px, side_px), np.uint8)
    band = 1024
    # The argmax of smooth fields, made band by band: all fields at full size would not fit memory.
    for top in range(0, side_px, band):
        height = min(band, side_px - top)
        y, x = np.mgrid[top : top + height, 0:side_px].astype(np.float32) * np.float32((coarse - 1) / side_px)
        best = np.full((height, side_px), -np.inf, np.float32)
        for label, field in enumerate(fields, start=1):
            value = cv2.remap(field, x, y, cv2.INTER_LINEAR)
            better = value > best
            best[better] = value[better]
            labels[top : top + height][better] = label
    return labels


if __name__ == "__main__":
    print(json.dumps(polygonize_large(side_px=int(sys.argv[1]), n_classes=int(sys.argv[2]))))
