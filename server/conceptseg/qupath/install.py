"""Puts the extension, its scripts and the server's command where QuPath finds them.

The jar goes to ``extensions/`` in QuPath's user folder, the scripts to ``scripts/ConceptSeg/``, which QuPath shows
under Automate ▸ User scripts, and the command that starts a server to ``qupath.json`` in ConceptSeg's configuration
folder. A record of what was written, with checksums, makes it possible to replace and remove only that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import platformdirs

from conceptseg import __version__
from conceptseg.domain.errors import ConceptSegError, InvalidRequestError, OutputError
from conceptseg.domain.files import replacing
from conceptseg.domain.json_file import read_json
from conceptseg.qupath.java_preferences import read_user_paths, set_user_path, user_home
from conceptseg.qupath.locate import find_qupath_installations

OLDEST_QUPATH = (0, 5)
RECORD_NAME = "conceptseg-install.json"
CONFIG_NAME = "qupath.json"

_PACKAGED_JARS = Path(__file__).parent / "extension"
_BUILT_JARS = Path(__file__).parents[3] / "qupath_scripts/client/target"
_SERVICE = "META-INF/services/qupath.lib.gui.extensions.QuPathExtension"
# A version, and nothing after it that a build adds: original-*.jar, *-shaded.jar, *-sources.jar, *-javadoc.jar.
_JAR_NAME = re.compile(r"conceptseg-qupath-(\d+(?:\.\d+)*(?:-SNAPSHOT|(?:a|b|rc|\.dev|\.post)\d+)*)\.jar")
# What a killed installation leaves: the temporary file beside the jar.
_TEMPORARY_NAME = re.compile(r"\.conceptseg-qupath-.*\.jar")


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """What is to be installed.

    Attributes:
        jar: The extension jar.
        scripts: File name to content.
    """

    jar: Path
    scripts: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class UserFolder:
    """A user folder of QuPath.

    Attributes:
        path: The folder; it need not exist.
        versions: The QuPath versions that use it, such as ``0.6``; empty if no preference or convention says so.
        unset: Those of them whose preferences do not name it yet, so that they would not look there.
    """

    path: Path
    versions: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class Report:
    """What was done, or is to be done, in one user folder.

    Attributes:
        folder: Which one.
        done: One line per change.
        kept: One line per file that was left alone because the user edited it.
        advice: One line per thing that the user must do.
    """

    folder: UserFolder
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def find_extension(folders: Sequence[Path] = (_PACKAGED_JARS, _BUILT_JARS)) -> Extension:
    """Find the extension jar, and the scripts inside it.

    Args:
        folders: Where to look, the first that has one wins: the package, then a source checkout's build.

    Raises:
        InvalidRequestError: there is none; the message says how to get it.
    """
    for folder in folders:
        jars = [jar for jar in sorted(folder.glob("*.jar")) if _JAR_NAME.fullmatch(jar.name) and _is_ours(jar)]
        if jars:
            newest = max(jars, key=lambda jar: (jar.stat().st_mtime_ns, jar.name))
            return Extension(jar=newest, scripts=_scripts(newest))
    raise InvalidRequestError(
        "This installation of conceptseg carries no QuPath extension. Build it in the checkout with `make jar`, which "
        "needs Java 17 and Maven, install ConceptSeg from there again (`pip install .`), and run `conceptseg qupath "
        "install` again."
    )


def find_user_folders() -> list[UserFolder]:
    """QuPath's user folders on this computer.

    Those that QuPath's preferences name; the default ``~/QuPath/v0.6`` of every version that was started or is
    installed and has none; and default folders that exist.

    Returns:
        One per folder, the oldest version first. Versions before 0.5 cannot load the extension and are left out.
    """
    chosen = read_user_paths()
    home = user_home() / "QuPath"
    versions = set(chosen) | {".".join(found.version.split(".")[:2]) for found in find_qupath_installations()}
    if home.is_dir():
        versions |= {path.name[1:] for path in home.iterdir() if path.is_dir() and path.name.startswith("v")}
    folders: dict[Path, tuple[list[str], list[str]]] = {}
    for version in sorted(filter(_supported, versions), key=_numbers):
        path = chosen.get(version)
        users, unset = folders.setdefault(path or home / f"v{version}", ([], []))
        users.append(version)
        if path is None:
            unset.append(version)
    return [UserFolder(path=path, versions=tuple(a), unset=tuple(b)) for path, (a, b) in folders.items()]


def choose_user_folders(folder: Path | None) -> list[UserFolder]:
    """The given folder, or all that are found.

    Raises:
        InvalidRequestError: none is given and none is found.
    """
    found = find_user_folders()
    if folder is not None:
        folder = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100  # keeps links, unlike resolve()
        return [next((item for item in found if item.path == folder), UserFolder(path=folder))]
    if not found:
        raise InvalidRequestError(
            "No QuPath was found on this computer. Start QuPath once, or name its user folder (QuPath: Edit ▸ "
            "Preferences ▸ QuPath user directory) with --qupath-user-dir."
        )
    return found


def install(folder: UserFolder, extension: Extension) -> Report:
    """Install, update or repair the extension in one user folder; what is as it should be is not touched.

    A script that the user edited stays; its new version is written beside it as ``NAME.new.groovy``.

    Raises:
        OutputError: a file cannot be written or removed.
    """
    report = Report(folder=folder)
    extensions, scripts = folder.path / "extensions", _scripts_folder(folder.path)
    _make_folders(extensions, scripts, remedy="Choose another --qupath-user-dir.")

    _install_jar(extension.jar, extensions, report=report)

    record = _read_record(folder.path)
    for name, script in extension.scripts.items():
        record[name] = _install_script(scripts / name, script, installed=record.get(name), report=report)
    for name in sorted(set(record) - set(extension.scripts)):
        _remove_script(scripts / name, installed=record.pop(name), report=report)
    _write_record(folder.path, record)

    for version in folder.unset:
        if set_user_path(version, folder.path):
            report.done.append(f"Set QuPath {version}'s user folder to {folder.path}")
        else:
            report.advice.append(
                f"In QuPath {version}, set Edit ▸ Preferences ▸ QuPath user directory to {folder.path}, and restart it."
            )
    if not folder.versions:
        report.advice.append(
            f"QuPath loads the extension if its user folder is {folder.path}: check Edit ▸ Preferences ▸ QuPath user "
            "directory."
        )
    return report


def uninstall(folder: UserFolder) -> Report:
    """Remove what ``install`` wrote to one user folder, and nothing else. Edited scripts stay.

    Raises:
        OutputError: a file cannot be removed.
    """
    report = Report(folder=folder)
    for jar in _our_jars(folder.path):
        _remove(jar)
        report.done.append(f"Removed {jar}")
    scripts = _scripts_folder(folder.path)
    for name, installed in sorted(_read_record(folder.path).items()):
        _remove_script(scripts / name, installed=installed, report=report)
    record = folder.path / RECORD_NAME
    if record.is_file():
        _remove(record)
    if scripts.is_dir() and not any(scripts.iterdir()):
        scripts.rmdir()
    return report


def status(folder: UserFolder, extension: Extension | None) -> Report:
    """What is installed in one user folder (``done``), and what is not as it should be (``advice``).

    Args:
        folder: Which one.
        extension: What would be installed; None to say only what is there.
    """
    report = Report(folder=folder)
    jars = _our_jars(folder.path)
    report.done.extend(f"Extension {_jar_version(jar)}: {jar}" for jar in jars)
    again = "Run `conceptseg qupath install`."
    if not jars:
        report.advice.append(f"The extension is not installed. {again}")
        return report
    if len(jars) > 1:
        report.advice.append(f"Several versions of the extension are installed. {again}")
    if extension is not None and _sha256(extension.jar.read_bytes()) not in {_checksum(jar) for jar in jars}:
        report.advice.append(f"Extension {_jar_version(extension.jar)} is ready to be installed. {again}")
    scripts, record = _scripts_folder(folder.path), _read_record(folder.path)
    states = {name: _checksum(scripts / name) for name in record}
    report.done.append(f"{sum(state is not None for state in states.values())} scripts: {scripts}")
    for name, state in sorted(states.items()):
        if state is None:
            report.advice.append(f"{scripts / name} is missing. {again}")
        elif state != record[name]:
            report.kept.append(f"{scripts / name} was edited by you")
    report.advice.extend(
        f"QuPath {version} does not use this folder yet: no user directory is set in its preferences. {again}"
        for version in folder.unset
    )
    return report


def write_server_command() -> Path:
    """Tell the extension how to start the server: with this very Python.

    Raises:
        OutputError: the file cannot be written.
    """
    path = server_command_path()
    _make_folders(path.parent, remedy="Let the environment variable CONCEPTSEG_CONFIG_DIR name another folder.")
    _write(path, json.dumps({"command": server_command()}, indent=2).encode() + b"\n")
    return path


def remove_server_command() -> Path | None:
    """Remove what ``write_server_command`` wrote; None if there was nothing."""
    path = server_command_path()
    if not path.is_file():
        return None
    _remove(path)
    return path


def server_command() -> list[str]:
    """The command that starts the server."""
    return [sys.executable, "-m", "conceptseg", "serve"]


def server_command_path() -> Path:
    """``qupath.json`` in the user's configuration folder (``CONCEPTSEG_CONFIG_DIR`` overrides the folder)."""
    override = os.environ.get("CONCEPTSEG_CONFIG_DIR")
    return (Path(override) if override else platformdirs.user_config_path("conceptseg", appauthor=False)) / CONFIG_NAME


