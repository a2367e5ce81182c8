"""How programs of the same user on the same computer find the server."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from conceptseg.domain.errors import ConceptSegError, OutputError
from conceptseg.domain.json_file import read_json
from conceptseg.rpc.errors import ServerUnavailableError

FILE_NAME = "server.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where a server listens.

    Attributes:
        endpoint: ``HOST:PORT``.
        token: What every call must carry.
        pid: Process id of the server.
        version: Version of the server program.
        tls_certificate: Certificate file that clients check the server with; empty without TLS.
    """

    endpoint: str
    token: str
    pid: int
    version: str
    tls_certificate: str = ""


def endpoint_path() -> Path:
    """The endpoint file in the user's configuration folder (``CONCEPTSEG_CONFIG_DIR`` overrides the folder)."""
    override = os.environ.get("CONCEPTSEG_CONFIG_DIR")
    folder = Path(override) if override else platformdirs.user_config_path("conceptseg", appauthor=False)
    return folder / FILE_NAME


def write_endpoint(endpoint: Endpoint) -> Path:
    """Write the file, readable by its owner alone; the latest server wins.

    Raises:
        OutputError: it cannot be written.
    """
    path = endpoint_path()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        # Private from the first moment on: created with its mode, not changed to it.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(endpoint), file)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. QuPath and `--server auto` find the server by this file. "
            "Make its folder writable, or let the environment variable CONCEPTSEG_CONFIG_DIR name another folder, for "
            "the programs that use the server, too."
        ) from error
    return path


def read_endpoint() -> Endpoint:
    """The server that was started last.

    Raises:
        ServerUnavailableError: no server has been started, or the file is damaged.
    """
    path = endpoint_path()
    try:
        content = read_json(path)
        return Endpoint(**{name: content[name] for name in Endpoint.__dataclass_fields__})
    except FileNotFoundError:
        raise ServerUnavailableError(
            f"No server is running here: there is no {path}. Start one with `conceptseg serve`."
        ) from None
    except (ConceptSegError, KeyError, TypeError) as error:
        raise ServerUnavailableError(f"{path} cannot be read ({error}). Restart `conceptseg serve`.") from error


def remove_endpoint(*, pid: int) -> None:
    """Remove the file, unless another server has replaced it."""
    try:
        if read_endpoint().pid == pid:
            endpoint_path().unlink(missing_ok=True)
    except ServerUnavailableError:
        pass
