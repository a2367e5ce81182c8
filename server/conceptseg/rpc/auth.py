"""The token that every call must carry."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from conceptseg.rpc.errors import AuthenticationError

_KEY = "authorization"
_TOKEN_BYTES = 32


def new_token() -> str:
    """A random token, letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def credentials(token: str) -> tuple[str, str]:
    """The metadata entry that carries ``token``."""
    return _KEY, f"Bearer {token}"


class TokenInterceptor(grpc.ServerInterceptor):
    """Refuses calls without the token, health checks and reflection included.

    Whoever can reach the port can otherwise learn what runs here; the usual tools can all send a header.
    """

    def __init__(self, token: str) -> None:
        self._expected = credentials(token)[1].encode()

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Let the call through, or answer it with UNAUTHENTICATED."""
        sent = dict(handler_call_details.invocation_metadata).get(_KEY, "")
        if hmac.compare_digest(sent.encode() if isinstance(sent, str) else sent, self._expected):
            return continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_refuse)


def _refuse(_requests: object, _context: grpc.ServicerContext) -> Iterator[bytes]:
    raise AuthenticationError(
        "The token is missing or wrong. Send the metadata 'authorization: Bearer TOKEN' with the token that the "
        "server wrote when it started; it changes with every start."
    )
    yield b""  # makes this a generator, which a streaming handler must be
