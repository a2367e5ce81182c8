"""``conceptseg bench``."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import numpy as np
import timm
import torch

from conceptseg import __version__
from conceptseg.bench.growth import SlideRun, as_json, grow, linearity
from conceptseg.bench.line import Line
from conceptseg.bench.page import markdown, plot
from conceptseg.bench.peers import EXTRACTORS, FACTORIZER, peer_lines
from conceptseg.bench.polygons import large_map
from conceptseg.bench.reference import reference_lines
from conceptseg.bench.slides import TILE_PX
from conceptseg.bench.throughput import encoder_lines, slide_line
from conceptseg.cli.options import FILE, device_option
from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.files import replacing
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.factorization.kmeans import fit_kmeans
from conceptseg.factorization.library import find_dictionary
from conceptseg.imaging.levels import Rgb
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.tissue import tissue_of

_PARTS = ("encoder", "slide", "reference", "peers", "polygons", "growth")
_PEERS = (*EXTRACTORS, FACTORIZER)
_TEXTURE_PX = 1024


@click.command()
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("conceptseg-bench"),
              show_default=True, help="Folder for bench.json, bench.md and the plot.")  # fmt: skip
@click.option("--json", "json_file", type=FILE, help="File for bench.json, instead of in that folder.")
@click.option("--encoder", default="default", show_default=True, help="See `conceptseg encoders`.")
@click.option("--random-weights", is_flag=True, help="Measure an encoder whose weights are not at hand.")
@device_option
@click.option("--texture", type=FILE, help="Image of which slides are made; its middle 1024 px. [default: a picture "
              "of scikit-image]")  # fmt: skip
@click.option("--only", type=click.Choice(_PARTS), multiple=True, help="Repeat for several. [default: all]")
@click.option("--peer", "peers", multiple=True, metavar="NAME=PYTHON", help=f"Compare with {', '.join(_PEERS)}, each "
              "run by the Python where it is installed.")  # fmt: skip
@click.option("--k", type=int, default=16, show_default=True, help="Concepts, for slides.")
@click.option(
    "--slide-px",
    type=click.IntRange(min=TILE_PX),
    default=8192,
    show_default=True,
    help="Side of the slide of part slide.",
)
@click.option("--tissue-share", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
              help="Of that slide.")  # fmt: skip
@click.option("--growth", default="20000,50000,100000", show_default=True, help="Sides of the slides of part growth.")
@click.option("--growth-share", type=click.FloatRange(0, 1, min_open=True), default=0.1, show_default=True,
              help="Of them that is tissue.")  # fmt: skip
def bench(
    output: Path,
    json_file: Path | None,
    encoder: str,
    random_weights: bool,
    device: str,
    texture: Path | None,
    only: tuple[str, ...],
    peers: tuple[str, ...],
    k: int,
    slide_px: int,
    tissue_share: float,
    growth: str,
    growth_share: float,
) -> int:
    """Measure ConceptSeg on this machine, beside the bare encoder, the published algorithm and other programs.

    Slides are made on the fly of real tissue. Every ratio comes from one run; results are written after each.
    """
    parts = set(only or _PARTS)
    pythons = dict(_peer(item) for item in peers)
    if "peers" in only and not pythons:
        raise InvalidRequestError("Part peers compares with programs that --peer names.")
    if "growth" in parts and random_weights:
        raise InvalidRequestError("Part growth needs an encoder with weights and a shipped dictionary: leave it out.")
    sides = _sides(growth)
    if "growth" in parts:
        find_dictionary(encoder=encoder, name=None, k=k)  # the slides' own processes look for it after an hour
    output.mkdir(parents=True, exist_ok=True)
    tissue = _texture(texture)
    loaded = load_encoder(encoder, device=device, random_weights=random_weights)
    if "reference" in only and loaded.spec.window_px is not None:
        raise InvalidRequestError("Part reference needs an encoder without a fixed window, such as `default`.")
    machine = {
        "conceptseg": __version__,
        "encoder": encoder + (" (random weights)" if random_weights else ""),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(loaded.device) if loaded.device.type == "cuda" else loaded.device.type,
        "precision": str(loaded.dtype).removeprefix("torch."),
    }
    lines: list[Line] = []
    runs: list[SlideRun] = []
    large: dict[str, float | bool] = {}

    def write() -> None:
        found = {
            "machine": machine,
            "results": [line.as_json() for line in lines],
            "large_map": large,
            "growth": as_json(runs),
        }
        with replacing(json_file or output / "bench.json") as temporary:
            temporary.write_text(json.dumps(found, indent=1))
        with replacing(output / "bench.md") as temporary:
            temporary.write_text(markdown(machine, lines, runs), encoding="utf-8")

    def add(line: Line) -> None:
        lines.append(line)
        write()
        click.echo(f"{line.name}: ours {line.ours:.4g}, baseline {line.baseline:.4g} {line.unit}, "
                   f"ratio {line.ratio:.4g}  {json.dumps(line.detail)}")  # fmt: skip

    write()
    with tempfile.TemporaryDirectory(prefix="conceptseg-bench-") as folder:
        found = _lines(parts, loaded, tissue, pythons, k=k, slide_px=slide_px, share=tissue_share, folder=Path(folder))
        for line in found:
            add(line)
    if "polygons" in parts:
        large = large_map(side_px=25_000, n_classes=16)
        write()
        click.echo(f"large map: {json.dumps(large)}")
    if "growth" in parts:
        for run in grow(tissue, sides_px=sides, share=growth_share, encoder=encoder, device=device, k=k):
            runs.append(run)
            write()
            click.echo(f"{run.side_px}² px: {run.seconds:.1f} s, {run.seconds_per_mm2:.3f} s/mm², "
                       f"{run.peak_gib:.2f} GiB, {run.polygons} polygons, {run.tissue_mm2:.1f} mm²")  # fmt: skip
        add(linearity(runs))
        try:
            plot(output / "growth.png", runs, title=f"{encoder} on {machine['device']}, {machine['cores']} cores")
        except ImportError:
            click.echo("No plot: it needs matplotlib (pip install 'conceptseg[bench]').", err=True)
    click.echo(f"Wrote {output / 'bench.md'}")
    return 0


def _lines(
    parts: set[str],
    encoder: Encoder,
    texture: Rgb,
    pythons: Mapping[str, Path],
    *,
    k: int,
    slide_px: int,
    share: float,
    folder: Path,
) -> Iterator[Line]:
    if "encoder" in parts:
        yield from encoder_lines(encoder, texture)
    if "slide" in parts:
        dictionary = _dictionary(encoder, texture, k=k)
        yield slide_line(encoder, dictionary, texture, side_px=slide_px, share=share, folder=folder)
    if "reference" in parts and encoder.spec.window_px is None:
        yield from reference_lines(encoder, texture, ks=(16, 64, 256))
    if "peers" in parts and pythons:
        dictionary = _dictionary(encoder, texture, k=k)
        yield from peer_lines(pythons, encoder, dictionary, texture, side_px=slide_px, folder=folder)


def _sides(growth: str) -> list[int]:
    sides = [int(side) for side in growth.split(",") if side.strip().isdecimal()]
    if len(sides) != len(growth.split(",")) or min(sides) < TILE_PX:
        raise InvalidRequestError(
            f"--growth {growth}: expected sides in px with commas between, each at least {TILE_PX}: 20000,100000."
        )
    return sides


def _peer(item: str) -> tuple[str, Path]:
    name, _, python = item.partition("=")
    if name not in _PEERS or not python:
        raise InvalidRequestError(f"--peer {item}: expected NAME=PYTHON with a name of {', '.join(_PEERS)}.")
    return name, Path(python)


def _dictionary(encoder: Encoder, texture: Rgb, *, k: int) -> ConceptDictionary:
    """Concepts of the texture itself."""
    side = encoder.spec.window_px or 512
    windows = [texture[y : y + side, x : x + side] for y in range(0, _TEXTURE_PX - side + 1, side // 2)
               for x in range(0, _TEXTURE_PX - side + 1, side // 2)]  # fmt: skip
    tokens = encoder.encode(np.stack(windows)).reshape(-1, encoder.spec.channels).cpu().numpy()
    return ConceptDictionary(
        identifier=f"bench-k{k}",
        concepts=fit_kmeans(tokens, n_concepts=k, seed=0).concepts,
        encoder=encoder.spec.identifier,
        pixel_size_um=encoder.spec.pixel_size_um,
    )


def _texture(path: Path | None) -> Rgb:
    """(1024, 1024, 3) from the middle of an image, mirrored where it is smaller."""
    if path is None:
        try:
            from skimage.data import immunohistochemistry
        except ImportError as error:
            raise InvalidRequestError(
                "Slides are made of real tissue: give an image with --texture, or install scikit-image."
            ) from error
        pixels: Rgb = immunohistochemistry()  # type: ignore[no-untyped-call]
    else:
        with open_image(path) as reader:
            side_x, side_y = min(_TEXTURE_PX, reader.width), min(_TEXTURE_PX, reader.height)
            x, y = (reader.width - side_x) // 2, (reader.height - side_y) // 2
            pixels = reader.read(x=x, y=y, width=side_x, height=side_y, scale_x=1, scale_y=1)
    side_x, side_y = (length // 8 * 8 for length in (pixels.shape[1], pixels.shape[0]))
    if not tissue_of(pixels[:side_y, :side_x]).any():
        raise InvalidRequestError(f"There is no tissue in the middle of {path}: choose another image for --texture.")
    pad = [(0, _TEXTURE_PX - length) for length in pixels.shape[:2]]
    return np.ascontiguousarray(np.pad(pixels, [*pad, (0, 0)], mode="symmetric"))
