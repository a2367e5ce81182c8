"""``conceptseg concepts suggest-names``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from conceptseg.cli.console import plain_console
from conceptseg.cli.named_areas import Drawn, NamedImage, find_named_areas
from conceptseg.cli.options import FILE, device_option
from conceptseg.cli.outputs import require_writable
from conceptseg.cli.progress import progress_bar
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import ImageError, InvalidRequestError, ProjectError
from conceptseg.domain.per_file import PerFile
from conceptseg.domain.progress import Progress, ReportProgress
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths
from conceptseg.imaging.reader import ImageReader
from conceptseg.imaging.source import PixelSource, open_region
from conceptseg.pipeline.around import open_around
from conceptseg.pipeline.suggest_names import NamedArea, NameSuggestion, concepts_inside, suggest_names
from conceptseg.qupath.project.labels import Labels

_SHOWN = 3


@click.command("suggest-names")
@click.argument("dictionary")
@click.argument("inputs", type=FILE, nargs=-1, required=True)
@click.option("--images", "patterns", multiple=True, metavar="GLOB", help="Only images of projects with such a name.")
@click.option("--rebase", type=(str, FILE), metavar="OLD NEW", help="Slides were moved from OLD to NEW.")
@click.option("--class", "only", multiple=True, metavar="NAME", help="Only areas of this class; repeat for several.")
@click.option("--weights", type=FILE, help="Local checkpoint of the encoder.")
@device_option
@click.option("--pixel-size-um", type=float, help="µm per full-resolution pixel where no file says.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resamplings.")
@click.option("--skip-bad", is_flag=True, help="Name and leave out images that cannot be used.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.7,
    show_default=True,
    help="Concepts less sure than this get no name in the labels file.",
)
@click.option("-o", "--output", type=FILE, help="Write names as a labels file for `labels PROJECT import`.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def suggest_names_(
    dictionary: str,
    inputs: tuple[Path, ...],
    patterns: tuple[str, ...],
    rebase: tuple[str, Path] | None,
    only: tuple[str, ...],
    weights: Path | None,
    device: str,
    pixel_size_um: float | None,
    seed: int,
    skip_bad: bool,
    min_confidence: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Suggest a class for every concept of DICTIONARY (name or file) by areas whose class is known.

    INPUTS are QuPath projects with annotations of some classes, images with a GeoJSON file of the same name beside
    them, or folders with one folder of tiles per class. Nothing is named: `conceptseg labels PROJECT import` takes the
    file that -o writes, and lets you change it before.
    """
    if output is not None and output.exists():
        raise InvalidRequestError(f"{output} exists. Choose another name: labels of people are not overwritten.")
    if output is not None:
        require_writable("--output", output)
    concepts = load_dictionary(dictionary_paths().get(dictionary, Path(dictionary)))
    images = _of_classes(find_named_areas(inputs, patterns=patterns, rebase=rebase), only)
    loaded = load_encoder(concepts.encoder, device=device, weights=weights)
    areas: list[NamedArea] = []
    told = PerFile()
    with progress_bar() as progress:
        for name, found in _looked_at(images, concepts, loaded, pixel_size_um=pixel_size_um, progress=progress):
            if isinstance(found, str):
                if not skip_bad:
                    raise InvalidRequestError(f"{found} Leave such images out with --skip-bad.")
                click.echo(told.line(name, found, what="left out"), err=True)
            else:
                areas.extend(found)
    suggestions = suggest_names(areas, seed=seed)
    if as_json:
        content = {"dictionary": concepts.identifier, "concepts": [asdict(one) for one in suggestions]}
        click.echo(json.dumps(content, ensure_ascii=False))
    else:
        plain_console().print(_table(concepts, suggestions))
    if output is not None:
        named = [one for one in suggestions if one.class_name and one.confidence >= min_confidence]
        labels = Labels()
        for one in named:
            labels = labels.named(concepts.identifier, [one.concept], one.class_name or "")
        labels.save(output)
        click.echo(
            f"Wrote {output}: names of {len(named)} of {concepts.n_concepts} concepts. Look at them, then: "
            f"conceptseg labels PROJECT import {output}",
            err=True,
        )


def _of_classes(images: Sequence[NamedImage], only: Sequence[str]) -> list[tuple[NamedImage, tuple[Drawn, ...]]]:
    known = {drawn.class_name for image in images for drawn in image.drawn}
    unknown = sorted(set(only) - known)
    if unknown:
        raise InvalidRequestError(f"No area is {', '.join(unknown)}. There are: {', '.join(sorted(known))}.")
    chosen = [(image, tuple(one for one in image.drawn if not only or one.class_name in only)) for image in images]
    return [(image, drawn) for image, drawn in chosen if drawn]


def _looked_at(
    images: Sequence[tuple[NamedImage, tuple[Drawn, ...]]],
    dictionary: ConceptDictionary,
    encoder: Encoder,
    *,
    pixel_size_um: float | None,
    progress: ReportProgress,
) -> Iterator[tuple[str, list[NamedArea] | str]]:
    """Per image its name, and what is in its areas, or why it cannot be used."""
    for number, (image, drawn) in enumerate(images):
        progress(Progress(stage="encode", done=number, total=len(images)))
        areas = []
        try:
            with image.open() as reader:
                for one in drawn:
                    own = image.pixel_size_um or (pixel_size_um if reader.pixel_size_um is None else None)
                    source = _source(reader, one, dictionary, own)
                    if source is not None:
                        found = concepts_inside(source, one.outline, encoder=encoder, dictionary=dictionary)
                        areas.append(NamedArea(class_name=one.class_name, areas_um2=found))
        except (ImageError, ProjectError) as error:
            yield image.name, str(error)
            continue
        yield image.name, areas
    progress(Progress(stage="encode", done=len(images), total=len(images)))


def _source(
    reader: ImageReader, drawn: Drawn, dictionary: ConceptDictionary, pixel_size_um: float | None
) -> PixelSource | None:
    wanted = dictionary.pixel_size_um
    if drawn.plane is not None:
        reader = reader.at(z=drawn.plane[0], t=drawn.plane[1])
    if drawn.outline is None:
        return open_region(reader, region=None, pixel_size_um=wanted, image_pixel_size_um=pixel_size_um)
    return open_around(reader, drawn.outline, pixel_size_um=wanted, image_pixel_size_um=pixel_size_um)


def _table(dictionary: ConceptDictionary, suggestions: Sequence[NameSuggestion]) -> Table:
    table = Table()
    table.add_column("Concept")
    table.add_column("Suggestion")
    table.add_column("Confidence", justify="right")
    table.add_column("Share, area and number of areas per class")
    for own, one in zip(dictionary.classes, suggestions, strict=True):
        told = [
            f"{each.class_name} {each.share:.0%} ({_area(each.area_um2)}, {each.areas} of {each.of_areas})"
            for each in one.evidence[:_SHOWN]
        ]
        if len(one.evidence) > _SHOWN:
            told.append("…")
        confidence = f"{one.confidence:.2f}" if one.class_name else ""
        table.add_row(own.name, one.class_name or "in no area", confidence, ", ".join(told))
    return table


def _area(um2: float) -> str:
    return f"{um2 / 1e6:.3f} mm²" if um2 >= 10_000 else f"{um2:.0f} µm²"
