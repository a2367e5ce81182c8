"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.region import Region
from conceptseg.imaging.glass import Colour
from conceptseg.pipeline.settings import METHODS, SegmentSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
_DEFAULTS = SegmentSettings()

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, mps, cuda, cuda:1; several GPUs: cuda:0,cuda:1, or all. With /float32 or /bfloat16 behind it for "
    "another precision than the device's own.",
)


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


def plane_options(command: _Command) -> _Command:
    """``--z --t``."""
    return _with(
        command,
        click.option(
            "--z", type=click.IntRange(0), help="z-slice of a stack, from 0. [default: the one QuPath shows first]"
        ),
        click.option("--t", type=click.IntRange(0), help="Time point, from 0. [default: likewise]"),
    )


def model_options(command: _Command) -> _Command:
    """``--encoder --weights --device``."""
    return _with(
        command,
        click.option("--encoder", default="default", show_default=True, help="See `conceptseg encoders`."),
        click.option("--weights", type=FILE, help="Local checkpoint of the encoder."),
        device_option,
    )


def encoder_options(command: _Command) -> _Command:
    """``--encoder --weights --device --pixel-size-um``."""
    return _with(
        command,
        model_options,
        click.option(
            "--pixel-size-um",
            type=float,
            help="µm per full-resolution pixel of the image, where its file does not say (or says it wrong).",
        ),
    )


def concept_options(command: _Command) -> _Command:
    """``--dictionary --k --method --min-area-um2 --min-hole-area-um2 --tolerance-px --seed``."""
    number = partial(click.option, type=float, show_default=True)
    return _with(
        command,
        click.option("--dictionary", help="Name (`conceptseg concepts list`) or file of a concept dictionary."),
        click.option(
            "--k", type=int, help="Number of concepts: of the shipped dictionary, or to learn. [default: 16 or 8]"
        ),
        click.option("--method", type=click.Choice(METHODS), default=_DEFAULTS.method, show_default=True),
        number("--min-area-um2", default=_DEFAULTS.min_area_um2, help="µm²."),
        number("--min-hole-area-um2", default=_DEFAULTS.min_hole_area_um2, help="µm²."),
        number(
            "--tolerance-px",
            default=_DEFAULTS.tolerance_px,
            help="Simplification of outlines in analysed pixels; 0 keeps the exact pixel outline.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            default=0,
            show_default=True,
            help="For the methods that learn.",
        ),
    )


def tissue_options(command: _Command) -> _Command:
    """``--glass-colour --tissue-strictness``."""
    return _with(
        command,
        click.option(
            "--glass-colour",
            callback=_colour,
            metavar="R,G,B",
            help="Colour of bare glass, 20 to 255 each, where tissue is not told from it. [default: as found]",
        ),
        click.option(
            "--tissue-strictness",
            type=click.FloatRange(0.1, 10),
            default=_DEFAULTS.tissue_strictness,
            show_default=True,
            help="How much stain tissue must have: 0.5 takes half of the usual, 2 leaves pale tissue out.",
        ),
    )


def _colour(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Colour | None:
    """Parse three integers."""
    if value is None:
        return None
    try:
        red, green, blue = (int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"expected red,green,blue from 20 to 255, got {value!r}") from error
    return red, green, blue


def server_options(command: _Command) -> _Command:
    """``--server --token --tls-certificate``."""
    return _with(
        command,
        click.option(
            "--server",
            metavar="ENDPOINT",
            help="Segment on a server: host:port, or `auto` for the one on this machine.",
        ),
        click.option("--token", envvar="CONCEPTSEG_TOKEN", help="Token of that server, if it is not on this machine."),
        click.option("--tls-certificate", type=FILE, help="Certificate (PEM) of a server on another machine."),
    )


def require_effect(*names: str, when: bool, otherwise: str) -> None:
    """Raise InvalidRequestError for an option that was typed and changes nothing.

    Args:
        names: The options, as parameters of the command.
        when: Whether they have an effect.
        otherwise: Why they have none, as the end of a sentence.
    """
    context = click.get_current_context()
    for name in names:
        if not when and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(param.opts[0] for param in context.command.params if param.name == name)
            raise InvalidRequestError(f"{option} has no effect {otherwise}. Leave it out.")


def require_effect_of_segmenting(*, server: str | None, weights: Path | None, method: str) -> None:
    """Raise InvalidRequestError for options without effect, of those that all commands have that segment."""
    if server and weights:
        raise InvalidRequestError(
            "--weights cannot go with --server: start the server with --weights ENCODER=FILE instead."
        )
    require_effect("device", when=not server, otherwise="with --server, which has a device of its own")
    require_effect("token", "tls_certificate", when=bool(server), otherwise="without --server")
    require_effect("dictionary", when=method != "learned", otherwise="with --method learned, which learns its concepts")


def _with(command: _Command, *options: Callable[[_Command], _Command]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command
