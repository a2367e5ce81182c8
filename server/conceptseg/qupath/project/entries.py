"""The images of a QuPath project, read from ``project.qpproj``, which is JSON."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from conceptseg.domain.errors import InvalidRequestError, ProjectError
from conceptseg.domain.json_file import read_json

PROJECT_FILE = "project.qpproj"

# QuPath's entryID is a number of Java (long). It is the name of a folder, so nothing else may pass for one.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_CALIBRATION = "serverBuilder.metadata.pixelCalibration"
# What an image consists of, as far as it is read here. Each part may be missing.
_PARTS: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("serverBuilder", dict, "an object"),
    ("serverBuilder.args", list, "a list"),
    ("serverBuilder.metadata", dict, "an object"),
    (_CALIBRATION, dict, "an object"),
    (f"{_CALIBRATION}.pixelWidth", dict, "an object"),
    (f"{_CALIBRATION}.pixelWidth.value", (int, float), "a number"),
    (f"{_CALIBRATION}.pixelHeight", dict, "an object"),
    (f"{_CALIBRATION}.pixelHeight.value", (int, float), "a number"),
)
_WINDOWS_DRIVE = re.compile(r"/[A-Za-z]:/")
# Control characters, lone surrogates (no file can hold them) and the two Unicode line breaks.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})

_OTHER_PIXELS = {
    ("--name", "-n"): "it is the image called {} inside its file, and only numbers of images can be read",
    ("--dims",): "QuPath shows its planes in the order {}, not in that of its file",
}
"""Arguments of Bio-Formats that choose other pixels than the file's own, and why they cannot be read here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEntry:
    """One image of a project.

    Attributes:
        identifier: QuPath's number of the entry, also the name of its folder in ``data``.
        name: What QuPath calls the image.
        slide: The image file; None if there is none.
        problem: Why the file's pixels are not those that QuPath shows; None if they are.
        width: Full-resolution px per row as QuPath knows it; None in projects of old versions.
        height: Full-resolution px per column; None likewise.
        pixel_size_um: µm per full-resolution px, mean of x and y, as set in QuPath; None when uncalibrated.
        series: Number of the image inside its file; None for the one that QuPath proposes.
    """

    identifier: str
    name: str
    slide: Path | None = None
    problem: str | None = None
    width: int | None = None
    height: int | None = None
    pixel_size_um: float | None = None
    series: int | None = None


def find_project(path: Path) -> Path:
    """The project file that ``path`` names: the file itself, or the folder that holds it.

    A link to a project file is followed, since the project's data are beside the file itself.

    Raises:
        ProjectError: there is none, or a folder holds several.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        found = projects_in(path)
        if len(found) > 1:
            names = ", ".join(project.name for project in found)
            raise ProjectError(f"{path} holds several QuPath projects: {names}. Name one of these files.")
        file = found[0] if found else path / PROJECT_FILE
    if file.is_symlink():
        file = file.resolve()
    if file.suffix != ".qpproj" or not file.is_file():
        raise ProjectError(f"There is no QuPath project {file}. Expected project.qpproj, or its folder.")
    return file.absolute()


def projects_in(folder: Path) -> list[Path]:
    """The project file of a folder: ``project.qpproj``, or else all that have another name."""
    if (folder / PROJECT_FILE).is_file():
        return [folder / PROJECT_FILE]
    return sorted(file for file in folder.glob("*.qpproj") if file.is_file() and not file.name.startswith("."))


def read_document(project: Path) -> dict[str, Any]:
    """The content of a project file.

    Raises:
        ProjectError: it cannot be read, is not a project of QuPath 0.2 or later, or is damaged.
    """
    backup = project.with_name(f"{project.name}.backup")
    remedy = "Put a copy of the file in its place."
    if backup.is_file():
        remedy = f"QuPath keeps its previous state beside it as {backup.name}: rename that file."
    try:
        document: dict[str, Any] = read_json(project, error=ProjectError, remedy=remedy)
    except FileNotFoundError as error:
        raise ProjectError(f"There is no QuPath project {project} any more.") from error
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) and "entryID" in image for image in images):
        raise ProjectError(f"{project} lists no images. Expected a project of QuPath 0.2 or later.")
    for image in images:
        number = image["entryID"]
        if isinstance(number, bool) or not isinstance(number, int | str) or not _NUMBER.fullmatch(str(number)):
            raise ProjectError(
                f"{project} is damaged: expected a whole number as entryID of every image, got {str(number)[:40]!r}. "
                f"{remedy}"
            )
        for part, kind, words in _PARTS:
            value: Any = image
            for name in part.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            if value is not None and not isinstance(value, kind):
                raise ProjectError(
                    f"{project} is damaged: expected {words} as {part} of image {number}, got {str(value)[:40]!r}. "
                    f"{remedy}"
                )
    return document


def entries_of(document: Mapping[str, Any]) -> tuple[ImageEntry, ...]:
    """The images of a project file's content, in its order."""
    return tuple(_entry(image) for image in document["images"])


