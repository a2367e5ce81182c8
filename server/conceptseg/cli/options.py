"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from conceptseg.domain.region import Region

_Command = TypeVar("_Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)


class RegionType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """``x,y,width,height`` in full-resolution px."""

    name = "x,y,w,h"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Region:
        """Parse the four integers."""
        if isinstance(value, Region):
            return value
        try:
            x, y, width, height = (int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"expected four integers x,y,width,height in full-resolution px, got {value!r}", param, ctx)
        return Region(x=x, y=y, width=width, height=height)


def encoder_options(command: _Command) -> _Command:
    """``--encoder --weights --device --pixel-size-um``."""
    for option in reversed(
        [
            click.option("--encoder", default="default", show_default=True, help="See `conceptseg encoders`."),
            click.option("--weights", type=FILE, help="Local checkpoint of the encoder."),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."),
            click.option(
                "--pixel-size-um",
                type=float,
                help="µm per full-resolution pixel of the image, where its file does not say (or says it wrong).",
            ),
        ]
    ):
        command = option(command)
    return command
