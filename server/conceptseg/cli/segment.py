"""``conceptseg segment``."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from rich.table import Table
from shapely import MultiPolygon, Polygon

from conceptseg.cli.console import plain_console
from conceptseg.cli.options import (
    FILE,
    RegionType,
    concept_options,
    encoder_options,
    plane_options,
    require_effect_of_segmenting,
    server_options,
    tissue_options,
)
from conceptseg.cli.outputs import require_apart, require_writable
from conceptseg.cli.progress import progress_bar
from conceptseg.domain.errors import InvalidRequestError, RegionError
from conceptseg.domain.region import Region
from conceptseg.encoders.load import load_encoder
from conceptseg.encoders.registry import default_pixel_size_um
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.glass import Colour
from conceptseg.imaging.planes import tell_plane
from conceptseg.imaging.reader import ImageReader, open_image
from conceptseg.imaging.source import open_region, thumbnail
from conceptseg.pipeline.result import SegmentationResult
from conceptseg.pipeline.segment import segment as run_segment
from conceptseg.pipeline.settings import Method, SegmentSettings
from conceptseg.qupath.geojson import read_geojson_plane, read_geojson_roi, require_geojson_name, write_geojson
from conceptseg.report.labelmap import write_label_map
from conceptseg.report.overlay import write_overlay
from conceptseg.report.summary import summary as summary_of
from conceptseg.report.summary import write_summary
from conceptseg.rpc.client import connect

_SMALL_UM2 = 1e5
"""Less than that is told in µm²."""

_OVERLAY_PX = 2400
_DEFAULTS = SegmentSettings()


@click.command()
@click.argument("image", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="GeoJSON for QuPath (File > Import objects).")
@click.option("--region", type=RegionType(), help="Part of the image, in full-resolution px; default: all of it.")
@click.option("--roi", type=FILE, help="GeoJSON outline (QuPath export): only what lies inside is segmented.")
@click.option(
    "--series",
    type=click.IntRange(0),
    help="Image inside a file that holds several, from 0, as QuPath counts them. [default: the one QuPath proposes]",
)
@plane_options
@encoder_options
@concept_options
@click.option("--tile-px", type=int, help="Side of a tile; default: the size the encoder is fastest on.")
@click.option("--whole-region", is_flag=True, help="Segment the background as well.")
@tissue_options
@server_options
@click.option("--overlay", type=FILE, help="Picture with legend (.png, .jpg).")
@click.option("--summary", type=FILE, help="Table per concept (.json or .csv).")
@click.option("--label-map", type=FILE, help="Label map (.png or .tif): 0 = unlabelled, concept k = k + 1.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def segment(
    image: Path,
    output: Path,
    region: Region | None,
    roi: Path | None,
    series: int | None,
    z: int | None,
    t: int | None,
    encoder: str,
    weights: Path | None,
    device: str,
    pixel_size_um: float | None,
    dictionary: str | None,
    k: int | None,
    method: Method,
    min_area_um2: float,
    min_hole_area_um2: float,
    tolerance_px: float,
    tile_px: int | None,
    whole_region: bool,
    glass_colour: Colour | None,
    tissue_strictness: float,
    seed: int,
    server: str | None,
    token: str | None,
    tls_certificate: Path | None,
    overlay: Path | None,
    summary: Path | None,
    label_map: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Segment IMAGE into concept polygons."""
    _require_outputs(output, overlay=overlay, summary=summary, label_map=label_map)
    require_apart(
        inputs={"the image": image, "--roi": roi, "--dictionary": Path(dictionary) if dictionary else None},
        outputs={"--output": output, "--overlay": overlay, "--summary": summary, "--label-map": label_map},
    )
    require_effect_of_segmenting(server=server, weights=weights, method=method)
    settings = SegmentSettings(
        method=method,
        n_concepts=_DEFAULTS.n_concepts if k is None else k,
        seed=seed,
        tile_px=tile_px,
        whole_region=whole_region,
        min_area_um2=min_area_um2,
        min_hole_area_um2=min_hole_area_um2,
        tolerance_px=tolerance_px,
        glass_colour=glass_colour,
        tissue_strictness=tissue_strictness,
    )
    clip = read_geojson_roi(roi, warn=partial(_warn, quiet=quiet)) if roi else None
    concepts = None
    default_pixel_size_um(encoder)  # an unknown encoder is no missing dictionary
    if method != "learned":
        concepts = find_dictionary(encoder=encoder, name=dictionary, k=None if method == "matched" else k)
    with open_image(image, series=series) as opened:
        drawn_z, drawn_t = (read_geojson_plane(roi) if roi else None) or (opened.z, opened.t)
        reader = opened.at(z=drawn_z if z is None else z, t=drawn_t if t is None else t)
        if region is not None:
            region = replace(region, z=reader.z, t=reader.t)
        if clip is not None:
            region = _bounds(clip, region, reader)
        if region is not None:
            tell_plane(reader)
        source = open_region(
            reader,
            region=region,
            pixel_size_um=concepts.pixel_size_um if concepts else default_pixel_size_um(encoder),
            image_pixel_size_um=pixel_size_um,
        )
        started = time.perf_counter()
        with progress_bar(quiet=quiet) as progress:
            if server:
                with connect(server, token=token, tls_certificate=tls_certificate) as client:
                    result = client.segment(
                        source, encoder=encoder, dictionary=concepts, settings=settings, clip=clip, progress=progress
                    )
            else:
                loaded = load_encoder(encoder, device=device, weights=weights)
                result = run_segment(
                    source, encoder=loaded, dictionary=concepts, settings=settings, clip=clip, progress=progress
                )
        seconds = time.perf_counter() - started
        write_geojson(output, result)
        if summary:
            write_summary(summary, result)
        if label_map:
            write_label_map(label_map, result.label_map)
        if overlay:
            write_overlay(overlay, thumbnail(source, max_px=_OVERLAY_PX), result)
    written = [path for path in (output, summary, label_map, overlay) if path]
    if as_json:
        click.echo(json.dumps({**summary_of(result), "files": [str(path) for path in written]}))
    elif not quiet:
        _report(result, written, seconds=seconds, settings=settings)