def server_command_problem() -> str | None:
    """Why the extension could not start a server, and what to do; None if it could."""
    path = server_command_path()
    again = "Run `conceptseg qupath install`."
    try:
        command = read_json(path)["command"]
        program = Path(command[0])
    except FileNotFoundError:
        return f"QuPath cannot start the server: there is no {path}. {again}"
    except (ConceptSegError, KeyError, TypeError, IndexError):
        return f"{path} is damaged. {again}"
    if not program.is_file():
        return f"The Python that {path} names is gone: {program}. {again}"
    return None


def _install_jar(source: Path, extensions: Path, *, report: Report) -> None:
    """Put the jar in the place of older ones; if one of them cannot be replaced, nothing is changed."""
    jar, content = extensions / source.name, source.read_bytes()
    older = [path for path in _our_jars(extensions.parent) if path != jar]
    if _checksum(jar) != _sha256(content):
        # The older ones go once the new one lies ready: QuPath must not find two, and a full disk leaves the old one.
        with _replacing(jar) as temporary:
            temporary.write_bytes(content)
            _remove_all(older)
        report.done.append(f"Wrote {jar}")
    else:
        _remove_all(older)
    report.done.extend(f"Removed {path}, an older version" for path in older)


def _install_script(path: Path, content: bytes, *, installed: str | None, report: Report) -> str:
    """Write one script unless the user edited it; return the checksum of what is on record as ours."""
    wanted, present = _sha256(content), _checksum(path)
    beside = path.with_name(f"{path.stem}.new{path.suffix}")
    if present in (None, installed, wanted):
        if present != wanted:
            _write(path, content)
            report.done.append(f"{'Wrote' if present is None else 'Updated'} {path}")
        if installed is not None and _checksum(beside) in (installed, wanted):
            _remove(beside)
        return wanted
    if installed == wanted:
        report.kept.append(f"{path}: edited by you, kept")
        return wanted
    if _checksum(beside) != wanted:
        _write(beside, content)
        report.done.append(f"Wrote {beside}")
    report.kept.append(f"{path}: edited by you, kept. The new version is {beside.name}")
    return installed or ""


