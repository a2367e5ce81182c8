"""Areas whose class a person named: annotations of QuPath projects, GeoJSON beside images, folders of tiles."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import shapely
from shapely import MultiPolygon, Polygon

from conceptseg.cli.image_inputs import SUFFIXES, is_project, project_entries, require_project
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.imaging.openslide_reader import holds_dicom
from conceptseg.imaging.reader import ImageReader, open_image
from conceptseg.qupath.geojson import WithoutArea, plane_of, read_features
from conceptseg.qupath.project.contents import RUN, Area
from conceptseg.qupath.project.entries import find_project
from conceptseg.qupath.slide import open_slide
from conceptseg.qupath.writer_process import ProjectProcess

_GEOJSON = (".geojson", ".geojson.gz")
_CONTAINER = "Region*"  # QuPath's class for areas to look at, whatever is in them
_EXPECTED = (
    "Expected a QuPath project, images with a GeoJSON file of the same name beside them, or a folder with one folder "
    "of tiles per class."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """An area of an image.

    Attributes:
        class_name: What a person says it is.
        outline: In full-resolution px; None for the whole image.
        plane: The z-slice and time point it was drawn on; None for those that QuPath shows first.
    """

    class_name: str
    outline: Polygon | MultiPolygon | None
    plane: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedImage:
    """An image with areas.

    Attributes:
        name: What messages call it.
        pixel_size_um: µm per full-resolution px as QuPath has it, which wins over the file; None without.
        open: Opens it.
        drawn: Its areas.
    """

    name: str
    pixel_size_um: float | None
    open: Callable[[], ImageReader]
    drawn: tuple[Drawn, ...]


def find_named_areas(
    paths: Sequence[Path], *, patterns: Sequence[str] = (), rebase: tuple[str, Path] | None = None
) -> list[NamedImage]:
    """The images that have areas with a class; what ConceptSeg itself drew does not count.

    Args:
        paths: QuPath projects, images or folders of images with GeoJSON beside them, folders of folders of tiles.
        patterns: Only images of projects with such a name.
        rebase: Folder where projects say that slides are, and where they are now.

    Raises:
        InvalidRequestError: a path that has no such areas.
        ProjectError: a project cannot be read.
    """
    require_project(paths, patterns=patterns, rebase=rebase)
    images: list[NamedImage] = []
    for path in paths:
        found = [image for image in _images_at(path, patterns, rebase) if image.drawn]
        if not found:
            raise InvalidRequestError(f"{path} has no area with a class. {_EXPECTED}")
        images.extend(found)
    return images


def _images_at(path: Path, patterns: Sequence[str], rebase: tuple[str, Path] | None) -> Iterator[NamedImage]:
    if is_project(path):
        yield from _of_project(find_project(path), patterns, rebase)
    elif path.is_dir() and not holds_dicom(path):
        items = sorted(item for item in path.iterdir() if not item.name.startswith("."))
        files = [item for item in items if item.suffix.lower() in SUFFIXES or (item.is_dir() and holds_dicom(item))]
        if files:
            yield from (_of_image(file, beside) for file in files if (beside := _beside(file)))
        else:
            yield from (tile for folder in items if folder.is_dir() for tile in _tiles(folder))
    elif not path.exists():
        raise InvalidRequestError(f"There is no {path}. {_EXPECTED}")
    elif beside := _beside(path):
        yield _of_image(path, beside)
    else:
        raise InvalidRequestError(
            f"There is no {path.with_suffix('.geojson').name} beside {path}. Export its annotations from QuPath "
            "(File > Export objects as GeoJSON), or give the QuPath project."
        )


def _of_project(project: Path, patterns: Sequence[str], rebase: tuple[str, Path] | None) -> Iterator[NamedImage]:
    with ProjectProcess(project, write=False) as reader:
        for entry in project_entries(project, patterns=patterns, rebase=rebase):
            areas = reader.contents(entry.identifier).areas
            yield NamedImage(
                name=entry.name,
                pixel_size_um=entry.pixel_size_um,
                open=partial(open_slide, entry),
                drawn=tuple(drawn for area in areas if (drawn := _of_area(area))),
            )


def _of_area(area: Area) -> Drawn | None:
    shape = shapely.from_wkb(area.wkb) if area.wkb is not None else None
    return _drawn(area.class_name, shape, (area.z, area.t)) if isinstance(shape, Polygon | MultiPolygon) else None


def _of_image(image: Path, geojson: Path) -> NamedImage:
    drawn = []
    without_area = WithoutArea(geojson)
    for number, feature in enumerate(read_features(geojson), start=1):
        properties = feature.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        class_name = _class_of(properties.get("classification"))
        if class_name is None or RUN in (properties.get("metadata") or {}):
            continue
        outlines = without_area.polygons(feature.get("geometry"), number=number, name=class_name)
        named = _drawn(class_name, MultiPolygon(outlines), plane_of(feature)) if outlines else None
        if named:
            drawn.append(named)
    without_area.tell(lambda line: click.echo(line, err=True))
    return NamedImage(name=str(image), pixel_size_um=None, open=partial(open_image, image), drawn=tuple(drawn))


def _class_of(classification: object) -> str | None:
    """The class of a feature; QuPath writes a derived class as several names, of which the first is the class."""
    if not isinstance(classification, dict):
        return None
    names = classification.get("names")
    name = names[0] if isinstance(names, list) and names else classification.get("name")
    return name if isinstance(name, str) else None


def _drawn(class_name: str | None, outline: Polygon | MultiPolygon, plane: tuple[int, int] | None) -> Drawn | None:
    base = (class_name or "").split(":")[0].strip()
    return Drawn(class_name=base, outline=outline, plane=plane) if base and base != _CONTAINER else None


def _beside(image: Path) -> Path | None:
    names = [image.with_suffix(suffix) for suffix in _GEOJSON]
    names += [image.with_name(image.name + suffix) for suffix in _GEOJSON]
    return next((path for path in names if path.is_file()), None)


def _tiles(folder: Path) -> Iterator[NamedImage]:
    """Tiles of one class, ``01_TUMOR`` being Tumor."""
    name = re.sub(r"^\d+[\s._-]+", "", folder.name).replace("_", " ").strip() or folder.name
    drawn = (Drawn(class_name=name.capitalize() if name.isupper() else name, outline=None),)
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            yield NamedImage(name=str(file), pixel_size_um=None, open=partial(open_image, file), drawn=drawn)
