"""``conceptseg evaluate``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import numpy as np

from conceptseg.cli.evaluated_data import ImageSet, TileSet, find_data, read_mask
from conceptseg.cli.options import FILE, model_options
from conceptseg.cli.outputs import require_writable
from conceptseg.cli.progress import progress_bar
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.files import replacing
from conceptseg.domain.progress import Progress
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths, find_dictionary
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.source import RegionSource, open_region, thumbnail
from conceptseg.pipeline.evaluate import (
    EVALUATED_METHODS,
    EvaluatedMethod,
    Labelled,
    classes_by_the_others,
    inexactness,
    label_image,
    learn_dictionary,
    mask_on_grid,
    score_splits,
    score_tile_splits,
    summarise,
    tile_label,
)
from conceptseg.pipeline.scores import Mask, score_chance
from conceptseg.report.comparison import ComparedImage, write_comparison
from conceptseg.report.score_table import MASK_COLUMNS, score_table

_Found = TypeVar("_Found")

_TOLERANCE_TOKENS = 3
_THUMBNAIL_PX = 256


class _MethodType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """``METHOD`` or ``METHOD@DICTIONARY``."""

    name = "METHOD[@DICTIONARY]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the method's name."""
        if str(value).partition("@")[0] not in EVALUATED_METHODS:
            self.fail(f"expected one of {', '.join(EVALUATED_METHODS)}, got {value!r}", param, ctx)
        return str(value)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Contender:
    """One row of the table."""

    name: str
    method: EvaluatedMethod
    dictionary: ConceptDictionary
    encoder: Encoder


@dataclass(frozen=True, kw_only=True, eq=False)
class _Evaluated:
    """What a contender made of one image, and the image's mask on its grid."""

    labelled: Labelled
    mask: Mask


@dataclass(frozen=True, kw_only=True)
class _Protocol:
    """How scores are taken."""

    seeds: Sequence[int]
    fit_share: float
    ignore: int | None
    tolerance_um: float


@click.command()
@click.option("--images", type=FILE, multiple=True, help="Folder with images; repeat for several sets.")
@click.option("--masks", type=FILE, multiple=True, help="Its masks: PNG of class indices, same stem.")
@click.option("--tiles", type=FILE, multiple=True, help="Folder with a folder of tiles per class; repeat for several.")
@model_options
@click.option(
    "--pixel-size-um",
    "pixel_sizes_um",
    type=float,
    multiple=True,
    help="µm per pixel, where files do not say: once for all, or once per set (--images first, then --tiles).",
)
@click.option("--dictionary", help="Name (`conceptseg concepts list`) or file of a concept dictionary.")
@click.option("--k", type=int, help="Number of concepts of the shipped dictionary. [default: 16]")
@click.option(
    "--method",
    "methods",
    type=_MethodType(),
    multiple=True,
    default=EVALUATED_METHODS,
    show_default=True,
    help="Repeat for several. With @DICTIONARY for another one than --dictionary's, and its encoder.",
)
@click.option(
    "--fit-split", type=float, default=0.5, show_default=True, help="Share of images to learn the mapping on."
)
@click.option("--seeds", type=click.IntRange(1, 100), default=5, show_default=True, help="Number of random splits.")
@click.option("--ignore", type=int, help="Class whose pixels do not count.")
@click.option("--json", "json_file", type=FILE, help="Write all figures as JSON.")
@click.option("--markdown", type=FILE, help="Write the table as Markdown.")
@click.option("--pictures", type=FILE, help="Write a page per set of images into this folder: image, truth, methods.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def evaluate(
    images: tuple[Path, ...],
    masks: tuple[Path, ...],
    tiles: tuple[Path, ...],
    encoder: str,
    weights: Path | None,
    device: str,
    pixel_sizes_um: tuple[float, ...],
    dictionary: str | None,
    k: int | None,
    methods: tuple[str, ...],
    fit_split: float,
    seeds: int,
    ignore: int | None,
    json_file: Path | None,
    markdown: Path | None,
    pictures: Path | None,
    quiet: bool,
) -> None:
    """Measure how well concepts match masks, or the classes of tiles.

    Which class each concept stands for is learned from the masks of one share of the images and scored on the others.
    """
    for option, path in (("--json", json_file), ("--markdown", markdown)):
        if path:
            require_writable(option, path)
    data_sets = find_data(images, masks, tiles, pixel_sizes_um=pixel_sizes_um)
    concepts = find_dictionary(encoder=encoder, name=dictionary, k=k)
    contenders = _contenders(methods, concepts, weights=weights, device=device)
    protocol = _Protocol(
        seeds=range(seeds),
        fit_share=fit_split,
        ignore=ignore,
        tolerance_um=_TOLERANCE_TOKENS * contenders[0].encoder.spec.stride_px * concepts.pixel_size_um,
    )
    report: dict[str, Any] = {"datasets": {}}
    for data in data_sets:
        if isinstance(data, TileSet):
            found = _evaluate_tiles(data, contenders, protocol, quiet=quiet)
        else:
            found = _evaluate_images(data, contenders, protocol, pictures=pictures, quiet=quiet)
        report["datasets"][data.name] = found
    masked = [found for found in report["datasets"].values() if "images" in found]
    if len(masked) > 1:
        report["mean"] = _mean(masked)
    report |= {
        "seeds": list(protocol.seeds),
        "fit_split": fit_split,
        "encoder": encoder,
        "dictionary": concepts.identifier,
    }
    table = score_table(report)
    if json_file:
        _write(json_file, json.dumps(report, indent=1) + "\n")
    if markdown:
        _write(markdown, table)
    if not quiet:
        click.echo(table)


