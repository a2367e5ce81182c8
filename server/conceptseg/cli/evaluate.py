"""``conceptseg evaluate``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from conceptseg.cli.options import FILE, encoder_options
from conceptseg.cli.progress import progress_bar
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import ImageError, InvalidRequestError
from conceptseg.domain.files import replacing
from conceptseg.domain.progress import Progress, ReportProgress
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import open_region, thumbnail
from conceptseg.pipeline.evaluate import (
    EVALUATED_METHODS,
    EvaluatedMethod,
    Labelled,
    Split,
    label_image,
    mask_on_grid,
    score_splits,
    summarise,
)
from conceptseg.pipeline.scores import Mask
from conceptseg.report.comparison import ComparedImage, write_comparison

_TOLERANCE_TOKENS = 3
_THUMBNAIL_PX = 256
_COLUMNS = ("miou", "boundary_f1", "pixel_accuracy", "hungarian_miou", "nmi", "ari")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Evaluated:
    """One image of a data set: what all methods made of it."""

    name: str
    rgb: np.ndarray
    mask: Mask
    labelled: Mapping[EvaluatedMethod, Labelled]


@click.command()
@click.option("--images", type=FILE, multiple=True, required=True, help="Folder with images; repeat for several sets.")
@click.option("--masks", type=FILE, multiple=True, required=True, help="Its masks: PNG of class indices, same stem.")
@encoder_options
@click.option("--dictionary", help="Name (`conceptseg concepts list`) or file of a concept dictionary.")
@click.option("--k", type=int, help="Number of concepts of the shipped dictionary. [default: 16]")
@click.option(
    "--method",
    "methods",
    type=click.Choice(EVALUATED_METHODS),
    multiple=True,
    default=EVALUATED_METHODS,
    show_default=True,
    help="Repeat for several.",
)
@click.option(
    "--fit-split", type=float, default=0.5, show_default=True, help="Share of images to learn the mapping on."
)
@click.option("--seeds", type=click.IntRange(1, 100), default=5, show_default=True, help="Number of random splits.")
@click.option("--ignore", type=int, help="Class whose pixels do not count.")
@click.option("--json", "json_file", type=FILE, help="Write all figures as JSON.")
@click.option("--markdown", type=FILE, help="Write the table as Markdown.")
@click.option("--pictures", type=FILE, help="Write a page per data set into this folder: image, truth, methods.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def evaluate(
    images: tuple[Path, ...],
    masks: tuple[Path, ...],
    encoder: str,
    weights: Path | None,
    device: str,
    pixel_size_um: float | None,
    dictionary: str | None,
    k: int | None,
    methods: tuple[EvaluatedMethod, ...],
    fit_split: float,
    seeds: int,
    ignore: int | None,
    json_file: Path | None,
    markdown: Path | None,
    pictures: Path | None,
    quiet: bool,
) -> None:
    """Measure how well concepts match masks.

    Which class each concept stands for is learned from the masks of one share of the images and scored on the others.
    """
    if len(images) != len(masks):
        raise InvalidRequestError(f"Expected as many --masks as --images, got {len(masks)} and {len(images)}.")
    pairs = {_name(folder): _pairs(folder, mask) for folder, mask in zip(images, masks, strict=True)}
    concepts = find_dictionary(encoder=encoder, name=dictionary, k=k)
    loaded = load_encoder(encoder, device=device, weights=weights)
    methods = tuple(dict.fromkeys(methods))
    report = {}
    for name, files in pairs.items():
        with progress_bar(quiet=quiet) as progress:
            evaluated = _label(files, loaded, concepts, methods, pixel_size_um=pixel_size_um, progress=progress)
        n_classes = 1 + max(int(one.mask[one.mask != ignore].max(initial=0)) for one in evaluated)
        splits = {
            method: score_splits(
                [one.labelled[method] for one in evaluated],
                [one.mask for one in evaluated],
                n_concepts=concepts.n_concepts,
                n_classes=n_classes,
                seeds=range(seeds),
                fit_share=fit_split,
                tolerance_px=_TOLERANCE_TOKENS * loaded.spec.stride_px,
                ignore=ignore,
            )
            for method in methods
        }
        report[name] = {
            "images": len(evaluated),
            "methods": {
                method: summarise(found, seconds=sum(one.labelled[method].seconds for one in evaluated))
                for method, found in splits.items()
            },
        }
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            _write_page(pictures / f"{name}.png", evaluated, splits, n_classes=n_classes, ignore=ignore)
    content = {
        "datasets": report,
        "seeds": list(range(seeds)),
        "fit_split": fit_split,
        "encoder": encoder,
        "dictionary": concepts.identifier,
    }
    table = _table(report)
    if json_file:
        _write(json_file, json.dumps(content, indent=1) + "\n")
    if markdown:
        _write(markdown, table)
    if not quiet:
        click.echo(table)


def _name(folder: Path) -> str:
    """``SET`` of ``SET/images``; else the folder's own name."""
    return folder.resolve().parent.name if folder.name == "images" else folder.name


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    for folder in (images, masks):
        if not folder.is_dir():
            raise InvalidRequestError(f"{folder}: no such folder. Expected a folder of images and one of masks.")
    found = [(file, masks / f"{file.stem}.png") for file in sorted(images.iterdir()) if file.is_file()]
    missing = [mask.name for _, mask in found if not mask.is_file()]
    if missing or not found:
        raise InvalidRequestError(
            f"{masks} lacks {len(missing)} of {len(found)} masks ({', '.join(missing[:3])}). Expected a PNG of class "
            f"indices with the same stem for every image in {images}."
        )
    return found


