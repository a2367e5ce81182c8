"""Dictionaries from the regions of a client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import InvalidRequestError
from conceptseg.domain.progress import IsCancelled, ReportProgress
from conceptseg.encoders.encoder import Encoder
from conceptseg.factorization.dictionary_file import save_dictionary
from conceptseg.factorization.library import SUFFIX, user_folder
from conceptseg.imaging.reader import open_image
from conceptseg.imaging.slide import TissueSettings
from conceptseg.imaging.source import PixelSource, open_region
from conceptseg.pipeline.fit import fit_concepts
from conceptseg.pipeline.settings import SegmentSettings
from conceptseg.rpc import convert, requests
from conceptseg.rpc.canvas import make_canvas
from conceptseg.rpc.errors import DictionaryExistsError
from conceptseg.rpc.inbox import Inbox
from conceptseg.rpc.limits import MOST_KS, Limits
from conceptseg.rpc.paths import AllowedRoots
from conceptseg.v1 import fit_pb2, segment_pb2

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_TOKENS = 2000
_MOST_TOKENS = 100_000
_MOST_PROVENANCE = 50_000


def fit_dictionaries(
    inbox: Inbox[fit_pb2.FitConceptsRequest],
    *,
    load: Callable[[str], Encoder],
    roots: AllowedRoots,
    limits: Limits,
    progress: ReportProgress,
    cancelled: IsCancelled,
) -> list[fit_pb2.FittedDictionary]:
    """Do what FitConcepts promises.

    Args:
        inbox: The client's messages.
        load: Finds the encoder.
        roots: Files that may be read.
        limits: What the call may ask.
        progress: Told after every region.
        cancelled: Asked before every batch of tiles.

    Raises:
        ConceptSegError: see the error tree; nothing is kept then.
    """
    first = inbox.next()
    if first is None or first.WhichOneof("content") != "header":
        raise InvalidRequestError("Expected a header as the first message, then regions.")
    header = first.header
    ks, tokens = _checked(header)
    colour = header.glass_colour_rgb if header.HasField("glass_colour_rgb") else None
    tissue = TissueSettings(
        glass_colour=None if colour is None else requests.glass_colour_from_proto(colour),
        strictness=header.tissue_strictness if header.HasField("tissue_strictness") else 1,
    )
    encoder = load(header.encoder)
    files = {k: user_folder() / f"{header.name}-k{k}{SUFFIX}" for k in ks if header.save}
    for path in files.values():
        if path.exists() and not header.overwrite:
            raise DictionaryExistsError(
                f"There is a dictionary {path.stem} already. Choose another name, or allow that it is replaced."
            )
    dictionaries = fit_concepts(
        _sources(inbox, encoder, roots=roots, limits=limits),
        encoder=encoder,
        ks=ks,
        seed=header.seed,
        tokens_per_source=tokens,
        tissue=tissue,
        provenance=dict(header.provenance),
        total=max(0, header.region_count),
        progress=progress,
        cancelled=cancelled,
    )
    if header.name:
        dictionaries = tuple(replace(item, identifier=f"{header.name}-k{item.n_concepts}") for item in dictionaries)
    return [_kept(item, files.get(k)) for k, item in zip(ks, dictionaries, strict=True)]


def _checked(header: fit_pb2.FitConceptsHeader) -> tuple[list[int], int]:
    ks = list(header.ks)
    if not 1 <= len(ks) <= MOST_KS or len(set(ks)) != len(ks) or not all(1 <= k <= 1024 for k in ks):
        raise InvalidRequestError(
            f"Expected 1 to {MOST_KS} different numbers of concepts from 1 to 1024, got {ks[:20]}."
        )
    tokens = header.tokens_per_region if header.HasField("tokens_per_region") else _TOKENS
    if not 1 <= tokens <= _MOST_TOKENS:
        raise InvalidRequestError(f"Expected 1 to {_MOST_TOKENS} tokens per region, got {tokens}.")
    if header.name and not _NAME.fullmatch(header.name):
        raise InvalidRequestError(
            f"The name {header.name[:80]!r} cannot be a file name everywhere. Use letters, digits, '.', '_' and '-', "
            "at most 64."
        )
    if header.save and not header.name:
        raise InvalidRequestError("A dictionary can only be kept under a name; give one.")
    if sum(len(key) + len(value) for key, value in header.provenance.items()) > _MOST_PROVENANCE:
        raise InvalidRequestError(f"Expected a provenance of at most {_MOST_PROVENANCE} characters.")
    return ks, tokens


def _sources(
    inbox: Inbox[fit_pb2.FitConceptsRequest], encoder: Encoder, *, roots: AllowedRoots, limits: Limits
) -> Iterator[PixelSource]:
    """The regions, one after another; each is complete, or closed, before the next begins."""

    def next_tile() -> segment_pb2.PixelTile | None:
        message = inbox.next()
        if message is None:
            return None
        if message.WhichOneof("content") != "tile":
            raise InvalidRequestError("The next region began before all tiles of this one had come.")
        return message.tile

    while (message := inbox.next()) is not None:
        kind = message.WhichOneof("content")
        if kind == "pixels":
            canvas = make_canvas(
                requests.sent_region_from_proto(message.pixels),
                encoder=encoder,
                settings=SegmentSettings(),  # the sample of a region is taken in one pass
                limits=limits,
                next_tile=next_tile,
            )
            yield canvas
            canvas.complete(until_end=False)
        elif kind == "file":
            file = message.file
            series = file.series if file.HasField("series") else None
            with open_image(roots.resolve(file.path), series=series) as reader:
                source = open_region(
                    reader,
                    region=requests.region_from_proto(file.region) if file.HasField("region") else None,
                    pixel_size_um=encoder.spec.pixel_size_um,
                    image_pixel_size_um=(file.image_pixel_size_um if file.HasField("image_pixel_size_um") else None),
                )
                requests.require_plausible(source.grid, encoder.spec)
                limits.require_read_px(source.grid)
                yield source
        else:
            raise InvalidRequestError("Expected a region after the header: either pixels and their tiles, or a file.")


def _kept(dictionary: ConceptDictionary, path: Path | None) -> fit_pb2.FittedDictionary:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_dictionary(path, dictionary)
    return fit_pb2.FittedDictionary(
        info=convert.dictionary_to_proto(path.stem if path else dictionary.identifier, dictionary),
        file=convert.dictionary_to_bytes(dictionary),
        saved=path is not None,
    )
