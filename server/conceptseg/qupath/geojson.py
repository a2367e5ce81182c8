"""GeoJSON as QuPath reads and writes it.

What QuPath's importer (0.5 to 0.7) needs, and why the features look as they do: a classification must have
both ``name`` and ``color``; ``measurements`` is an object of numbers; ``metadata`` takes strings only; a
``plane`` inside the geometry carries z and t; ids that are UUIDs are kept. Coordinates are pixels, not
longitude and latitude.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.files import replacing
from conceptseg.domain.json_file import parse_json
from conceptseg.domain.polygons import ConceptPolygon
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.qupath._digits import rings_as_json

DECIMALS = 2
"""QuPath snaps imported coordinates to hundredths of a pixel and exports two decimals: more would be lost."""

_FARTHEST_PX = 1e11
_POLYGON = shapely.GeometryType.POLYGON

_SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz")  # QuPath chooses its importer by these
_POLYGONS_PER_CHUNK = 2000  # bounds the memory at a few MB; larger chunks are not faster
_OBJECT_IDS = uuid.UUID("6c5d2a0e-2f6b-5f0c-9b60-8f6a0f0a1f3b")  # namespace of object ids, any fixed value


def require_geojson_name(path: Path) -> None:
    """Raise InvalidRequestError unless QuPath takes a file of this name for GeoJSON."""
    if not path.name.lower().endswith(_SUFFIXES):
        raise InvalidRequestError(f"Cannot write GeoJSON to {path}: expected a name in {', '.join(_SUFFIXES)}.")


def write_geojson(path: Path, result: SegmentationResult) -> None:
    """Write the polygons of ``result`` as a FeatureCollection that QuPath imports as classified annotations.

    Args:
        path: Ends in ``.geojson`` or ``.json``, and ``.gz`` after that if it shall be compressed.
        result: What to write; without polygons the collection is empty.

    Raises:
        InvalidRequestError: the suffix is another one, which QuPath would not read.
        OutputError: the file cannot be written; an existing file stays as it was.
    """
    path = Path(path)
    require_geojson_name(path)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".gz":
            # No name and time inside, so that equal results make equal files.
            with temporary.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as compressed:
                compressed.writelines(feature_collection(result))
        else:
            with temporary.open("wb") as plain:
                plain.writelines(feature_collection(result))


def feature_collection(result: SegmentationResult) -> Iterator[bytes]:
    """The polygons of ``result`` as a GeoJSON FeatureCollection, piece by piece.

    Every feature is a locked annotation, as those that QuPath's own pixel classifier makes, with an id that
    is the same for the same run and position. Measurements that are not finite are left out: JSON has none.

    Args:
        result: What to write. Coordinates are full-resolution px and end up with at most 2 decimals; the few
            polygons that rounding would spoil are repaired on that grid, or keep more decimals.

    Yields:
        Consecutive pieces of one ASCII document.

    Raises:
        InvalidRequestError: a polygon has coordinates that are not finite.
    """
    writer = _FeatureWriter(result)
    yield b'{"type":"FeatureCollection","features":['
    separator = "\n"
    for start in range(0, len(result.polygons), _POLYGONS_PER_CHUNK):
        features = writer.features(start, result.polygons[start : start + _POLYGONS_PER_CHUNK])
        yield (separator + ",\n".join(features)).encode("ascii")
        separator = ",\n"
    yield b"\n]}\n"


class _FeatureWriter:
    """Builds features as strings; what all features of a run or of a concept share is built once."""

    def __init__(self, result: SegmentationResult) -> None:
        self._run = hashlib.sha1(_OBJECT_IDS.bytes + f"{result.run_id}/".encode(), usedforsecurity=False)
        region = result.label_map.grid.region
        # QuPath's channel -1 means all channels.
        plane = {"c": -1, "z": region.z, "t": region.t} if region.z or region.t else None
        self._plane = f',"plane":{_json(plane)}' if plane else ""
        self._properties = {
            summary.concept_class.concept: '"objectType":"annotation","isLocked":true,"classification":'
            + _json({"name": summary.concept_class.name, "color": [int(c) for c in summary.concept_class.colour]})
            + ',"metadata":'
            + _json(
                {
                    "conceptseg.run": result.run_id,
                    "conceptseg.dictionary": result.dictionary,
                    "conceptseg.concept": str(summary.concept_class.concept),
                }
            )
            for summary in result.concepts
        }

    def features(self, first: int, polygons: Sequence[ConceptPolygon]) -> Iterator[str]:
        """One feature per polygon; the first has the index ``first`` in the result."""
        outlines = _coordinates([p.polygon for p in polygons], first=first)
        for index, (polygon, outline) in enumerate(zip(polygons, outlines, strict=True), start=first):
            finite = {name: float(v) for name, v in polygon.measurements.items() if math.isfinite(v)}
            yield (
                f'{{"type":"Feature","id":"{self._object_id(index)}",'
                f'"geometry":{{"type":"Polygon","coordinates":{outline}{self._plane}}},'
                f'"properties":{{{self._properties[polygon.concept]},"measurements":{_json(finite)}}}}}'
            )

    def _object_id(self, index: int) -> str:
        # What str(uuid5(_OBJECT_IDS, "RUN/INDEX")) gives, in a third of its time.
        digest = self._run.copy()
        digest.update(b"%d" % index)
        h = digest.hexdigest()
        return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:32]}"


def _coordinates(polygons: Sequence[Polygon], *, first: int) -> Iterator[str]:
    """The rings of each polygon as JSON, exterior first, closed; ``first`` is the first polygon's index."""
    _, exact, (ring_starts, polygon_starts) = shapely.to_ragged_array(np.asarray(polygons, object), include_z=False)
    if not (np.abs(exact) < _FARTHEST_PX).all():
        broken = next(
            i for i, p in enumerate(polygons) if not (np.abs(shapely.get_coordinates(p)) < _FARTHEST_PX).all()
        )
        raise InvalidRequestError(f"Polygon {first + broken} has coordinates that are not finite numbers of pixels.")
    rounded = np.round(exact, DECIMALS) + 0.0  # + 0.0 turns -0.0 into 0.0
    # What is on the grid of hundredths already, as our own coverages are, was valid before and is the same now.
    changed = np.logical_or.reduceat((rounded != exact).any(axis=1), ring_starts[polygon_starts[:-1]])
    offsets = (ring_starts, polygon_starts)
    moved = np.flatnonzero(changed)
    sound = np.ones(len(polygons), np.bool_)
    if moved.size:
        sound[moved] = shapely.is_valid(shapely.from_ragged_array(_POLYGON, rounded, offsets)[moved])
    outlines = rings_as_json(np.rint(rounded * 100).astype(np.int64), ring_starts, polygon_starts)
    for polygon, outline, is_sound in zip(polygons, outlines, sound, strict=True):
        yield outline if is_sound else _repaired(polygon)


