"""How much of which concept a region has, for scripts and spreadsheets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from conceptseg.domain.csv_file import write_csv
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.files import replacing
from conceptseg.pipeline.result import SegmentationResult

_COLUMNS = ("id", "name", "colour", "area_um2", "area_percent", "polygons", "mean_activation")


def write_summary(path: Path, result: SegmentationResult) -> None:
    """Write the summary of ``result``: everything as ``.json``, or one row per concept as ``.csv``.

    Args:
        path: Ends in ``.json`` or ``.csv``.
        result: What to summarise; concepts without area are listed too.

    Raises:
        InvalidRequestError: the suffix is another one.
        OutputError: the file cannot be written; an existing file stays as it was.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".json", ".csv"):
        raise InvalidRequestError(f"Cannot write a summary to {path}: expected a name in .json or .csv.")
    with replacing(path) as temporary:
        if suffix == ".json":
            text = json.dumps(summary(result), indent=2, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        else:
            concepts = summary(result)["concepts"]
            rows = (concept | {"colour": "#{:02x}{:02x}{:02x}".format(*concept["colour"])} for concept in concepts)
            write_csv(temporary, _COLUMNS, rows)


def summary(result: SegmentationResult) -> dict[str, Any]:
    """The summary of ``result`` as plain values that JSON can hold.

    Returns:
        ``image``, ``region`` (x, y, width, height in full-resolution px, z, t), ``pixel_size_um`` (µm per
        full-resolution px, so that it goes with the region), ``encoder``, ``dictionary``, ``method``,
        ``seconds`` per stage, ``remarks`` about the slide, and ``concepts`` with ``id``, ``name``, ``colour``
        [red, green, blue], ``area_um2``, ``area_percent`` of the labelled tissue, ``polygons`` and
        ``mean_activation``. A number that is not finite is null.
    """
    grid = result.label_map.grid
    region = grid.region
    return {
        "image": result.image,
        "region": {
            "x": region.x,
            "y": region.y,
            "width": region.width,
            "height": region.height,
            "z": region.z,
            "t": region.t,
        },
        # It was divided and multiplied on its way: 10 digits hide what that left in the last ones.
        "pixel_size_um": float(f"{grid.full_pixel_size_um:.10g}"),
        "encoder": result.encoder,
        "dictionary": result.dictionary,
        "method": result.method,
        "seconds": {stage: _finite(value) for stage, value in result.seconds.items()},
        "remarks": list(result.remarks),
        "concepts": [
            {
                "id": concept.concept_class.concept,
                "name": concept.concept_class.name,
                "colour": [int(channel) for channel in concept.concept_class.colour],
                "area_um2": _finite(concept.area_um2),
                "area_percent": _finite(concept.area_percent),
                "polygons": int(concept.polygons),
                "mean_activation": _finite(concept.mean_activation),
            }
            for concept in result.concepts
        ],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
