"""What the OME-XML of a TIFF file says about its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from conceptseg.imaging.calibration import UM_PER_UNIT

_COLOURS = {"red": 0, "r": 0, "green": 1, "g": 1, "blue": 2, "b": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class OmeImage:
    """An image of an OME-TIFF file.

    Attributes:
        number: Its place among the images of the file, from 0: the series of Bio-Formats and of QuPath.
        name: What the file calls it; may be empty.
        width: Full-resolution px per row.
        height: Full-resolution px per column.
        sides_um: µm per px along x and y; None where the file does not say.
        channels: Names of the channels; empty strings where they have none.
        samples: Samples per pixel of each channel: 3 for one channel of RGB.
    """

    number: int
    name: str
    width: int
    height: int
    sides_um: tuple[float, float] | None
    channels: tuple[str, ...]
    samples: tuple[int, ...]


def ome_images(description: str) -> tuple[OmeImage, ...]:
    """The images that an OME-XML description lists; none where it is damaged."""
    try:
        root = _root(description)
        images = [list(_children(image, "Pixels")) for image in _children(root, "Image")]
        names = [image.get("Name", "") for image in _children(root, "Image")]
        return tuple(
            _image(number, name, pixels[0])
            for number, (name, pixels) in enumerate(zip(names, images, strict=True))
            if pixels
        )
    except (ElementTree.ParseError, KeyError, ValueError):
        return ()


def named_files(description: str) -> set[str]:
    """The files over which the planes of an OME-TIFF are spread, as its description names them."""
    try:
        root = _root(description)
    except (ElementTree.ParseError, ValueError):
        return set()
    return {uuid.attrib["FileName"] for uuid in root.iter() if _tag(uuid) == "UUID" and "FileName" in uuid.attrib}


def red_green_blue(names: Sequence[str]) -> tuple[int, int, int] | None:
    """The places of red, green and blue among channels of these names; None if they are not those three."""
    places: dict[int, int] = {}
    for place, name in enumerate(names):
        colour = _COLOURS.get(name.strip().lower())
        if colour is not None:
            places[colour] = place
    return (places[0], places[1], places[2]) if len(places) == len(names) == 3 else None


def _root(description: str) -> ElementTree.Element:
    # tifffile has parsed the same text before; expat itself ends entities that grow without bound.
    return ElementTree.fromstring(description)  # noqa: S314


def _image(number: int, name: str, pixels: ElementTree.Element) -> OmeImage:
    channels = list(_children(pixels, "Channel"))
    sides = tuple(_side_um(pixels, axis) for axis in ("X", "Y"))
    return OmeImage(
        number=number,
        name=name,
        width=int(pixels.attrib["SizeX"]),
        height=int(pixels.attrib["SizeY"]),
        sides_um=(sides[0], sides[1]) if min(sides) > 0 else None,
        channels=tuple(channel.get("Name", "") for channel in channels),
        samples=tuple(int(channel.get("SamplesPerPixel", 1)) for channel in channels),
    )


def _side_um(pixels: ElementTree.Element, axis: str) -> float:
    unit = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0.0)
    try:
        return float(pixels.get(f"PhysicalSize{axis}", 0)) * unit
    except ValueError:
        return 0.0


def _children(element: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _tag(child) == tag)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