def _repaired(polygon: Polygon) -> str:
    """Coordinates of a polygon that plain rounding makes invalid or empty."""
    snapped = shapely.set_precision(polygon, 10.0**-DECIMALS)
    if isinstance(snapped, Polygon) and not snapped.is_empty:
        rings = [np.round(shapely.get_coordinates(r), DECIMALS) + 0.0 for r in (snapped.exterior, *snapped.interiors)]
        if shapely.is_valid(Polygon(rings[0], rings[1:])):
            return _json([ring.tolist() for ring in rings])
    # It vanishes or falls apart on the grid of hundredths: here are all digits of the numbers.
    return _json([shapely.get_coordinates(r).tolist() for r in (polygon.exterior, *polygon.interiors)])


# Escaped to ASCII: names with any character survive whatever encoding a reader assumes.
_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def read_geojson_roi(path: Path, *, warn: Callable[[str], None]) -> Polygon | MultiPolygon:
    """Read the area to analyse from a GeoJSON file, as QuPath exports it.

    Args:
        path: A geometry, a Feature, a FeatureCollection, or a list of these; ``.gz`` is decompressed.
        warn: Told what is left out since it encloses no area.

    Returns:
        The union of all polygons, in full-resolution px.

    Raises:
        InvalidRequestError: the file cannot be read, is not JSON, or has no polygon; a feature is malformed, or
            crosses itself.
    """
    path = Path(path)
    polygons: list[Polygon] = []
    without_area = WithoutArea(path)
    for number, feature in enumerate(read_features(path), start=1):
        properties = feature.get("properties")
        name = properties.get("name") if isinstance(properties, dict) else None
        geometry = feature.get("geometry") if feature.get("type") == "Feature" else feature
        polygons.extend(without_area.polygons(geometry, number=number, name=name))
    if not polygons:
        found = f" ({without_area.found})" if without_area.found else ""
        raise InvalidRequestError(f"{path} contains no polygon{found}. {_HOW_TO_EXPORT}")
    without_area.tell(warn)
    return cast("Polygon | MultiPolygon", shapely.union_all(polygons))


_WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
_NAMED = 10
"""So many features are named in a message."""

_HOW_TO_EXPORT = "Draw an area in QuPath and export it with File ▸ Export objects as GeoJSON."


def read_geojson_plane(path: Path) -> tuple[int, int] | None:
    """The plane that the areas of a GeoJSON file were drawn on.

    Args:
        path: As `read_geojson_roi` takes it.

    Returns:
        z and t; None where nothing is said. QuPath leaves out the plane of what lies on z = 0, t = 0.

    Raises:
        InvalidRequestError: the file cannot be read, or they lie on several planes.
    """
    planes = dict.fromkeys(plane for feature in read_features(path) if (plane := plane_of(feature)) is not None)
    if len(planes) > 1:
        found = " and ".join(f"z={z}, t={t}" for z, t in planes)
        raise InvalidRequestError(f"The areas of {path} lie on several planes: {found}. Export those of one plane.")
    return next(iter(planes), None)


