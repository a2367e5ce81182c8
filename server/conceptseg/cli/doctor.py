"""``conceptseg doctor``."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata

import click
import torch

from conceptseg import __version__
from conceptseg.cli.console import plain_console
from conceptseg.domain.errors import ConceptSegError
from conceptseg.encoders.load import load_encoder
from conceptseg.encoders.registry import known_encoders
from conceptseg.factorization.library import dictionary_paths, user_folder
from conceptseg.qupath.locate import find_qupath_installations

_PACKAGES = ("torch", "timm", "numba", "shapely", "openslide-python", "grpcio", "protobuf", "paquo")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool) -> int:
    """Show versions, device, encoders, QuPath, and what to do about what is missing."""
    advice: list[str] = []
    qupath = [f"{found.version or 'version unknown'} at {found.path}" for found in find_qupath_installations()]
    if not qupath:
        advice.append(
            "No QuPath found: install it from qupath.github.io or with `paquo get_qupath`, or point "
            "PAQUO_QUPATH_DIR at it. Only batch-annotating projects needs it here; GeoJSON output does not."
        )
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        advice.append("No GPU: everything works on the CPU; foundation models will be slow.")
    try:
        load_encoder("default", device="cpu")
        default = "works"
    except ConceptSegError as error:
        default = "broken"
        advice.append(str(error))
    facts = {
        "conceptseg": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{name: metadata.version(name) for name in _PACKAGES},
        "device": _device(),
        "cpu threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
        "default encoder": default,
        "other encoders": ", ".join(
            spec.identifier + (" (gated)" if spec.gated else "") for spec in known_encoders()[1:]
        ),
        "dictionaries": ", ".join(dictionary_paths()) or "none",
        "own dictionaries": str(user_folder()),
        "QuPath": "; ".join(qupath) or "not found",
    }
    if as_json:
        click.echo(json.dumps({**facts, "advice": advice}))
    else:
        console = plain_console()
        for name, value in facts.items():
            console.print(f"{name:>18}: {value}", soft_wrap=True)
        for line in advice:
            console.print(f"-> {line}")
    return 0 if default == "works" else 1


def _device() -> str:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return f"cuda, {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return "mps" if torch.backends.mps.is_available() else "cpu"