def _contenders(
    methods: Sequence[str], dictionary: ConceptDictionary, *, weights: Path | None, device: str
) -> list[_Contender]:
    encoders = {dictionary.encoder: load_encoder(dictionary.encoder, device=device, weights=weights)}
    contenders = []
    for name in dict.fromkeys(methods):
        method, _, other = name.partition("@")
        own = load_dictionary(dictionary_paths().get(other, Path(other))) if other else dictionary
        if own.encoder not in encoders:
            encoders[own.encoder] = load_encoder(own.encoder, device=device)
        encoder = encoders[own.encoder]
        contenders.append(
            _Contender(name=name, method=cast("EvaluatedMethod", method), dictionary=own, encoder=encoder)
        )
    return contenders


def _for_data(contenders: Sequence[_Contender], data: ImageSet | TileSet) -> list[_Contender]:
    """The contenders with the concepts that they learn from this data."""
    prepared = []
    for one in contenders:
        if one.method == "learned" or one.method == "kmeans":
            learned = learn_dictionary(
                _sources([file for file, _ in data.files], one, data.pixel_size_um),
                encoder=one.encoder,
                method=one.method,
                n_concepts=one.dictionary.n_concepts,
                total=len(data.files),
            )
            one = replace(one, dictionary=learned)
        prepared.append(one)
    return prepared


def _sources(files: Sequence[Path], contender: _Contender, pixel_size_um: float | None) -> Iterator[RegionSource]:
    """The whole images, open one after another."""
    for file in files:
        with open_image(file) as reader:
            yield open_region(
                reader,
                region=None,
                pixel_size_um=contender.dictionary.pixel_size_um,
                image_pixel_size_um=pixel_size_um,
            )


def _evaluate_images(
    data: ImageSet, contenders: Sequence[_Contender], protocol: _Protocol, *, pictures: Path | None, quiet: bool
) -> dict[str, Any]:
    thumbnails: list[Rgb] = []

    def look(contender: _Contender, source: RegionSource, mask: Path) -> _Evaluated:
        if contender is everyone[0]:
            thumbnails.append(thumbnail(source, max_px=_THUMBNAIL_PX))
        return _Evaluated(labelled=_label(contender, source), mask=mask_on_grid(read_mask(mask), source.grid))

    shown = _for_data(contenders, data)
    everyone = [*shown, *_optima(shown)]
    evaluated = _look_at_all(data, everyone, look, quiet=quiet)
    first = evaluated[everyone[0].name]
    n_classes = 1 + max(int(one.mask[one.mask != protocol.ignore].max(initial=0)) for one in first)
    splits = {
        contender.name: score_splits(
            [one.labelled for one in evaluated[contender.name]],
            [one.mask for one in evaluated[contender.name]],
            n_concepts=contender.dictionary.n_concepts,
            n_classes=n_classes,
            seeds=protocol.seeds,
            fit_share=protocol.fit_share,
            tolerance_px=protocol.tolerance_um / contender.dictionary.pixel_size_um,
            ignore=protocol.ignore,
        )
        for contender in shown
    }
    labelled = {name: [one.labelled for one in found] for name, found in evaluated.items()}
    methods = {
        contender.name: {
            **summarise([split.scores for split in splits[contender.name]]),
            **_inexactness(contender, labelled),
            "seconds": sum(one.seconds for one in labelled[contender.name]),
        }
        for contender in shown
    }
    chance = [
        score_chance(
            [first[i].mask for i in split.scored],
            token_px=everyone[0].encoder.spec.stride_px,
            tolerance_px=protocol.tolerance_um / everyone[0].dictionary.pixel_size_um,
            n_classes=n_classes,
            seed=seed,
            ignore=protocol.ignore,
        )
        for seed, split in zip(protocol.seeds, splits[everyone[0].name], strict=True)
    ]
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        _write_page(
            pictures / f"{data.name}.png",
            [file.name for file, _ in data.files],
            thumbnails,
            {one: evaluated[one.name] for one in shown},
            n_classes=n_classes,
            ignore=protocol.ignore,
        )
    return {"images": len(first), "methods": methods, "chance": summarise(chance)}


