"""A page on this machine alone, whose changes go straight to where they belong.

It listens on loopback. A new token at every start is part of the page's address and of every request that changes
something: no other page, and no other user of this machine, can read or write without it. The name that the browser
asked for must be this server's own, so that no foreign name that leads to this machine gets anything.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from conceptseg.domain.errors import ConceptSegError
from conceptseg.domain.json_file import parse_json

MAX_BODY_BYTES = 4 << 20
"""256 concepts with names of 200 characters are a hundredth of it."""

_IDLE_SECONDS = 60
_log = logging.getLogger(__name__)

Action = Callable[[Any], Mapping[str, Any]]
"""Takes the JSON of a request, returns the JSON of its answer; ConceptSegError becomes a refusal with its message."""


class OutdatedError(ConceptSegError):
    """What a page wants to change was changed by somebody else meanwhile; nothing was saved."""

    def __init__(self, message: str, now: Mapping[str, Any]) -> None:
        """Tell the page ``message``, and what is there ``now``."""
        super().__init__(message)
        self.now = now


class ReviewServer:
    """Serves one page on loopback, and runs the actions that the page asks for, one at a time."""

    def __init__(self, *, page: Callable[[str], str], actions: Mapping[str, Action], port: int = 0) -> None:
        """Listen, but answer nothing before `serve`.

        Args:
            page: The page, made anew for every reload; gets the token that its requests must carry.
            actions: Name -> what a POST to that name does.
            port: 0 for any that is free.

        Raises:
            ConceptSegError: the port is taken.
        """
        self.token = secrets.token_urlsafe(32)
        self.page, self.actions, self.lock = page, actions, Lock()
        handler = type("Handler", (_Handler,), {"review": self})
        try:
            self._http = _Http(("127.0.0.1", port), handler)
        except OSError as error:
            raise ConceptSegError(
                f"Cannot listen on 127.0.0.1:{port}: {error.strerror or error}. Choose another --port."
            ) from error
        self.hosts = frozenset(f"{name}:{self._http.server_port}" for name in ("127.0.0.1", "localhost"))

    @property
    def url(self) -> str:
        """Address of the page; whoever knows it may change the labels."""
        return f"http://127.0.0.1:{self._http.server_port}/{self.token}/"

    def serve(self) -> None:
        """Answer until `close` is called from another thread, or this one is interrupted."""
        self._http.serve_forever()

    def close(self) -> None:
        """Stop answering, and free the port."""
        self._http.shutdown()
        self.release()

    def release(self) -> None:
        """Free the port after `serve` has ended."""
        self._http.server_close()

    def is_token(self, text: str) -> bool:
        """Whether ``text`` is the token, in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.token.encode("ascii"))


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Log what ended a request; a browser that went away before it had its answer is no fault."""
        level = logging.DEBUG if isinstance(sys.exception(), ConnectionError) else logging.ERROR
        _log.log(level, "A request of the page ended early.", exc_info=True)


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


_UNEXPECTED = _RefusedError(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "Something went wrong that nobody thought of; where `conceptseg report` runs, it says what. Please report it.",
)


class _Handler(BaseHTTPRequestHandler):
    review: ReviewServer
    timeout = _IDLE_SECONDS
    server_version = "ConceptSeg"
    sys_version = ""

    def do_GET(self) -> None:
        try:
            self._require_path("")
            page = self.review.page(self.review.token)
        except _RefusedError as refused:
            self._refuse(refused)
        except ConceptSegError as error:
            # A person reads it in place of the page.
            self._answer(HTTPStatus.CONFLICT, f"{error}\nThen reload this page.", "text/plain; charset=utf-8")
        except Exception:  # noqa: BLE001 - an answer in any case, and the log has the rest
            _log.exception("The page cannot be made.")
            self._refuse(_UNEXPECTED)
        else:
            self._answer(HTTPStatus.OK, page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        try:
            action = self._action()
            self._require_origin()
            kind, _, token = self.headers.get("Authorization", "").partition(" ")
            if kind != "Bearer" or not self.review.is_token(token):
                raise _RefusedError(HTTPStatus.FORBIDDEN, "The token is missing or wrong. Reload the page.")
            request = self._json()
            with self.review.lock:
                answer = action(request)
        except _RefusedError as refused:
            self._refuse(refused)
        except ConceptSegError as error:
            now = error.now if isinstance(error, OutdatedError) else {}
            self._refuse(_RefusedError(HTTPStatus.CONFLICT, str(error)), **now)
        except (ConnectionError, TimeoutError):  # nobody is there to answer
            raise
        except Exception:  # noqa: BLE001 - an answer in any case, and the log has the rest
            _log.exception("What the page asks for cannot be done.")
            self._refuse(_UNEXPECTED)
        else:
            self._answer(HTTPStatus.OK, json.dumps(answer), "application/json")

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("%s", (format % args).replace(self.review.token, "TOKEN"))

    def _action(self) -> Action:
        for name, action in self.review.actions.items():
            if self.path.endswith(f"/{name}"):
                self._require_path(name)
                return action
        raise _RefusedError(HTTPStatus.NOT_FOUND, "There is nothing at this address.")

    def _require_path(self, name: str) -> None:
        if self.headers.get("Host", "") not in self.review.hosts:
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, "This server answers to 127.0.0.1 and localhost alone.")
        token, slash, rest = self.path.removeprefix("/").partition("/")
        if not (slash and rest == name and self.review.is_token(token)):
            raise _RefusedError(
                HTTPStatus.NOT_FOUND, "There is nothing at this address. Take the one that was printed."
            )

    def _require_origin(self) -> None:
        origin = self.headers.get("Origin")
        parts = urlsplit(origin or "")
        if origin is not None and (parts.scheme != "http" or parts.netloc not in self.review.hosts):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "Requests from other pages are refused.")

    def _json(self) -> Any:
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected application/json.")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "Expected a body with its length.")
        if int(length) > MAX_BODY_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Expected at most {MAX_BODY_BYTES} bytes.")
        try:
            return parse_json(self.rfile.read(int(length)), name="What the page sent")
        except ConceptSegError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error

    def _refuse(self, refused: _RefusedError, **facts: Any) -> None:
        self.close_connection = True  # a body may be unread
        self._answer(refused.status, json.dumps({"message": str(refused), **facts}), "application/json")

    def _answer(self, status: HTTPStatus, text: str, kind: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