def read_entries(project: Path, *, rebase: tuple[str, Path] | None = None) -> tuple[ImageEntry, ...]:
    """The images of a project file, with their slides where they are now.

    Args:
        project: The project file.
        rebase: Folder where the project says that slides are, and where they are now.

    Raises:
        ProjectError: it cannot be read, or has no images.
    """
    document = read_document(project)
    if not document["images"]:
        raise ProjectError(f"{project} has no images. Add some in QuPath with the button Add images, and save.")
    if rebase:
        document, _ = rebased(document, old=rebase[0], new=rebase[1])
    return entries_of(relocated(document, project))


def choose(
    entries: Sequence[ImageEntry], *, patterns: Sequence[str] = (), identifiers: Sequence[str] = ()
) -> tuple[ImageEntry, ...]:
    """The entries whose name matches a pattern (``*.svs``, as in a shell) or whose number is given; all without both.

    Raises:
        InvalidRequestError: a pattern or number that fits no image.
    """
    if not patterns and not identifiers:
        return tuple(entries)
    for pattern in patterns:
        if not any(fnmatchcase(entry.name, pattern) for entry in entries):
            raise InvalidRequestError(f"No image of the project is called {pattern!r}. There are: {_listed(entries)}.")
    unknown = sorted(set(identifiers) - {entry.identifier for entry in entries})
    if unknown:
        raise InvalidRequestError(f"No image has the number {', '.join(unknown)}. There are: {_listed(entries)}.")
    return tuple(
        entry
        for entry in entries
        if entry.identifier in identifiers or any(fnmatchcase(entry.name, pattern) for pattern in patterns)
    )


def only_entry(document: Mapping[str, Any], identifier: str) -> dict[str, Any]:
    """The same project with this image alone.

    Raises:
        ProjectError: the image is not in the project, or another one has its number.
    """
    images = [image for image in document["images"] if str(image["entryID"]) == identifier]
    if not images:
        raise ProjectError(f"Image {identifier} is no longer in the project: somebody removed it meanwhile.")
    if len(images) > 1:
        names = " and ".join(_name(image) for image in images)
        raise ProjectError(
            f"{names} have the same number {identifier} in the project, so each would get the other's objects. In "
            "QuPath, remove all but one, and add their slides again."
        )
    return {**document, "images": images}


def rebased(document: Mapping[str, Any], *, old: str, new: Path) -> tuple[dict[str, Any], int]:
    """The same project with slides below folder ``old`` looked for below ``new``.

    Slides that are below ``new`` already stay, so that an interrupted run may be repeated as it was given.

    Args:
        document: Content of the project file.
        old: Folder where the project says the slides are; a Windows path is understood on any system.
        new: Folder where they are now.

    Returns:
        The changed content, and how many images changed.
    """
    old_path, new_path = PurePosixPath(_uri_path(old)), PurePosixPath(_uri_path(str(new.absolute())))
    moved = 0

    def move(uri: str) -> str:
        path = _path_of(uri)
        if path is None or not path.is_relative_to(old_path):
            return uri
        if new_path.is_relative_to(old_path) and path.is_relative_to(new_path):
            return uri
        return _file_uri(new_path / path.relative_to(old_path))

    images = []
    for image in document["images"]:
        builder = _with_uris(image.get("serverBuilder"), move)
        moved += builder != image.get("serverBuilder")
        images.append({**image, "serverBuilder": builder})
    return {**document, "images": images}, moved


def require_rebase(document: Mapping[str, Any], *, old: str, new: Path) -> None:
    """Refuse folders that have nothing to do with a project: a misspelt one would go unnoticed.

    Raises:
        InvalidRequestError: no slide of the project is below ``old``, or below ``new`` already.
    """
    folders = [PurePosixPath(_uri_path(folder)) for folder in (old, str(new.absolute()))]
    paths = [path for image in document["images"] for path in map(_path_of, _uris(image.get("serverBuilder"))) if path]
    if not any(path.is_relative_to(folder) for path in paths for folder in folders):
        there = sorted({_printable(str(_native(path.parent))) for path in paths})
        raise InvalidRequestError(
            f"--rebase fits nothing: no slide of the project is below {old}. Its slides are in "
            f"{', '.join(there[:5]) or 'no folder'}{' and others' if len(there) > 5 else ''}. Nothing was changed."
        )


def relocated(document: Mapping[str, Any], project: Path) -> dict[str, Any]:
    """The same project with slides that were copied together with it, as QuPath proposes when it opens a copy.

    A project says where it was when it was saved (``uri``). A slide that is not where the project says, but at the
    same place relative to the project file, is taken from there.

    Args:
        document: Content of the project file.
        project: The project file, where it is now.
    """
    file = _path_of(document.get("uri"))
    if file is None:
        return dict(document)
    old = file.parent if file.suffix == ".qpproj" else file
    new = project.parent.resolve()
    if _native(old) == new:
        return dict(document)

    def move(uri: str) -> str:
        path = _path_of(uri)
        if path is None or _drive(path) != _drive(old) or _is_there(_native(path)):
            return uri
        found = Path(os.path.normpath(new / posixpath.relpath(path, old)))
        return _file_uri(PurePosixPath(_uri_path(str(found)))) if _is_there(found) else uri

    images = [{**image, "serverBuilder": _with_uris(image.get("serverBuilder"), move)} for image in document["images"]]
    return {**document, "images": images}


