"""Errors of the wire, and the one table between errors and status codes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import grpc

from conceptseg.domain import errors as domain
from conceptseg.domain.errors import ConceptSegError, DictionaryError, InvalidRequestError

ERROR_KEY = "conceptseg-error"
"""Trailing metadata: name of the error's class."""

REQUEST_ID_KEY = "conceptseg-request-id"
"""Trailing metadata: what the server's log calls the call."""

_LONGEST_MESSAGE = 1500
"""Status messages travel as HTTP headers, of which clients take 8 KiB; a letter may need 9 bytes."""


class ServerError(ConceptSegError):
    """The server failed in a way that is its own fault."""


class ServerUnavailableError(ServerError, domain.WorkerLostError):
    """No server answers, or it went away."""


class ShuttingDownError(ServerUnavailableError):
    """The server is ending."""


class BusyError(ServerError):
    """Too many calls are waiting already."""


class AuthenticationError(ServerError):
    """The token is missing or wrong."""


class PathNotAllowedError(InvalidRequestError):
    """The file is not under an allowed root, or is no regular file."""


class LimitError(InvalidRequestError):
    """The call asks for more than the server allows."""


class CallTimeError(ConceptSegError):
    """The call took too long, or its client fell silent."""


class DictionaryExistsError(DictionaryError):
    """A dictionary of that name is there already."""


# The most specific class decides.
STATUS: dict[type[ConceptSegError], grpc.StatusCode] = {
    domain.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    domain.RegionError: grpc.StatusCode.INVALID_ARGUMENT,
    domain.ImageError: grpc.StatusCode.INVALID_ARGUMENT,
    domain.MissingPixelSizeError: grpc.StatusCode.FAILED_PRECONDITION,
    domain.EncoderError: grpc.StatusCode.INVALID_ARGUMENT,
    domain.WeightsUnavailableError: grpc.StatusCode.FAILED_PRECONDITION,
    domain.DictionaryError: grpc.StatusCode.INVALID_ARGUMENT,
    domain.DeviceMemoryError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    domain.OutputError: grpc.StatusCode.FAILED_PRECONDITION,
    domain.ProjectError: grpc.StatusCode.FAILED_PRECONDITION,
    domain.CancelledByCallerError: grpc.StatusCode.CANCELLED,
    DictionaryExistsError: grpc.StatusCode.ALREADY_EXISTS,
    PathNotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    BusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    CallTimeError: grpc.StatusCode.DEADLINE_EXCEEDED,
    AuthenticationError: grpc.StatusCode.UNAUTHENTICATED,
    ShuttingDownError: grpc.StatusCode.UNAVAILABLE,
}


def status_of(error: ConceptSegError) -> tuple[grpc.StatusCode, str]:
    """Status code and message of an error."""
    code = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)
    message = str(error)
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]} …"
    return code, message


def _classes() -> dict[str, type[ConceptSegError]]:
    own = (kind for kind in globals().values() if inspect.isclass(kind))
    return {
        kind.__name__: kind
        for kind in (*vars(domain).values(), *own)
        if inspect.isclass(kind) and issubclass(kind, ConceptSegError)
    }


_BY_NAME = _classes()
_BY_CODE: dict[grpc.StatusCode, type[ConceptSegError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.CANCELLED: domain.CancelledByCallerError,
    grpc.StatusCode.DEADLINE_EXCEEDED: CallTimeError,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailableError,
}


def error_of(code: grpc.StatusCode, message: str, trailing: Iterable[Any], *, endpoint: str) -> ConceptSegError:
    """The error that a status stands for: the inverse of `status_of`, for clients."""
    kind = _BY_NAME.get(str(dict(trailing).get(ERROR_KEY)))
    if kind is AuthenticationError:
        # The server's own sentence is for programs that send the token themselves.
        return AuthenticationError(
            f"The server at {endpoint} does not accept the token: it makes a new one with every start. On the server's "
            "own computer leave out --token and CONCEPTSEG_TOKEN. On another one, give --token or CONCEPTSEG_TOKEN the "
            "token from server.json in the configuration folder there."
        )
    if kind is not None:
        return kind(message)
    if code is grpc.StatusCode.UNAVAILABLE:
        return ServerUnavailableError(
            f"The server at {endpoint} cannot be reached, or went away ({message}). Nothing was written. Start it "
            "again with `conceptseg serve`; its log says why if it ended."
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ServerError(f"The server at {endpoint} is older than this client ({message}). Update the server.")
    return _BY_CODE.get(code, ServerError)(f"The server at {endpoint} answered {code.name}: {message}")
