"""What people corrected in a QuPath project, as examples to learn from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import shapely

from conceptseg.domain.classes import ConceptClass
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.imaging.reader import ImageReader
from conceptseg.pipeline.refine import Example, useful_examples
from conceptseg.qupath.project.contents import ACCEPTED, REJECTED, Outline, Result
from conceptseg.qupath.project.entries import ImageEntry, choose, find_project
from conceptseg.qupath.project.inside import part_of
from conceptseg.qupath.project.labels import LABELS_FILE, Labels
from conceptseg.qupath.slide import open_slide
from conceptseg.qupath.writer_process import ProjectProcess


@dataclass(frozen=True, kw_only=True, eq=False)
class CorrectedImages:
    """The images of a project that have something to learn from.

    Attributes:
        images: Every image, µm per full-resolution px as it was segmented (None if nobody said), and its examples.
    """

    images: tuple[tuple[ImageEntry, float | None, tuple[Example, ...]], ...]

    def __len__(self) -> int:
        return len(self.images)

    def opened(self) -> Iterator[tuple[ImageReader, float | None, tuple[Example, ...]]]:
        """Each image with its slide open, its pixel size, and its examples.

        Raises:
            ProjectError: QuPath shows something else than the file holds.
            ImageError: the file is missing or damaged.
        """
        for entry, pixel_size_um, examples in self.images:
            with open_slide(entry) as reader:
                yield reader, pixel_size_um, examples


def corrected_images(source: Path, *, dictionary: str, patterns: Sequence[str]) -> CorrectedImages:
    """The corrections in a project; it is only read.

    Args:
        source: The project file or its folder.
        dictionary: Only results of this dictionary.
        patterns: Only images with such a name.

    Raises:
        InvalidRequestError: no polygon of this dictionary was reassigned.
    """
    entries, sizes, examples = [], [], []
    with ProjectProcess(find_project(source), write=False) as reader:
        for entry in choose(reader.entries(), patterns=patterns):
            contents = reader.contents(entry.identifier)
            results = [result for result in contents.results if result.dictionary == dictionary]
            if results:
                outlines = reader.outlines(entry.identifier)
                entries.append(entry)
                sizes.append(_pixel_size_um(results, outlines) or entry.pixel_size_um)
                examples.append([e for result in results for e in _examples(result, outlines[result.identifier])])
    if not any(example.before is not None for each in examples for example in each):
        raise InvalidRequestError(
            f"No polygon of {dictionary} was reassigned in {source}. Reassign some in QuPath first "
            "(Extensions > ConceptSeg > Review concepts)."
        )
    useful = useful_examples(examples)
    return CorrectedImages(
        images=tuple((e, size, tuple(found)) for e, size, found in zip(entries, sizes, useful, strict=True) if found)
    )


def named_by_project(dictionary: ConceptDictionary, source: Path, *, parent: str) -> ConceptDictionary:
    """The dictionary with the names and colours that a project gave to the concepts of its parent."""
    labels = Labels.load(part_of(find_project(source), LABELS_FILE))
    classes = []
    for own in dictionary.classes:
        style = labels.style(parent, [own.concept], own)
        named = ConceptClass(concept=own.concept, name=style.name, colour=style.colour or own.colour) if style else own
        classes.append(named)
    return replace(dictionary, classes=tuple(classes))


def _pixel_size_um(results: Sequence[Result], outlines: Mapping[str, Outline]) -> float | None:
    """The pixel size with which results were measured: where the slide says none, the run was told it."""
    for result in results:
        area_um2 = outlines[result.identifier].measurements.get("Area µm^2", 0.0)
        if area_um2 > 0 and result.area_px > 0:
            return math.sqrt(area_um2 / result.area_px)
    return None


def _examples(result: Result, outline: Outline) -> Iterator[Example]:
    """What a result teaches: nothing if it was rejected, or if it is of several concepts."""
    shape, plane = shapely.from_wkb(outline.wkb), (result.z, result.t)
    if result.review == REJECTED and result.reassigned is None:
        return
    if result.reassigned is not None and result.found != (result.reassigned,):
        before = result.found[0] if len(result.found) == 1 else None
        if before is not None:
            yield Example(outline=shape, concept=result.reassigned, before=before, plane=plane)
    elif len(result.concepts) == 1:
        accepted = result.review == ACCEPTED
        yield Example(outline=shape, concept=result.concepts[0], accepted=accepted, plane=plane)
