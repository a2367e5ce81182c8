"""QuPath's preference ``userPath``: the folder where a user's QuPath keeps extensions and scripts.

QuPath stores it with Java's preferences, under ``io.github.qupath/0.6`` and the like, which are files on Linux,
the registry on Windows and a property list on macOS. Nothing here starts Java.
"""

from __future__ import annotations

import os
import plistlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from conceptseg.domain.errors import OutputError
from conceptseg.domain.files import replacing

_NODE = "io.github.qupath"
_KEY = "userPath"
_VERSION = re.compile(r"\d+\.\d+")
_REGISTRY = r"Software\JavaSoft\Prefs" + "\\" + _NODE
# Java's own base 64, for node names that would be no good file names.
_ALPHABET = "!\"#$%&'(),-.:;<>@[]^`_{|}~abcdefghijklmnopqrstuvwxyz0123456789+?"
_HEADER = (
    '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
    '<!DOCTYPE map SYSTEM "http://java.sun.com/dtd/preferences.dtd">\n'
)


def user_home() -> Path:
    """The home folder as Java sees it, which on Linux and macOS is not ``$HOME``."""
    chosen = _java_option("user.home")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path.home()
    import pwd

    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def read_user_paths() -> dict[str, Path | None]:
    """QuPath's user folders.

    Returns:
        For every QuPath version (``0.6``) that this user has started, its user folder; None where none is set.
        What cannot be read counts as absent.
    """
    if sys.platform == "win32":
        found = dict(_windows_values())
    elif sys.platform == "darwin":
        found = dict(_macos_values())
    else:
        found = dict(_linux_values())
    return {version: Path(value) if value and value.strip() else None for version, value in sorted(found.items())}


def set_user_path(version: str, folder: Path) -> bool:
    """Set the user folder of a QuPath version that has none.

    A QuPath that is running now sees it when it is started again.

    Returns:
        Whether it is set. On macOS it is not, because the system keeps preferences in memory: the user does it.

    Raises:
        OutputError: the preferences cannot be written.
    """
    if sys.platform == "win32":
        import winreg

        try:
            with winreg.CreateKey(winreg.HKEY_CURRENT_USER, rf"{_REGISTRY}\{version}") as key:
                winreg.SetValueEx(key, encode_registry(_KEY), 0, winreg.REG_SZ, encode_registry(str(folder)))
        except OSError as error:
            raise OutputError(f"Cannot write QuPath's preferences to the registry: {error}.") from error
        return True
    if sys.platform == "darwin":
        return False
    _write_linux(_preferences_root() / node_name(_NODE) / node_name(version), folder)
    return True


def node_name(name: str) -> str:
    """The folder that Java on Linux gives a preference node.

    >>> node_name("0.6"), node_name("plain")
    ('_!$!!.g!2', 'plain')
    """
    if all(" " <= character <= "~" and character not in "/._" for character in name):
        return name
    data = name.encode("utf-16-be")
    text = ""
    for start in range(0, len(data), 3):
        group = data[start : start + 3]
        bits = int.from_bytes(group.ljust(3, b"\0"), "big")
        digits = "".join(_ALPHABET[bits >> shift & 63] for shift in (18, 12, 6, 0))
        text += digits[: len(group) + 1].ljust(4, "=")
    return "_" + text


def encode_registry(text: str) -> str:
    r"""What Java on Windows writes to the registry for a key or value.

    >>> encode_registry("C:\\Users\\Zoë/x")
    '/C:///Users///Zo/u00eb\\x'
    """
    marks = {"\\": "//", "/": "\\"}
    return "".join(
        f"/u{ord(character):04x}"
        if not " " <= character <= "\x7f"
        else f"/{character}"
        if "A" <= character <= "Z"
        else marks.get(character, character)
        for character in text
    )


