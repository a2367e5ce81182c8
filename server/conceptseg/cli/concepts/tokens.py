"""Inputs and options of the commands that learn from tokens of many images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from conceptseg.cli.image_inputs import find_images
from conceptseg.cli.options import FILE, tissue_options
from conceptseg.cli.progress import progress_bar
from conceptseg.domain.per_file import PerFile
from conceptseg.encoders.encoder import Encoder
from conceptseg.encoders.load import load_encoder
from conceptseg.imaging.glass import Colour
from conceptseg.imaging.slide import TissueSettings
from conceptseg.pipeline.collect import Collected, collect_tokens
from conceptseg.pipeline.sampling import MAX_TOKENS, TOKENS_PER_SOURCE
from conceptseg.pipeline.token_store import TokenStore

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenOptions:
    """Which images to read, and how much of them.

    Attributes:
        inputs: Image files, folders, QuPath projects.
        patterns: Only images of projects with such a name.
        rebase: Folder where projects say that slides are, and where they are.
        tokens_per_image: At most this many of an image.
        max_tokens: At most this many of all.
        seed: Chooses the tokens.
        work: Folder that keeps the samples.
        skip_bad: Leave out images that cannot be used.
        glass_colour: Of bare glass; None to find it in every image.
        tissue_strictness: How much stain tissue must have, as a factor of the usual.
    """

    inputs: tuple[Path, ...]
    patterns: tuple[str, ...]
    rebase: tuple[str, Path] | None
    tokens_per_image: int
    max_tokens: int
    seed: int
    work: Path | None
    skip_bad: bool
    glass_colour: Colour | None
    tissue_strictness: float

    def collect(
        self, *, encoder: str, weights: Path | None, device: str, pixel_size_um: float | None
    ) -> tuple[Encoder, Collected]:
        """Load the encoder and sample the images, and say on standard error what was used and what was not.

        Args:
            encoder: Its name.
            weights: Its local checkpoint, or None.
            device: Where it runs.
            pixel_size_um: µm per full-resolution px where neither QuPath nor the file says.

        Raises:
            ConceptSegError: see `find_images`, `load_encoder`, `collect_tokens`.
        """
        images = find_images(self.inputs, patterns=self.patterns, rebase=self.rebase)
        loaded = load_encoder(encoder, device=device, weights=weights)
        expected_um = loaded.spec.pixel_size_um
        with progress_bar() as progress:
            collected = collect_tokens(
                [image.to_read(encoder_pixel_size_um=expected_um, otherwise_um=pixel_size_um) for image in images],
                encoder=loaded,
                seed=self.seed,
                tokens_per_image=self.tokens_per_image,
                max_tokens=self.max_tokens,
                tissue=TissueSettings(glass_colour=self.glass_colour, strictness=self.tissue_strictness),
                store=self._store(loaded, weights),
                skip_bad=self.skip_bad,
                progress=progress,
            )
        told = PerFile()
        for name, reason in collected.left_out:
            click.echo(told.line(name, reason, what="left out"), err=True)
        reused = f", {collected.reused} of them from {self.work}" if collected.reused else ""
        click.echo(f"{len(collected.tokens)} tokens of {len(collected.names)} images{reused}", err=True)
        return loaded, collected

    def _store(self, encoder: Encoder, weights: Path | None) -> TokenStore | None:
        if self.work is None:
            return None
        return TokenStore(
            self.work,
            settings={
                "encoder": encoder.spec.identifier,
                "layer": encoder.spec.layer,
                "pixel size of the encoder in µm": repr(encoder.spec.pixel_size_um),
                "weights": _weights(weights),
                "seed": str(self.seed),
                **self._tissue(),
            },
            channels=encoder.spec.channels,
        )

    def _tissue(self) -> dict[str, str]:
        """What was said about tissue, so that samples taken without a word stay good."""
        said = {"colour of glass": self.glass_colour, "strictness of tissue": self.tissue_strictness}
        return {name: str(value) for name, value in said.items() if value not in (None, 1)}


def token_options(*, tokens_per_image: int = TOKENS_PER_SOURCE) -> Callable[[_Command], _Command]:
    """``INPUTS`` and the options of `TokenOptions`, which the command gets as ``tokens``."""
    names = [field.name for field in fields(TokenOptions)]
    options = (
        click.argument("inputs", type=FILE, nargs=-1, required=True),
        click.option(
            "--images", "patterns", multiple=True, metavar="GLOB", help="Only images of projects with such a name."
        ),
        click.option("--rebase", type=(str, FILE), metavar="OLD NEW", help="Slides were moved from OLD to NEW."),
        click.option("--tokens-per-image", type=click.IntRange(min=1), default=tokens_per_image, show_default=True),
        click.option(
            "--max-tokens",
            type=click.IntRange(min=1),
            default=MAX_TOKENS,
            show_default=True,
            help="Of all images together; images then give fewer, all the same number.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True),
        click.option(
            "--work",
            type=FILE,
            metavar="FOLDER",
            help="Keep what was sampled here: after an interruption, or for another k, no slide is read again.",
        ),
        click.option("--skip-bad", is_flag=True, help="Name and leave out images that cannot be used."),
        tissue_options,
    )

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def with_tokens(**given: Any) -> Any:
            return command(tokens=TokenOptions(**{name: given.pop(name) for name in names}), **given)

        for option in reversed(options):
            with_tokens = option(with_tokens)
        return with_tokens  # type: ignore[return-value]

    return decorate


def _weights(path: Path | None) -> str:
    if path is None:
        return "the encoder's own"
    status = path.stat()
    return f"{path.absolute()}, {status.st_size} bytes of {status.st_mtime_ns}"
