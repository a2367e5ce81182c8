"""``conceptseg concepts fit``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from conceptseg import __version__
from conceptseg.cli.concepts.saving import folder_option, overwrite_option, require_new, save_into
from conceptseg.cli.concepts.tokens import TokenOptions, token_options
from conceptseg.cli.options import encoder_options
from conceptseg.cli.progress import progress_bar
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.factorization.library import dictionary_identifier
from conceptseg.pipeline.fit import fit_tokens
from conceptseg.pipeline.recipe import ALGORITHMS, Algorithm, Recipe


@click.command()
@token_options()
@click.option("--k", "ks", type=int, multiple=True, required=True, help="Number of concepts; repeat for several.")
@encoder_options
@click.option("--name", help="Dictionary name, with k appended; default: the encoder's name.")
@click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default="kmeans",
    show_default=True,
    help="k-means (scikit-learn on a CPU, torch on a GPU), or the NMF of F-SEG's training script.",
)
@click.option("--spherical", is_flag=True, help="k-means on directions: what a token shows counts, not how strongly.")
@click.option(
    "--hierarchical", is_flag=True, help="With several --k: every concept of a smaller k is made of those of a larger."
)
@folder_option
@overwrite_option
def fit(
    tokens: TokenOptions,
    ks: tuple[int, ...],
    encoder: str,
    weights: Path | None,
    device: str,
    pixel_size_um: float | None,
    name: str | None,
    algorithm: Algorithm,
    spherical: bool,
    hierarchical: bool,
    folder: Path | None,
    overwrite: bool,
) -> None:
    """Fit dictionaries on INPUTS: slides, folders that are searched for images, QuPath projects.

    Tissue tokens are sampled evenly over the images; the same images, seed and encoder give the same result.
    --pixel-size-um is used for images that carry no calibration.
    """
    if any(k < 1 for k in ks):
        raise InvalidRequestError(f"Expected every --k >= 1, got {min(ks)}.")
    wanted = sorted(set(ks))
    if hierarchical and len(wanted) < 2:
        raise InvalidRequestError("--hierarchical needs several --k, for example --k 8 --k 16 --k 32.")
    require_new(folder, (dictionary_identifier(encoder, name=name, k=k) for k in wanted), overwrite=overwrite)
    recipe = Recipe(algorithm=algorithm, spherical=spherical, hierarchical=hierarchical)
    loaded, collected = tokens.collect(encoder=encoder, weights=weights, device=device, pixel_size_um=pixel_size_um)
    with progress_bar() as progress:
        made = fit_tokens(
            collected.tokens,
            encoder=loaded,
            ks=wanted,
            seed=tokens.seed,
            recipe=recipe,
            name=name,
            provenance={
                "command": shlex.join(["conceptseg", *sys.argv[1:]]),
                "conceptseg": __version__,
                "images": str(len(collected.names)),
                "images without tissue": str(collected.counts.count(0)),
                "images left out": str(len(collected.left_out)),
                "tokens per image, at most": str(max(collected.counts)),
            },
            progress=progress,
        )
    save_into(folder, made)