def decode_registry(text: str) -> str:
    r"""The reverse of ``encode_registry``.

    >>> decode_registry('/C:///Users///Zo/u00eb')
    'C:\\Users\\Zoë'
    """
    pattern = re.compile(r"/u([0-9a-fA-F]{4})|/([A-Z])|(//)|(\\)")

    def plain(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return match[2] or ("\\" if match[3] else "/")

    return pattern.sub(plain, text)


def _linux_values() -> Iterator[tuple[str, str | None]]:
    try:
        nodes = list((_preferences_root() / node_name(_NODE)).iterdir())
    except OSError:
        return
    for node in nodes:
        version = _version_of_node(node.name)
        if version is not None:
            yield version, _entries(node / "prefs.xml").get(_KEY)


def _version_of_node(folder: str) -> str | None:
    # The few names that a version can have are encoded, instead of decoding what may be anything.
    return next((v for v in (f"0.{minor}" for minor in range(4, 100)) if node_name(v) == folder), None)


def _entries(file: Path) -> dict[str, str]:
    try:
        root = ElementTree.fromstring(file.read_bytes())  # noqa: S314  # the user's own file; expat bounds expansion
    except (OSError, ElementTree.ParseError):
        return {}
    return {entry.get("key", ""): entry.get("value", "") for entry in root.iter("entry")}


def _write_linux(node: Path, folder: Path) -> None:
    assert sys.platform != "win32"
    import fcntl

    root = _preferences_root()
    try:
        node.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Java's own protocol: this lock, and a newer time stamp that tells a running QuPath to read again.
        with (root / f".user.lock.{_user_name()}").open("a") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            entries = _entries(node / "prefs.xml") | {_KEY: str(folder)}
            lines = "".join(f"  <entry key={_attribute(k)} value={_attribute(v)}/>\n" for k, v in entries.items())
            with replacing(node / "prefs.xml") as temporary:
                content = f'{_HEADER}<map MAP_XML_VERSION="1.0">\n{lines}</map>\n'
                temporary.write_text(content, encoding="utf-8")
            stamp = root / f".userRootModFile.{_user_name()}"
            stamp.touch()
            os.utime(stamp, (stamp.stat().st_atime, stamp.stat().st_mtime + 1))
    except OSError as error:
        raise OutputError(f"Cannot write QuPath's preferences in {node}: {error.strerror or error}.") from error


def _attribute(text: str) -> str:
    return quoteattr(text, {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})


def _user_name() -> str:
    assert sys.platform != "win32"
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _preferences_root() -> Path:
    return Path(_java_option("java.util.prefs.userRoot") or user_home()) / ".java" / ".userPrefs"


def _java_option(name: str) -> str | None:
    """A system property that every Java program of this user gets from ``JAVA_TOOL_OPTIONS``."""
    found = re.search(rf"""-D{re.escape(name)}=("[^"]*"|'[^']*'|\S+)""", os.environ.get("JAVA_TOOL_OPTIONS", ""))
    return found[1].strip("\"'") if found else None


def _windows_values() -> Iterator[tuple[str, str | None]]:
    if sys.platform != "win32":
        return
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _REGISTRY) as parent:
            for name in [winreg.EnumKey(parent, index) for index in range(winreg.QueryInfoKey(parent)[0])]:
                if _VERSION.fullmatch(name):
                    yield name, _registry_value(parent, name)
    except OSError:
        return


def _registry_value(parent: Any, name: str) -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    try:
        with winreg.OpenKey(parent, name) as key:
            return decode_registry(str(winreg.QueryValueEx(key, encode_registry(_KEY))[0]))
    except OSError:
        return None


def _macos_values() -> Iterator[tuple[str, str | None]]:
    yield from macos_values(user_home() / "Library/Preferences/com.apple.java.util.prefs.plist")


def macos_values(file: Path) -> Iterator[tuple[str, str | None]]:
    """QuPath versions and their user folders in Java's property list, whose nodes end in ``/``."""
    try:
        nodes = plistlib.loads(file.read_bytes())["/"][f"{_NODE}/"]
        versions = {name.rstrip("/"): node for name, node in nodes.items() if isinstance(node, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, plistlib.InvalidFileException):
        return
    for version, node in versions.items():
        if _VERSION.fullmatch(version):
            value = node.get(_KEY)
            yield version, value if isinstance(value, str) else None