def _entry(image: Mapping[str, Any]) -> ImageEntry:
    builder = image.get("serverBuilder") or {}
    metadata = builder.get("metadata") or {}
    uris = list(_uris(builder))
    path = _path_of(uris[0]) if len(uris) == 1 else None
    return ImageEntry(
        identifier=str(image["entryID"]),
        name=_name(image),
        slide=_native(path) if path else None,
        problem=_problem(builder, uris, path),
        width=metadata.get("width"),
        height=metadata.get("height"),
        pixel_size_um=_pixel_size_um(metadata.get("pixelCalibration") or {}),
        series=_series(_arguments(builder)),
    )


def _name(image: Mapping[str, Any]) -> str:
    name = image.get("imageName")
    return _printable(name) if isinstance(name, str) and name else f"image {image['entryID']}"


def _printable(text: str) -> str:
    """A text that terminals, tables and file names can hold."""
    return "".join("\ufffd" if unicodedata.category(character) in _UNPRINTABLE else character for character in text)


def _problem(builder: Mapping[str, Any], uris: Sequence[str], path: PurePosixPath | None) -> str | None:
    if len(uris) == 1 and path is None:
        return f"its pixels are at {_printable(uris[0])}, not in a file"
    if builder.get("builderType", "uri") != "uri" or len(uris) != 1:
        return "QuPath shows it rotated, cropped or otherwise transformed, not as its file has it"
    for option, what in _OTHER_PIXELS.items():
        if (value := _value(_arguments(builder), *option)) is not None:
            return what.format(_printable(value))
    return None


def _arguments(builder: Mapping[str, Any]) -> tuple[str, ...]:
    arguments = builder.get("args")
    return tuple(map(str, arguments)) if isinstance(arguments, list) else ()


def _series(arguments: Sequence[str]) -> int | None:
    value = _value(arguments, "--series", "-s") or ""
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else None


def _value(arguments: Sequence[str], *names: str) -> str | None:
    """What follows an option, behind a space or an equals sign; None without it."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            found = value if equals else "".join(arguments[place + 1 : place + 2])
            return found.strip() or None
    return None


def _pixel_size_um(calibration: Mapping[str, Any]) -> float | None:
    sides = [calibration.get(name) or {} for name in ("pixelWidth", "pixelHeight")]
    if all(side.get("unit") == "µm" and float(side.get("value") or 0) > 0 for side in sides):
        return sum(float(side["value"]) for side in sides) / 2
    return None


def _uris(builder: object) -> Iterator[str]:
    if isinstance(builder, dict):
        for key, value in builder.items():
            if key == "uri" and isinstance(value, str):
                yield value
            elif key != "metadata":
                yield from _uris(value)
    elif isinstance(builder, list):
        for value in builder:
            yield from _uris(value)


def _with_uris(builder: Any, change: Callable[[str], str]) -> Any:
    if isinstance(builder, dict):
        return {
            key: change(value) if key == "uri" and isinstance(value, str) else _with_uris(value, change)
            for key, value in builder.items()
        }
    return [_with_uris(value, change) for value in builder] if isinstance(builder, list) else builder


def _path_of(uri: object) -> PurePosixPath | None:
    """The absolute path that a URI names; None if it names no file."""
    if not isinstance(uri, str):
        return None
    try:
        parts = urlsplit(uri)
        path = (f"//{parts.netloc}" if parts.netloc else "") + unquote(parts.path)
        path.encode()
    except ValueError:  # a damaged host name, or a lone surrogate
        return None
    return PurePosixPath(path) if parts.scheme == "file" and path.startswith("/") and "\0" not in path else None


def _file_uri(path: PurePosixPath) -> str:
    return "file:" + quote(path.as_posix())


def _drive(path: PurePosixPath) -> tuple[str, str]:
    """What has to be the same for a path to be relative to another."""
    return path.root, path.parts[1] if _WINDOWS_DRIVE.match(str(path)) else ""


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name, or a folder that may not be read
        return False


def _uri_path(folder: str) -> str:
    """A folder as it stands in a URI: forward slashes, and one before a drive letter."""
    folder = folder.replace("\\", "/")
    return f"/{folder}" if _WINDOWS_DRIVE.match(f"/{folder}") else folder


def _native(path: PurePosixPath) -> Path:
    text = str(path)
    return Path(text[1:] if _WINDOWS_DRIVE.match(text) else text)


def _listed(entries: Iterable[ImageEntry]) -> str:
    names = [f"{entry.name} ({entry.identifier})" for entry in entries]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