def _label(
    files: Sequence[tuple[Path, Path]],
    encoder: Encoder,
    dictionary: ConceptDictionary,
    methods: Sequence[EvaluatedMethod],
    *,
    pixel_size_um: float | None,
    progress: ReportProgress,
) -> list[_Evaluated]:
    evaluated = []
    for number, (file, mask) in enumerate(files):
        progress(Progress(stage="encode", done=number, total=len(files)))
        with open_image(file) as reader:
            source = open_region(
                reader, region=None, pixel_size_um=dictionary.pixel_size_um, image_pixel_size_um=pixel_size_um
            )
            evaluated.append(
                _Evaluated(
                    name=file.name,
                    rgb=thumbnail(source, max_px=_THUMBNAIL_PX),
                    mask=mask_on_grid(_read_mask(mask), source.grid),
                    labelled={
                        method: label_image(source, encoder=encoder, dictionary=dictionary, method=method)
                        for method in methods
                    },
                )
            )
    progress(Progress(stage="encode", done=len(files), total=len(files)))
    return evaluated


def _read_mask(path: Path) -> Mask:
    try:
        with Image.open(path) as image:
            mask = np.asarray(image)
    except OSError as error:
        raise ImageError(f"{path} cannot be read as a mask: {error}. Expected a PNG of class indices.") from error
    if mask.ndim != 2:
        raise ImageError(f"{path} has colours (shape {mask.shape}). Expected one class index per pixel.")
    return mask.astype(np.uint16)


def _write_page(
    path: Path,
    evaluated: Sequence[_Evaluated],
    splits: Mapping[EvaluatedMethod, Sequence[Split]],
    *,
    n_classes: int,
    ignore: int | None,
) -> None:
    """The scored images of the first split, those that the first method does worst at the top."""
    scored = next(iter(splits.values()))[0].scored
    rows = []
    for index in scored:
        one = evaluated[index]
        predicted = [found[0].classes[one.labelled[method].labels] for method, found in splits.items()]
        counted = np.ones(one.mask.shape, np.bool_) if ignore is None else one.mask != ignore
        right = [float((classes == one.mask)[counted].mean()) if counted.any() else 1.0 for classes in predicted]
        truth = np.where(counted, one.mask, 0)
        title = ", ".join(f"{method} {100 * share:.0f} %" for method, share in zip(splits, right, strict=True))
        row = ComparedImage(title=f"{one.name}: {title} of pixels", rgb=one.rgb, classes=[truth, *predicted])
        rows.append((right[0], row))
    rows.sort(key=lambda item: item[0])
    write_comparison(path, [row for _, row in rows], columns=["truth", *splits], n_classes=n_classes)


def _table(report: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| data set | method | " + " | ".join(_COLUMNS) + " | seconds |",
        "|---" * (len(_COLUMNS) + 3) + "|",
    ]
    for name, found in report.items():
        for method, values in found["methods"].items():
            cells = [f"{values[key]['mean']:.3f} ± {values[key]['sd']:.3f}" for key in _COLUMNS]
            lines.append(f"| {name} | {method} | " + " | ".join(cells) + f" | {values['seconds']:.1f} |")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
