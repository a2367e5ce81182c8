"""Reads Java class files as far as a link check needs: what a class has, and what it calls."""

import struct
from dataclasses import dataclass
from typing import NamedTuple

_INTERFACE = 0x0200
STATIC = 0x0008
ABSTRACT = 0x0400
SYNTHETIC = 0x1000
_SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}


class Reference(NamedTuple):
    owner: str
    name: str
    descriptor: str
    through_interface: bool


@dataclass(frozen=True)
class ClassFile:
    name: str
    is_interface: bool
    parents: tuple[str, ...]
    members: dict[tuple[str, str], int]  # (name, descriptor) -> access flags
    references: frozenset[Reference]


def read(data: bytes) -> ClassFile:
    """Parse one class file."""
    at, pool = _constants(data)

    def text(index: int) -> str:
        return pool[index][1]

    def class_name(index: int) -> str:
        return text(pool[index][1])

    access, this, parent, n_interfaces = struct.unpack_from(">HHHH", data, at)
    at += 8
    interfaces = struct.unpack_from(f">{n_interfaces}H", data, at)
    at += 2 * n_interfaces
    members: dict[tuple[str, str], int] = {}
    for _ in ("fields", "methods"):
        (count,) = struct.unpack_from(">H", data, at)
        at += 2
        for _ in range(count):
            flags, name, descriptor, n_attributes = struct.unpack_from(">HHHH", data, at)
            at += 8
            members[text(name), text(descriptor)] = flags
            for _ in range(n_attributes):
                at += 6 + struct.unpack_from(">I", data, at + 2)[0]
    references = set()
    for entry in pool:
        if entry is not None and entry[0] in (9, 10, 11):
            owner, pair = entry[1]
            name, descriptor = pool[pair][1]
            references.add(Reference(class_name(owner), text(name), text(descriptor), entry[0] == 11))
    parents = tuple(class_name(index) for index in (parent, *interfaces) if index)
    return ClassFile(class_name(this), bool(access & _INTERFACE), parents, members, frozenset(references))


def _constants(data: bytes) -> tuple[int, list]:
    assert data[:4] == b"\xca\xfe\xba\xbe"
    (count,) = struct.unpack_from(">H", data, 8)
    pool: list = [None]
    at = 10
    while len(pool) < count:
        tag = data[at]
        at += 1
        if tag == 1:
            (length,) = struct.unpack_from(">H", data, at)
            pool.append((tag, data[at + 2 : at + 2 + length].decode("utf-8", "replace")))
            at += 2 + length
            continue
        if tag in (9, 10, 11, 12, 18):
            pool.append((tag, struct.unpack_from(">HH", data, at)))
        elif tag in (7, 8, 16, 19, 20):
            pool.append((tag, struct.unpack_from(">H", data, at)[0]))
        else:
            pool.append((tag, None))
        at += _SIZES[tag]
        if tag in (5, 6):  # long and double take two places
            pool.append(None)
    return at, pool
