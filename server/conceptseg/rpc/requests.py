"""What clients ask for, from messages to checked domain types."""

from __future__ import annotations

import math
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import shapely
from shapely import MultiPolygon, Polygon

from conceptseg.domain.dictionary import ConceptDictionary
from conceptseg.domain.errors import DictionaryError, InvalidRequestError, MissingPixelSizeError
from conceptseg.domain.region import PixelGrid, Region
from conceptseg.encoders.spec import EncoderSpec
from conceptseg.factorization.dictionary_file import load_dictionary
from conceptseg.factorization.library import dictionary_paths, find_dictionary
from conceptseg.geometry.place import require_clip
from conceptseg.imaging.glass import Colour, Overview
from conceptseg.imaging.reader import ImageReader
from conceptseg.imaging.tiles import Tile
from conceptseg.pipeline.settings import Method, SegmentSettings
from conceptseg.rpc.convert import rgb_from_proto
from conceptseg.rpc.limits import LARGEST_MARGIN_PX, Limits
from conceptseg.v1 import common_pb2, segment_pb2

_LONGEST_NAME = 500
_LONGEST_RUN_ID = 64
_LARGEST_OVERVIEW = 1024
_PLAUSIBLE = 16.0
"""Output px that differ from the encoder's pixel size by a larger factor are a mistake in the calibration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What to do with the pixels of a region.

    Attributes:
        encoder: Name of the encoder.
        dictionary: The concepts; None for method ``learned``.
        settings: How.
        clip: Shape of the parent annotation in full-resolution px.
        run_id: Identifies the run.
        want_label_map: Send the label map, too.
    """

    encoder: str
    dictionary: ConceptDictionary | None
    settings: SegmentSettings
    clip: Polygon | MultiPolygon | None
    run_id: str
    want_label_map: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SentRegion:
    """A region whose pixels a client sends.

    Attributes:
        image_name: Name of the image.
        grid: The output px of the region.
        window: The output px that come; contains the grid.
        overview: The whole image as a small picture, where the client knows it.
    """

    image_name: str
    grid: PixelGrid
    window: Tile
    overview: Overview | None = None


def options_from_proto(message: common_pb2.SegmentOptions, *, limits: Limits) -> Options:
    """Check everything that can be checked without the encoder and the pixels."""
    encoder = message.encoder or "default"
    settings = settings_from_proto(message.settings)
    limits.require_settings(settings)
    if len(message.run_id) > _LONGEST_RUN_ID or not message.run_id.isprintable():
        raise InvalidRequestError(f"Expected a run id of at most {_LONGEST_RUN_ID} printable characters.")
    return Options(
        encoder=encoder,
        dictionary=None if settings.method == "learned" else dictionary_from_proto(message.dictionary, encoder=encoder),
        settings=settings,
        clip=clip_from_wkb(message.clip_wkb),
        run_id=message.run_id or str(uuid.uuid4()),
        want_label_map=message.want_label_map,
    )


def settings_from_proto(message: common_pb2.SegmentSettings) -> SegmentSettings:
    """The settings; what is not set has its default."""
    given = {field.name: value for field, value in message.ListFields()}
    if "method" in given:
        given["method"] = cast("Method", given["method"][:100])
    if "glass_colour_rgb" in given:
        given["glass_colour"] = glass_colour_from_proto(given.pop("glass_colour_rgb"))
    return SegmentSettings(**given)


def glass_colour_from_proto(rgb: int) -> Colour:
    """The colour of glass that a client gives.

    Raises:
        InvalidRequestError: no colour.
    """
    if not 0 <= rgb <= 0xFFFFFF:
        raise InvalidRequestError(f"Expected the colour of glass as 0xRRGGBB, got {rgb}.")
    return rgb_from_proto(rgb)


def overview_from_proto(message: segment_pb2.PixelsHeader) -> Overview | None:
    """The whole image as a small picture; None where the client does not know it.

    Raises:
        InvalidRequestError: a picture that is too large, or has another number of pixels than it says.
    """
    if not message.HasField("overview"):
        return None
    sent = message.overview
    sides = 1 <= sent.width <= _LARGEST_OVERVIEW and 1 <= sent.height <= _LARGEST_OVERVIEW
    if not sides or len(sent.rgb) != 3 * sent.width * sent.height or min(sent.image_width, sent.image_height) < 1:
        raise InvalidRequestError(
            f"Expected an overview of 1 to {_LARGEST_OVERVIEW} px a side, 3 bytes each, of an image of at least 1 px; "
            f"got {len(sent.rgb)} bytes for {sent.width} × {sent.height} px of {sent.image_width} × "
            f"{sent.image_height} px."
        )
    return Overview(
        pixels=sent.rgb, columns=sent.width, rows=sent.height, width=sent.image_width, height=sent.image_height
    )


def dictionary_from_proto(message: common_pb2.DictionaryChoice, *, encoder: str) -> ConceptDictionary:
    """The dictionary that a client names or sends.

    Raises:
        DictionaryError: there is none of that name, or the file is damaged.
    """
    k = message.k if message.HasField("k") else None
    if message.WhichOneof("source") == "file":
        dictionary = dictionary_from_bytes(message.file)
        if k is not None and dictionary.n_concepts != k:
            raise DictionaryError(f"The dictionary that was sent has {dictionary.n_concepts} concepts, not k = {k}.")
        return dictionary
    name = message.name or None
    # The library also takes paths, which a client must not use to probe the server's disk.
    if name is not None and name not in (known := dictionary_paths()):
        raise DictionaryError(
            f"The server has no dictionary {name[:100]!r}. It has: {', '.join(known) or 'none'}. Choose one of these, "
            "send the dictionary file with the call, or learn one."
        )
    return find_dictionary(encoder=encoder[:100], name=name, k=k)