def plane_of(feature: Mapping[str, Any]) -> tuple[int, int] | None:
    """The z-slice and time point of a feature or bare geometry with an area; None where nothing is said.

    QuPath leaves the plane out of objects on z = 0, t = 0.
    """
    geometry = feature.get("geometry") if feature.get("type") == "Feature" else feature
    if not isinstance(geometry, dict) or geometry.get("type") in _WITHOUT_AREA:
        return None
    plane, properties = geometry.get("plane"), feature.get("properties")
    if not isinstance(plane, dict):
        return (0, 0) if isinstance(properties, dict) and "objectType" in properties else None
    z, t = plane.get("z", 0), plane.get("t", 0)
    return (z, t) if isinstance(z, int) and isinstance(t, int) else None


def read_features(path: Path) -> Iterator[dict[str, Any]]:
    """The features, or bare geometries, of a file; ``.gz`` is decompressed.

    Raises:
        InvalidRequestError: the file cannot be read, or is not JSON.
    """
    return _features(_load(path))


def _load(path: Path) -> object:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRequestError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
    return parse_json(content, name=str(path), remedy=_HOW_TO_EXPORT)


def _features(document: object) -> Iterator[dict[str, Any]]:
    """The features, or bare geometries, of a document; older QuPath exported a plain list of features."""
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        document = document.get("features")
    for item in document if isinstance(document, list) else [document]:
        if isinstance(item, dict):
            if item.get("type") == "FeatureCollection":
                yield from _features(item)
            else:
                yield item


class WithoutArea:
    """Takes the polygons of a file's features, and remembers those features that enclose no area."""

    def __init__(self, path: Path):
        self._path = path
        self._features: list[str] = []

    @property
    def found(self) -> str:
        """The features without area, for messages; empty if there are none."""
        more = len(self._features) - _NAMED
        return ", ".join(self._features[:_NAMED]) + (f" and {more} more" if more > 0 else "")

    def polygons(self, geometry: object, *, number: int, name: object = None) -> list[Polygon]:
        """The polygons of a feature's geometry.

        Args:
            geometry: GeoJSON; null, points, lines and what is empty have no polygon.
            number: The feature's number in the file, from 1.
            name: What people call it.

        Raises:
            InvalidRequestError: it is malformed, or crosses itself.
        """
        feature = f"feature {number}" + (f" ({name})" if name else "")
        polygons: list[Polygon] = []
        kinds: dict[str, None] = {}
        for part in _parts(geometry, f"{self._path}: {feature}"):
            if isinstance(part, str):
                kinds[part] = None
            else:
                polygons.append(part)
        if kinds:
            self._features.append(f"{feature}: {', '.join(kinds)}")
        return polygons

    def tell(self, warn: Callable[[str], None]) -> None:
        """Name the features without area in one line, if there are any."""
        if self._features:
            warn(f"{self._path}: only areas are used. Left out: {self.found}.")


def _parts(geometry: object, label: str) -> Iterator[Polygon | str]:
    """The polygons of a GeoJSON geometry, and the kinds of what in it encloses no area."""
    if geometry is None:
        yield "no geometry"
        return
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if not isinstance(geometry, dict) or not isinstance(kind, str):
        raise InvalidRequestError(f"{label} has no geometry. {_HOW_TO_EXPORT}")
    coordinates = geometry.get("coordinates")
    if kind in _WITHOUT_AREA:
        yield kind
    elif kind in ("Polygon", "MultiPolygon") and coordinates in ([], [[]]):
        yield f"empty {kind}"
    elif kind == "Polygon":
        yield _polygon(coordinates, label)
    elif kind == "MultiPolygon" and isinstance(coordinates, list):
        for rings in coordinates:
            yield f"empty part of a {kind}" if rings in ([], [[]]) else _polygon(rings, label)
    elif kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        for part in geometry["geometries"]:
            yield from _parts(part, label)
    else:
        raise InvalidRequestError(
            f"{label} is a {kind}, not an area. Export only areas (rectangles, ellipses, polygons, brush "
            "strokes), or delete this object from the file."
        )


def _polygon(rings: object, label: str) -> Polygon:
    try:
        exterior, *interiors = [_ring(ring) for ring in cast("list[object]", rings)]
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"{label} has malformed coordinates: expected rings of at least four finite [x, y] points."
        ) from error
    polygon = Polygon(exterior, interiors)
    if not polygon.is_valid:
        raise InvalidRequestError(
            f"{label} is not a valid area: {shapely.is_valid_reason(polygon)} (full-resolution px). Outlines "
            "must not cross themselves or each other: correct it in QuPath with the brush or wand, then "
            "export it again."
        )
    return polygon


def _ring(points: object) -> NDArray[np.float64]:
    ring = np.asarray(points, np.float64)
    if ring.ndim != 2 or len(ring) < 4 or ring.shape[1] not in (2, 3) or not np.isfinite(ring).all():
        raise ValueError(ring.shape)
    return ring[:, :2]
