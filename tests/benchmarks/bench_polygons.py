"""Label map to polygons: ours (a simplified, valid coverage) against rasterio's outlines made into shapely.

Run as ``python tests/benchmarks/bench_polygons.py``. Prints one JSON object per result.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import shapely

from conceptseg.geometry.coverage import Coverage, polygonize

TOLERANCE_PX = 1.0
RUNS = 7


def concept_like_map(side: int, *, labels: int, feature_px: float, seed: int = 0) -> np.ndarray:
    """(side, side) uint8 of labels 1 … ``labels``: the largest of as many smooth random fields."""
    rng = np.random.default_rng(seed)
    best = np.full((side, side), -np.inf, np.float32)
    result = np.zeros((side, side), np.uint8)
    for label in range(1, labels + 1):
        field = rng.standard_normal((side, side), dtype=np.float32)
        field = cv2.GaussianBlur(field, (0, 0), feature_px / 2)
        field /= field.std()
        larger = field > best
        best[larger] = field[larger]
        result[larger] = label
    return result


def rasterio_polygons(labels: np.ndarray) -> np.ndarray:
    """What one would do without this package: exact outlines, not simplified, not a coverage.

    Made into shapely all at once, which is six times as fast as ``shapely.geometry.shape`` polygon by polygon.
    """
    from rasterio import features

    polygons = [geometry["coordinates"] for geometry, _ in features.shapes(labels, mask=labels > 0, connectivity=4)]
    rings = [ring for polygon in polygons for ring in polygon]
    n_points, n_rings = [len(ring) for ring in rings], [len(polygon) for polygon in polygons]
    offsets = tuple(np.concatenate([[0], np.cumsum(sizes)]) for sizes in (n_points, n_rings))
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, np.concatenate(rings), offsets)


def side_by_side(
    ours: Callable[[], Any], baseline: Callable[[], Any], *, runs: int = RUNS
) -> tuple[list[float], list[float]]:
    """Seconds of ``runs`` runs of both, taken in turns so that other load meets both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for function, times in zip((ours, baseline), seconds, strict=True):
            begin = time.perf_counter()
            function()
            times.append(time.perf_counter() - begin)
    return seconds


def describe(exact: Coverage, simple: Coverage) -> dict[str, Any]:
    """Checks and sizes of a coverage."""
    pixels = exact.components.area_px[exact.component]
    return {
        "area_error_before_simplification": float(np.abs(shapely.area(exact.polygons) - pixels).max()),
        "area_change_by_simplification": float(shapely.area(simple.polygons).sum() / pixels.sum() - 1),
        "polygons": int(simple.polygons.size),
        "vertices_exact": int(shapely.get_num_coordinates(exact.polygons).sum()),
        "vertices": int(shapely.get_num_coordinates(simple.polygons).sum()),
        "is_valid": bool(shapely.is_valid(simple.polygons).all()),
        "coverage_is_valid": bool(shapely.coverage_is_valid(simple.polygons)),
        "coverage_is_valid_before_simplification": bool(shapely.coverage_is_valid(exact.polygons)),
    }


def measure() -> list[dict[str, Any]]:
    """The result ``polygons_vs_rasterio``; medians of runs side by side, compiling excluded."""
    labels = concept_like_map(2048, labels=8, feature_px=12)
    # The first calls compile, or load what was compiled before.
    exact, simple = polygonize(labels, tolerance_px=0), polygonize(labels, tolerance_px=TOLERANCE_PX)
    baseline_polygons = rasterio_polygons(labels)
    ours, baseline = side_by_side(
        lambda: polygonize(labels, tolerance_px=TOLERANCE_PX), lambda: rasterio_polygons(labels)
    )

    large = concept_like_map(4096, labels=8, feature_px=32)
    large_seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        large_simple = polygonize(large, tolerance_px=TOLERANCE_PX)
        large_seconds.append(time.perf_counter() - begin)
    detail = describe(exact, simple) | {
        "map": "2048 x 2048, 8 classes, features of 12 px",
        "tolerance_px": TOLERANCE_PX,
        "runs": RUNS,
        "ours_seconds": ours,
        "baseline_seconds": baseline,
        "baseline_polygons": int(baseline_polygons.size),
        "baseline_coverage_is_valid": bool(shapely.coverage_is_valid(baseline_polygons)),
        "seconds_4096_features_32_px": statistics.median(large_seconds),
        "polygons_4096_features_32_px": int(large_simple.polygons.size),
    }
    return [
        {
            "name": "polygons_vs_rasterio",
            "ours": statistics.median(ours),
            "baseline": statistics.median(baseline),
            "ratio": statistics.median(baseline) / statistics.median(ours),
            "unit": "s",
            "better": "lower",
            "detail": detail,
        }
    ]


if __name__ == "__main__":
    for result in measure():
        print(json.dumps(result, indent=2))
