"""Results as QuPath shall hold them: made of a segmentation, and joined where concepts share a class."""

from __future__ import annotations

import math
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.qupath.project.contents import REJECTED, ClassStyle, Outline, Result
from conceptseg.qupath.project.labels import Labels

_OBJECT_IDS = uuid.UUID("0d7f4a1e-6a53-5d0f-9d43-2f7c7b1f4a90")  # namespace of object ids, any fixed value
_AREA, _PERIMETER = "Area µm^2", "Perimeter µm"
_SUMS = {_AREA, "Area %"}

Drawn = tuple[Result, Outline]
"""A result and its shape."""


def results_of(
    found: SegmentationResult, *, run: str, scope: str, parent: str | None, labels: Labels
) -> tuple[tuple[Drawn, ...], tuple[ClassStyle, ...]]:
    """The results of a segmentation.

    Args:
        found: The segmentation.
        run: Id of the run over the project.
        scope: What was segmented, e.g. image and parent. Object ids depend on run, scope and order alone, so a run
            that is resumed makes the same objects.
        parent: Id of the annotation the results go into; None for the image.
        labels: Names of the project.

    Returns:
        The results, touching ones of the same class joined, and the classes of all concepts if there are results.

    Raises:
        InvalidRequestError: a polygon is empty or not valid; QuPath would take it and fail much later.
    """
    styles = {}
    for summary in found.concepts:
        own = summary.concept_class
        styles[own.concept] = labels.style(found.dictionary, [own.concept], own) or ClassStyle(
            name=own.name, colour=own.colour
        )
    _require_areas([polygon.polygon for polygon in found.polygons])
    drawn = []
    region = found.label_map.grid.region
    for index, polygon in enumerate(found.polygons):
        result = Result(
            identifier=str(uuid.uuid5(_OBJECT_IDS, f"{run}/{scope}/{index}")),
            parent=parent,
            class_name=styles[polygon.concept].name,
            run=run,
            dictionary=found.dictionary,
            found=(polygon.concept,),
            area_px=float(polygon.polygon.area),
            length_px=float(polygon.polygon.length),
            z=region.z,
            t=region.t,
        )
        # QuPath's measurements are float64, and its GeoJSON has no NaN.
        finite = {name: float(value) for name, value in polygon.measurements.items() if math.isfinite(value)}
        drawn.append((result, Outline(wkb=shapely.to_wkb(polygon.polygon), measurements=finite)))
    # All of them: so the class list of a project does not depend on which image was finished first.
    by_name: dict[str, ClassStyle] = {}
    for style in styles.values() if drawn else ():
        # Of several concepts with one class, a colour that somebody chose for one of them is the class's.
        if style.name not in by_name or style.chosen:
            by_name[style.name] = style
    return join_touching(drawn), tuple(by_name.values())


def join_touching(drawn: Sequence[Drawn]) -> tuple[Drawn, ...]:
    """One result for those that share an edge, plane, parent, class, run, dictionary and verdict, but not the concept.

    The areas of a joined result are sums, its perimeter that of the new outline; other measurements are means
    weighted by area. Everything else is returned as it is, and so are rejected and reassigned results: what a person
    said about them is about their own outlines.
    """
    groups: dict[tuple[object, ...], list[Drawn]] = defaultdict(list)
    kept: list[Drawn] = []
    for item in drawn:
        result = item[0]
        if result.review == REJECTED or result.reassigned is not None:
            kept.append(item)
        else:
            plane = result.z, result.t
            groups[plane, result.parent, result.class_name, result.run, result.dictionary, result.review].append(item)
    for members in groups.values():
        several = len({result.concepts for result, _ in members}) > 1
        kept.extend(_joined(members) if several else members)
    return tuple(kept)


def _joined(members: Sequence[Drawn]) -> list[Drawn]:
    outlines = shapely.from_wkb([outline.wkb for _, outline in members])
    parts = shapely.get_parts(shapely.union_all(outlines))
    inside, part_of = shapely.STRtree(parts).query(shapely.point_on_surface(outlines), predicate="within")
    members_of: dict[int, list[int]] = defaultdict(list)
    for member, part in zip(inside.tolist(), part_of.tolist(), strict=True):
        members_of[part].append(member)
    kept = []
    for part, indices in members_of.items():
        of_part = [members[index] for index in indices]
        kept.append(of_part[0] if len(of_part) == 1 else _union(of_part, parts[part]))
    return kept


def _union(members: Sequence[Drawn], polygon: Polygon) -> Drawn:
    first = members[0][0]
    identifiers = sorted(result.identifier for result, _ in members)
    result = Result(
        identifier=str(uuid.uuid5(_OBJECT_IDS, "+".join(identifiers))),
        parent=first.parent,
        class_name=first.class_name,
        run=first.run,
        dictionary=first.dictionary,
        found=tuple(sorted({concept for result, _ in members for concept in result.found})),
        area_px=float(polygon.area),
        length_px=float(polygon.length),
        z=first.z,
        t=first.t,
        review=first.review,
    )
    return result, Outline(wkb=shapely.to_wkb(polygon), measurements=_combined(members, polygon))


def _combined(members: Sequence[Drawn], polygon: Polygon) -> Mapping[str, float]:
    combined: dict[str, float] = {}
    for name in dict.fromkeys(name for _, outline in members for name in outline.measurements):
        values = [
            (outline.measurements[name], result.area_px) for result, outline in members if name in outline.measurements
        ]
        if name in _SUMS:
            combined[name] = sum(value for value, _ in values)
        else:
            combined[name] = sum(value * area for value, area in values) / sum(area for _, area in values)
    if combined.get(_AREA, 0) > 0 and _PERIMETER in combined:
        combined[_PERIMETER] = float(polygon.length) * math.sqrt(combined[_AREA] / polygon.area)
    return combined


def _require_areas(polygons: Sequence[Polygon]) -> None:
    outlines: NDArray[np.object_] = np.asarray(polygons, object)
    wrong = shapely.is_empty(outlines) | ~shapely.is_valid(outlines) if len(outlines) else np.zeros(0, bool)
    if wrong.any():
        index = int(wrong.argmax())
        reason = shapely.is_valid_reason(polygons[index]) if not polygons[index].is_empty else "it is empty"
        raise InvalidRequestError(f"Polygon {index} is no valid area: {reason}. Please report this.")
