"""Writes the few elements of DICOM that make a whole slide."""

import struct
import uuid

import numpy as np

_LONG = ("OB", "OW", "SQ")


def uid():
    """A new unique identifier."""
    return f"2.25.{uuid.uuid4().int}"


def write_dicom(path, array, *, series, pixel_size_um, tile=64):
    """Write one level of a slide, uint8 (h, w, 3), in uncompressed tiles."""
    height, width = array.shape[:2]
    down, across = -(-height // tile), -(-width // tile)
    padded = np.full((down * tile, across * tile, 3), 255, np.uint8)
    padded[:height, :width] = array
    frames = padded.reshape(down, tile, across, tile, 3).swapaxes(1, 2).tobytes()
    instance, kind = uid(), "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
    meta = _element(2, 2, "UI", kind) + _element(2, 3, "UI", instance)
    meta += _element(2, 0x10, "UI", "1.2.840.10008.1.2.1") + _element(2, 0x12, "UI", "2.25.1")
    side = _element(0x28, 0x30, "DS", f"{pixel_size_um / 1000}\\{pixel_size_um / 1000}")
    body = [
        _element(8, 8, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
        _element(8, 0x16, "UI", kind),
        _element(8, 0x18, "UI", instance),
        _element(8, 0x60, "CS", "SM"),
        _element(0x20, 0xD, "UI", "2.25.2"),
        _element(0x20, 0xE, "UI", series),
        _element(0x20, 0x52, "UI", "2.25.3"),
        _element(0x20, 0x9311, "CS", "TILED_FULL"),
        _element(0x28, 2, "US", 3),
        _element(0x28, 4, "CS", "RGB"),
        _element(0x28, 6, "US", 0),
        _element(0x28, 8, "IS", str(down * across)),
        _element(0x28, 0x10, "US", tile),
        _element(0x28, 0x11, "US", tile),
        *(_element(0x28, number, "US", value) for number, value in ((0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0))),
        _element(0x48, 6, "UL", width),
        _element(0x48, 7, "UL", height),
        _element(0x48, 0x105, "SQ", _item(_element(0x48, 0x106, "SH", "0"))),
        _element(0x48, 0x302, "UL", 1),
        _element(0x48, 0x303, "UL", 1),
        _element(0x5200, 0x9229, "SQ", _item(_element(0x28, 0x9110, "SQ", _item(side)))),
        _element(0x7FE0, 0x10, "OB", frames),
    ]
    head = bytes(128) + b"DICM" + _element(2, 0, "UL", len(meta))
    path.write_bytes(head + meta + b"".join(body))


def _element(group, number, kind, value):
    if kind in ("US", "UL"):
        value = struct.pack("<H" if kind == "US" else "<I", value)
    elif isinstance(value, str):
        value = value.encode()
    value += (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind in _LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", group, number) + kind.encode() + length + value


def _item(content):
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