def _remove_script(path: Path, *, installed: str, report: Report) -> None:
    beside = path.with_name(f"{path.stem}.new{path.suffix}")
    if beside.is_file():
        _remove(beside)
    present = _checksum(path)
    if present is None:
        return
    if present == installed:
        _remove(path)
        report.done.append(f"Removed {path}")
    else:
        report.kept.append(f"{path}: edited by you, kept")


def _scripts(jar: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(jar) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
        return {
            n.name: archive.read(str(n)) for n in sorted(names) if n.suffix == ".groovy" and n.parent.name == "scripts"
        }


def _is_ours(jar: Path) -> bool:
    try:
        with zipfile.ZipFile(jar) as archive:
            return b"io.github.conceptseg." in archive.read(_SERVICE)
    except (OSError, KeyError, zipfile.BadZipFile):
        return False


def _our_jars(folder: Path) -> list[Path]:
    """Our jars where QuPath looks: its extensions folder and one level below, damaged ones included."""
    extensions = folder / "extensions"
    jars = sorted([*extensions.glob("*.jar"), *extensions.glob("*/*.jar")])
    return [jar for jar in jars if _is_ours(jar) or (_is_named_ours(jar) and not zipfile.is_zipfile(jar))]


def _is_named_ours(jar: Path) -> bool:
    return bool(_JAR_NAME.fullmatch(jar.name) or _TEMPORARY_NAME.fullmatch(jar.name))


def _jar_version(jar: Path) -> str:
    match = _JAR_NAME.fullmatch(jar.name)
    return match[1] if match else "of unknown version"


def _scripts_folder(folder: Path) -> Path:
    return folder / "scripts" / "ConceptSeg"


def _read_record(folder: Path) -> dict[str, str]:
    """Script name to the checksum of what was installed; empty if nothing was or the record is damaged."""
    try:
        scripts = read_json(folder / RECORD_NAME)["scripts"]
        # Names only: a record that was tampered with must not reach other folders.
        return {str(name): str(value) for name, value in scripts.items() if Path(name).name == name}
    except (FileNotFoundError, ConceptSegError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_record(folder: Path, scripts: Mapping[str, str]) -> None:
    record = {"version": 1, "conceptseg": __version__, "scripts": dict(sorted(scripts.items()))}
    content = json.dumps(record, indent=2).encode() + b"\n"
    if _checksum(folder / RECORD_NAME) != _sha256(content):
        _write(folder / RECORD_NAME, content)


def _write(path: Path, content: bytes) -> None:
    with _replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    try:
        with replacing(path) as temporary:
            yield temporary
    except OutputError as error:
        cause = error.__cause__
        if isinstance(cause, PermissionError) and cause.filename2 is not None:  # it could be written, but not renamed
            raise _in_use(path) from error
        raise


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except PermissionError as error:
        raise _in_use(path) from error
    except OSError as error:
        raise OutputError(f"Cannot remove {path}: {error.strerror or error}.") from error


def _remove_all(paths: Sequence[Path]) -> None:
    for path in paths:
        _remove(path)


def _in_use(path: Path) -> OutputError:
    """Windows locks the jar of a running QuPath."""
    return OutputError(
        f"Cannot replace or remove {path}: a program uses it, or you may not write there. Close QuPath, check that the "
        "folder is yours, and run the command again."
    )


def _make_folders(*folders: Path, remedy: str) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot create {folder}: {error.strerror or error}. {remedy}") from error


def _checksum(path: Path) -> str | None:
    try:
        return _sha256(path.read_bytes())
    except OSError:
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _supported(version: str) -> bool:
    return re.fullmatch(r"\d+\.\d+", version) is not None and _numbers(version) >= OLDEST_QUPATH


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