def dictionary_from_bytes(content: bytes) -> ConceptDictionary:
    """Read a dictionary file that was sent.

    Raises:
        DictionaryError: it is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="conceptseg-") as folder:
        path = Path(folder) / "dictionary.safetensors"
        path.write_bytes(content)
        try:
            return load_dictionary(path)
        except DictionaryError as error:
            raise DictionaryError(str(error).replace(str(path), "The dictionary that was sent")) from error


def clip_from_wkb(wkb: bytes) -> Polygon | MultiPolygon | None:
    """The shape of the parent annotation; None for no bytes.

    Raises:
        InvalidRequestError: not the WKB of an area.
    """
    if not wkb:
        return None
    try:
        clip = shapely.from_wkb(wkb)
    except (shapely.GEOSException, ValueError) as error:
        raise InvalidRequestError(f"clip_wkb is not the WKB of an area ({str(error)[:200]}).") from error
    if clip is None:
        raise InvalidRequestError("clip_wkb holds no geometry.")
    coordinates = shapely.get_coordinates(clip)
    if not (abs(coordinates) <= 2.0**31).all():  # also refuses NaN
        raise InvalidRequestError("clip_wkb has coordinates that are no full-resolution px of an image.")
    require_clip(clip)
    return shapely.force_2d(clip)


def region_from_proto(message: common_pb2.Region) -> Region:
    """A region."""
    if message.z < 0 or message.t < 0:
        raise InvalidRequestError(f"Expected a z-slice and time point >= 0, got z={message.z}, t={message.t}.")
    return Region(x=message.x, y=message.y, width=message.width, height=message.height, z=message.z, t=message.t)


def grid_from_proto(message: common_pb2.PixelGrid) -> PixelGrid:
    """A grid.

    Raises:
        MissingPixelSizeError: no pixel size.
        InvalidRequestError: more output px than full-resolution px, or a pixel size that is not positive.
    """
    region = region_from_proto(message.region)
    given = message.WhichOneof("pixel_size")
    if given is None:
        raise missing_pixel_size()
    if not (1 <= message.width <= region.width and 1 <= message.height <= region.height):
        raise InvalidRequestError(
            f"Expected a grid of 1 × 1 to {region.width} × {region.height} output px for the region {region}, got "
            f"{message.width} × {message.height}: the downsample must be at least 1."
        )
    if given == "grid_pixel_size_um":
        size = message.grid_pixel_size_um
    else:
        size = require_pixel_size(message.image_pixel_size_um) * (
            0.5 * (region.width / message.width + region.height / message.height)
        )
    return PixelGrid(region=region, width=message.width, height=message.height, pixel_size_um=size)


def missing_pixel_size() -> MissingPixelSizeError:
    """The error for a request without calibration."""
    return MissingPixelSizeError(
        "The image carries no pixel size. Set it in QuPath's Image tab (about 0.25 µm for a 40x scan, 0.5 µm for "
        "20x), or give image_pixel_size_um."
    )


def require_pixel_size(value: float) -> float:
    """``value``, if it is a pixel size.

    Raises:
        InvalidRequestError: it is not positive.
    """
    if not (math.isfinite(value) and value > 0):
        raise InvalidRequestError(f"Expected a pixel size > 0 µm, got {value}.")
    return value


def require_size(reader: ImageReader, request: segment_pb2.SegmentRegionRequest) -> None:
    """Raise InvalidRequestError if the file is not of the size that the client knows."""
    for wanted, found in ((request.image_width, reader.width), (request.image_height, reader.height)):
        if wanted > 0 and wanted != found:
            raise InvalidRequestError(
                f"{reader.name} is {reader.width} × {reader.height} px on the server, and "
                f"{request.image_width} × {request.image_height} px for the client: they do not see the same image. "
                "Send the pixels (SegmentPixels)."
            )


def require_plausible(grid: PixelGrid, spec: EncoderSpec) -> None:
    """Raise InvalidRequestError if the output px are nothing the encoder could make sense of."""
    if not 1 / _PLAUSIBLE <= grid.pixel_size_um / spec.pixel_size_um <= _PLAUSIBLE:
        raise InvalidRequestError(
            f"The output px have {grid.pixel_size_um:g} µm, but encoder {spec.identifier} expects "
            f"{spec.pixel_size_um:g} µm. Correct the pixel size of the image, or choose another downsample."
        )


def sent_region_from_proto(message: segment_pb2.PixelsHeader) -> SentRegion:
    """The description of pixels that will come.

    Raises:
        InvalidRequestError: the window does not contain the grid, or is far larger.
    """
    if len(message.image_name) > _LONGEST_NAME:
        raise InvalidRequestError(f"Expected an image name of at most {_LONGEST_NAME} characters.")
    grid = grid_from_proto(message.grid)
    window = Tile(x=0, y=0, width=grid.width, height=grid.height)
    if message.HasField("window"):
        rect = message.window
        window = Tile(x=rect.x, y=rect.y, width=rect.width, height=rect.height)
    right, bottom = window.x + window.width - grid.width, window.y + window.height - grid.height
    if window.x > 0 or window.y > 0 or right < 0 or bottom < 0:
        raise InvalidRequestError(
            f"The window {window.x},{window.y},{window.width},{window.height} (x,y,width,height in output px) does not "
            f"contain the whole grid of {grid.width} × {grid.height} px. PlanRegion tells a window that does."
        )
    if max(-window.x, -window.y, right, bottom) > LARGEST_MARGIN_PX:
        raise InvalidRequestError(
            f"The window reaches more than {LARGEST_MARGIN_PX} px beyond the grid. PlanRegion tells how much helps."
        )
    return SentRegion(
        image_name=message.image_name or "image", grid=grid, window=window, overview=overview_from_proto(message)
    )
