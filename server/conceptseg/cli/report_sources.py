"""From what a user names to what a report shows: projects, GeoJSON files, images with a GeoJSON file beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from conceptseg.domain.classes import Colour
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import ConceptSegError, DictionaryError, ImageError, InvalidRequestError, ProjectError
from conceptseg.domain.json_file import read_json
from conceptseg.domain.per_file import PerFile
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths
from conceptseg.imaging.reader import ImageReader, open_image
from conceptseg.qupath.project.classes import STANDARD_CLASSES, class_colours
from conceptseg.qupath.project.contents import Outline, Result
from conceptseg.qupath.project.entries import ImageEntry, choose, find_project
from conceptseg.qupath.project.inside import part_of
from conceptseg.qupath.project.journal import read_journal
from conceptseg.qupath.project.labels import LABELS_FILE, Labels
from conceptseg.qupath.project.writer import JOURNAL, OWN_FOLDER
from conceptseg.qupath.results_file import FileResult, read_results
from conceptseg.qupath.slide import open_slide
from conceptseg.qupath.writer_process import ProjectProcess, WriterDiedError
from conceptseg.report.evidence import Evidence, Label, Piece, Slide, pixel_size_of

_GEOJSON = (".geojson", ".geojson.gz", ".json", ".json.gz")
_BESIDE = (
    ".svs",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".vms",
    ".bif",
    ".ome.tif",
    ".tif",
    ".tiff",
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
)
_ROUNDING_PX = 2.0

_SUMMARY = ("encoder", "dictionary", "method")


def is_project(source: Path) -> bool:
    """Whether a user means a QuPath project: its file, or a folder."""
    return source.is_dir() or source.suffix == ".qpproj"


def project_evidence(source: Path, *, patterns: Sequence[str], warn: Callable[[str], None]) -> Evidence:
    """What a QuPath project holds. It is only read.

    Args:
        source: The project file or its folder.
        patterns: Only images with such a name.
        warn: Told about images whose results cannot be read; they are left out.
    """
    project = find_project(source)
    slides, told = [], PerFile()
    with ProjectProcess(project, write=False) as reader:
        for entry in choose(reader.entries(), patterns=patterns):
            try:
                contents, outlines = reader.contents(entry.identifier), reader.outlines(entry.identifier)
            except WriterDiedError:
                raise
            except ConceptSegError as error:
                warn(told.line(entry.name, str(error), what="left out"))
                continue
            pieces = tuple(
                _piece_of_project(result, outlines[result.identifier]) for result in contents.results if result.concepts
            )
            slides.append(_slide_of_entry(entry, pieces))
    try:
        past = read_journal(part_of(project, OWN_FOLDER, JOURNAL))
    except ProjectError as error:
        warn(f"The report does not say how the results were made. {error}")
        past = None
    # Reports are passed on: names of files, and no folders of this machine.
    provenance = {"QuPath project": project.parent.name}
    if past is not None:
        provenance |= {f"last run: {key}": str(value) for key, value in past.settings.items() if value is not None}
        provenance["last run: id"] = past.run
    return _complete(
        Evidence(
            title=project.parent.name,
            slides=tuple(slides),
            labels=labels_of(Labels.load(part_of(project, LABELS_FILE))),
            class_colours=class_colours(project),
            provenance=provenance,
        )
    )


def file_evidence(
    sources: Sequence[Path], *, images: Sequence[Path], pixel_size_um: float | None, warn: Callable[[str], None]
) -> Evidence:
    """What GeoJSON files hold.

    Args:
        sources: GeoJSON files, or images with a GeoJSON file of the same name beside them.
        images: The images of the GeoJSON files, in their order; found beside them when empty.
        pixel_size_um: µm per full-resolution px of all images; None to believe the results, then the files.
        warn: Told what is missing in a file, or does not fit.

    Raises:
        InvalidRequestError: there is no GeoJSON file beside an image, or no image for each file given with ``images``.
    """
    pairs = [_pair(source, None) for source in sources]
    if images:
        if len(images) != len(sources):
            raise InvalidRequestError(
                f"Expected one --image for each of {len(sources)} GeoJSON files, got {len(images)}."
            )
        pairs = [(geojson, image) for (geojson, _), image in zip(pairs, images, strict=True)]
    slides, colours = [], dict[str, Colour | None]()
    for geojson, image in pairs:
        results = read_results(geojson, warn=warn)
        if not results:
            warn(
                f"{geojson} holds no results of ConceptSeg. Expected a file that `conceptseg segment` wrote, or "
                "objects that QuPath exported with their metadata."
            )
        colours |= {result.class_name: result.colour for result in results if result.colour}
        slides.append(_slide_of_file(geojson, image, results, pixel_size_um, warn=warn))
    title = slides[0].name if len(slides) == 1 else f"{len(slides)} slides"
    known = dict.fromkeys(name for name in STANDARD_CLASSES if name not in colours)
    return _complete(Evidence(title=title, slides=tuple(slides), class_colours=colours | known))


def labels_of(labels: Labels) -> dict[tuple[str, int], Label]:
    """(dictionary, concept) -> what people said."""
    return {
        (dictionary, concept): Label(name=said.name, colour=said.colour, ignored=said.ignored, review=said.review)
        for dictionary in labels.dictionaries
        for concept, said in labels.of(dictionary).items()
    }


def with_dictionary(evidence: Evidence, path: Path) -> Evidence:
    """The same with a dictionary that is not among those that are found by name."""
    dictionary = load_dictionary(path)
    return replace(evidence, dictionaries={**evidence.dictionaries, dictionary.identifier: dictionary})


def _complete(evidence: Evidence) -> Evidence:
    """With the dictionaries that this machine has."""
    paths = dictionary_paths()
    found: dict[str, ConceptDictionary] = {}
    for identifier in sorted({piece.dictionary for slide in evidence.slides for piece in slide.pieces}):
        if identifier in paths:
            try:
                found[identifier] = load_dictionary(paths[identifier])
            except DictionaryError:  # a report does not need it
                continue
    return replace(evidence, dictionaries=found)


def _piece(result: Result | FileResult, outline: Polygon | MultiPolygon, measurements: Mapping[str, float]) -> Piece:
    return Piece(
        outline=outline,
        dictionary=result.dictionary,
        concepts=result.concepts,
        class_name=result.class_name,
        run=result.run,
        measurements=measurements,
        reassigned_from=None if result.reassigned is None else result.found,
        review=result.review,
        plane=(result.z, result.t),
    )


def _piece_of_project(result: Result, outline: Outline) -> Piece:
    return _piece(result, shapely.from_wkb(outline.wkb), outline.measurements)


def _slide_of_entry(entry: ImageEntry, pieces: tuple[Piece, ...]) -> Slide:
    problem, size = None, None
    try:
        with open_slide(entry) as reader:
            size = reader.pixel_size_um
            _require_inside(pieces, reader, "Add the right one to the project, or segment this one.")
    except ConceptSegError as error:
        problem = str(error)
    return Slide(
        name=entry.name,
        file=entry.slide if problem is None else None,
        series=entry.series,
        pieces=pieces,
        problem=problem,
        # What was measured fits the areas that are shown in QuPath, whatever the calibration is now.
        pixel_size_um=pixel_size_of(pieces) or entry.pixel_size_um or size,
        provenance=_runs(pieces) | ({"file": entry.slide.name} if entry.slide else {}),
    )


def _slide_of_file(
    geojson: Path,
    image: Path | None,
    results: Sequence[FileResult],
    pixel_size_um: float | None,
    *,
    warn: Callable[[str], None],
) -> Slide:
    pieces = tuple(_piece(result, result.outline, result.measurements) for result in results)
    summary = _summary_beside(geojson)
    segmented = Path(str(summary.get("image", ""))).name
    if image is None and segmented:
        named = geojson.parent / segmented
        image = named if named.is_file() else None
    elif image is not None and segmented and image.name != segmented:
        warn(f"{geojson}: the summary beside it says that {segmented} was segmented, and {image.name} is shown.")
    problem, size = None, None
    if image is None:
        problem = f"Its image is not beside {geojson.name}. Name it with --image."
    else:
        try:
            with open_image(image) as reader:
                size = reader.pixel_size_um
                _require_inside(pieces, reader, "Name the right one with --image.")
        except ConceptSegError as error:
            problem = str(error)
    return Slide(
        name=image.name if image else str(summary.get("image") or geojson.name),
        file=image if problem is None else None,
        pieces=pieces,
        problem=problem,
        pixel_size_um=pixel_size_um or pixel_size_of(pieces) or size,
        provenance=_runs(pieces)
        | {key: str(summary[key]) for key in _SUMMARY if key in summary}
        | {"file": geojson.name},
    )


def _require_inside(pieces: Sequence[Piece], reader: ImageReader, remedy: str) -> None:
    """Raise ImageError if polygons lie outside an image: then it shows other tissue than they were found in."""
    if not pieces:
        return
    left, top, right, bottom = shapely.total_bounds(np.array([piece.outline for piece in pieces], object))
    if min(left, top) < -_ROUNDING_PX or right > reader.width + _ROUNDING_PX or bottom > reader.height + _ROUNDING_PX:
        raise ImageError(
            f"It is not the image of these results: they lie at x {left:g} to {right:g}, y {top:g} to {bottom:g} px, "
            f"and {reader.name} has {reader.width} × {reader.height} px. {remedy}"
        )


def _runs(pieces: Sequence[Piece]) -> dict[str, str]:
    runs = ", ".join(dict.fromkeys(f"{piece.run} ({piece.dictionary})" for piece in pieces))
    return {"run (dictionary)": runs} if runs else {}


def _pair(source: Path, image: Path | None) -> tuple[Path, Path | None]:
    """A GeoJSON file and its image, from either of them."""
    suffix = next((s for s in sorted(_GEOJSON, key=len, reverse=True) if source.name.lower().endswith(s)), None)
    if suffix is not None:
        stem = source.name[: -len(suffix)]
        beside = (source.with_name(stem + s) for s in ("", *_BESIDE, *(s.upper() for s in _BESIDE)))
        return source, image or next((path for path in beside if path.is_file() and path != source), None)
    for path in (source.with_name(name + s) for name in (source.stem, source.name) for s in _GEOJSON[:2]):
        if path.is_file():
            return path, source
    raise InvalidRequestError(
        f"There are no results beside {source}: expected {source.stem}.geojson, a GeoJSON file, or a QuPath project. "
        f"Make them with: conceptseg segment {source} -o {source.with_suffix('.geojson')}"
    )


def _summary_beside(geojson: Path) -> dict[str, Any]:
    """What `conceptseg segment --summary` wrote beside the results, under the same name; empty if it did not."""
    path = geojson.with_name(geojson.name.removesuffix(".gz")).with_suffix(".json")
    if path == geojson:
        return {}
    try:
        summary = read_json(path)
    except (FileNotFoundError, ConceptSegError):
        return {}
    return summary if isinstance(summary, dict) and "concepts" in summary else {}