def _warn(text: str, *, quiet: bool) -> None:
    if not quiet:
        click.echo(text, err=True)


def _report(result: SegmentationResult, written: list[Path], *, seconds: float, settings: SegmentSettings) -> None:
    console = plain_console()
    if not result.polygons:
        console.print(f"{_nothing(result, settings)} The result is empty.", soft_wrap=True)
    else:
        table = Table(title=f"{result.dictionary}, {result.method}, {result.label_map.grid.pixel_size_um:.3g} µm/px")
        table.add_column("Concept")
        small = sum(concept.area_um2 for concept in result.concepts) < _SMALL_UM2
        for column in ("Area µm²" if small else "Area mm²", "Tissue %", "Polygons", "Mean activation"):
            table.add_column(column, justify="right")
        for concept in sorted(result.concepts, key=lambda item: -item.area_um2):
            if concept.polygons:
                table.add_row(
                    concept.concept_class.name,
                    f"{concept.area_um2:,.0f}" if small else f"{concept.area_um2 / 1e6:.3f}",
                    f"{concept.area_percent:.1f}",
                    str(concept.polygons),
                    f"{concept.mean_activation:.2f}",
                )
        console.print(table)
        residual = "" if math.isnan(result.relative_residual) else f", relative residual {result.relative_residual:.3f}"
        console.print(f"{len(result.polygons)} polygons in {seconds:.1f} s{residual}")
    for remark in result.remarks:
        console.print(remark, soft_wrap=True)
    for path in written:
        console.print(f"Wrote {path}", soft_wrap=True)


def _nothing(result: SegmentationResult, settings: SegmentSettings) -> str:
    if settings.whole_region:
        return f"No area in {result.image} is as large as --min-area-um2 {settings.min_area_um2:g}."
    return (
        f"No tissue found in {result.image}, or none as large as --min-area-um2 {settings.min_area_um2:g}. "
        "--whole-region segments background, too."
    )


def _bounds(clip: Polygon | MultiPolygon, region: Region | None, reader: ImageReader) -> Region:
    """The part of the image, or of ``region``, that holds ``clip``."""
    whole = region or Region(x=0, y=0, width=reader.width, height=reader.height, z=reader.z, t=reader.t)
    around = whole.around(clip.bounds)
    if around is None:
        left, top, right, bottom = clip.bounds
        raise RegionError(
            f"The outline given with --roi (x {left:g} to {right:g}, y {top:g} to {bottom:g} px) lies outside "
            f"the region {whole} of {reader.name}. Export it from QuPath for this very image."
        )
    return around


def _require_outputs(output: Path, **others: Path | None) -> None:
    require_geojson_name(output)
    suffixes = {
        "overlay": {".png", ".jpg", ".jpeg"},
        "summary": {".json", ".csv"},
        "label_map": {".png", ".tif", ".tiff"},
    }
    for option, path in {"output": output, **others}.items():
        if path is None:
            continue
        name = "--" + option.replace("_", "-")
        if option in suffixes and path.suffix.lower() not in suffixes[option]:
            raise InvalidRequestError(f"{name} {path}: expected a name that ends in {', '.join(suffixes[option])}.")
        require_writable(name, path)
