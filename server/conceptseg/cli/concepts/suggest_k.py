"""``conceptseg concepts suggest-k``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from conceptseg.cli.concepts.tokens import TokenOptions, token_options
from conceptseg.cli.console import plain_console
from conceptseg.cli.options import encoder_options
from conceptseg.cli.progress import progress_bar
from conceptseg.pipeline.suggest_k import CANDIDATES, REPEATS, suggest_k


@click.command("suggest-k")
@token_options(tokens_per_image=10_000)
@click.option(
    "--k", "ks", type=click.IntRange(min=2), multiple=True, default=CANDIDATES, show_default=True, help="Candidates."
)
@click.option("--repeats", type=click.IntRange(min=2), default=REPEATS, show_default=True, help="Random halves.")
@encoder_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def suggest_k_(
    tokens: TokenOptions,
    ks: tuple[int, ...],
    repeats: int,
    encoder: str,
    weights: Path | None,
    device: str,
    pixel_size_um: float | None,
    as_json: bool,
) -> None:
    """Suggest a number of concepts for INPUTS: slides, folders, QuPath projects; and say how sure it is.

    Dictionaries are fitted on random halves of the images. Agreement is that of their labels (adjusted Rand index);
    what a cloud without groups reaches is subtracted. Of those k that do as well as the best, the one that explains
    tokens it has not seen best is suggested. With --work, `concepts fit` can use the same tokens.
    """
    _, collected = tokens.collect(encoder=encoder, weights=weights, device=device, pixel_size_um=pixel_size_um)
    with progress_bar() as progress:
        found = suggest_k(
            collected.tokens, counts=collected.counts, ks=ks, repeats=repeats, seed=tokens.seed, progress=progress
        )
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False))
        return
    table = Table()
    for column in ("k", "agreement", "without groups", "excess", "held-out residual", "chosen"):
        table.add_column(column, justify="right")
    for one in found.candidates:
        table.add_row(
            f"{one.k} *" if one.k == found.k else f"{one.k}  ",
            f"{one.agreement:.3f}",
            f"{one.shapeless:.3f}",
            f"{one.excess:+.3f} ± {one.excess_error:.3f}",
            f"{one.residual:.3f}",
            f"{one.chosen:.0%}",
        )
    plain_console().print(table)
    click.echo(found.sentence)