def _evaluate_tiles(
    data: TileSet, contenders: Sequence[_Contender], protocol: _Protocol, *, quiet: bool
) -> dict[str, Any]:
    def look(contender: _Contender, source: RegionSource, _: int) -> Labelled:
        return _label(contender, source)

    shown = _for_data(contenders, data)
    labelled = _look_at_all(data, [*shown, *_optima(shown)], look, quiet=quiet)
    return {
        "tiles": len(data.files),
        "methods": {
            contender.name: {
                **summarise(
                    score_tile_splits(
                        [tile_label(one) for one in labelled[contender.name]],
                        [number for _, number in data.files],
                        n_concepts=contender.dictionary.n_concepts,
                        seeds=protocol.seeds,
                        fit_share=protocol.fit_share,
                    )
                ),
                **_inexactness(contender, labelled),
                "seconds": sum(one.seconds for one in labelled[contender.name]),
            }
            for contender in shown
        },
    }


def _look_at_all(
    data: ImageSet | TileSet,
    contenders: Sequence[_Contender],
    look: Callable[[_Contender, RegionSource, Any], _Found],
    *,
    quiet: bool,
) -> dict[str, list[_Found]]:
    """What every contender makes of every image; contenders take turns, so that their times compare."""
    found: dict[str, list[_Found]] = {one.name: [] for one in contenders}
    total = len(data.files) * len(contenders)
    with progress_bar(quiet=quiet) as progress:
        for file, truth in data.files:
            for contender in contenders:
                progress(Progress(stage="encode", done=sum(map(len, found.values())), total=total))
                for source in _sources([file], contender, data.pixel_size_um):
                    found[contender.name].append(look(contender, source, truth))
        progress(Progress(stage="encode", done=total, total=total))
    return found


def _label(contender: _Contender, source: RegionSource) -> Labelled:
    return label_image(source, encoder=contender.encoder, dictionary=contender.dictionary, method=contender.method)


def _optimum_of(contender: _Contender) -> str:
    return f"optimum of {contender.name}"


def _optima(contenders: Sequence[_Contender]) -> list[_Contender]:
    """The exact projection for every contender that stops before it."""
    return [replace(one, name=_optimum_of(one), method="projection") for one in contenders if one.method == "reference"]


def _inexactness(contender: _Contender, labelled: Mapping[str, Sequence[Labelled]]) -> dict[str, Any]:
    if contender.method != "reference":
        return {}
    return {"inexactness": asdict(inexactness(labelled[contender.name], labelled[_optimum_of(contender)]))}


def _mean(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over data sets, each counting the same."""

    def mean(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {column: {"mean": float(np.mean([one[column]["mean"] for one in scores]))} for column in MASK_COLUMNS}

    return {
        "methods": {
            name: {
                **mean([one["methods"][name] for one in found]),
                "seconds": float(np.mean([one["methods"][name]["seconds"] for one in found])),
            }
            for name in found[0]["methods"]
        },
        "chance": mean([one["chance"] for one in found]),
    }


def _write_page(
    path: Path,
    names: Sequence[str],
    thumbnails: Sequence[Rgb],
    evaluated: Mapping[_Contender, Sequence[_Evaluated]],
    *,
    n_classes: int,
    ignore: int | None,
) -> None:
    """All images, those that the first method does worst at the top; concepts mapped by all the other images."""
    predicted = [
        classes_by_the_others(
            [one.labelled for one in own],
            [one.mask for one in own],
            n_concepts=contender.dictionary.n_concepts,
            n_classes=n_classes,
            ignore=ignore,
        )
        for contender, own in evaluated.items()
    ]
    titles = [contender.name for contender in evaluated]
    rows = []
    for index, name in enumerate(names):
        masks = [own[index].mask for own in evaluated.values()]
        classes = [of_contender[index] for of_contender in predicted]
        right = [_right(one, mask, ignore=ignore) for one, mask in zip(classes, masks, strict=True)]
        shares = ", ".join(f"{title} {100 * share:.0f} %" for title, share in zip(titles, right, strict=True))
        truth = masks[0] if ignore is None else np.where(masks[0] == ignore, 0, masks[0])
        row = ComparedImage(title=f"{name}: {shares} of pixels", rgb=thumbnails[index], classes=[truth, *classes])
        rows.append((right[0], row))
    rows.sort(key=lambda item: item[0])
    write_comparison(path, [row for _, row in rows], columns=["truth", *titles], n_classes=n_classes)


def _right(classes: Mask, mask: Mask, *, ignore: int | None) -> float:
    counted = np.ones(mask.shape, np.bool_) if ignore is None else mask != ignore
    return float((classes == mask)[counted].mean()) if counted.any() else 1.0


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
