"""Which name of a server programs on its own computer can use."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SECONDS = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with, not bound to
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_log = logging.getLogger(__name__)


def announced_host(host: str, port: int, certificate: Path | None) -> str:
    """The name to announce a server under that listens already.

    No client can connect to an address that stands for all of a computer, and with TLS clients take no name that the
    certificate does not have.

    Args:
        host: Where the server listens.
        port: Its port.
        certificate: Its certificate (PEM); None without TLS.

    Returns:
        ``host`` where clients take it, otherwise a name of the certificate, loopback first.
    """
    near = _EVERYWHERE.get(host, host)
    if certificate is None:
        return near
    try:
        names = _names_of(near, port, certificate)
    except OSError as error:  # of ssl, too
        _log.warning("The certificate %s could not be checked (%s): clients may refuse it.", certificate, error)
        return near
    fitting = [name for name in (host, near, *_LOOPBACK) if name in names]
    fitting += [name for name in names if "*" not in name]
    if fitting[:1] != [host]:
        _log.warning(
            "The certificate %s is for %s and not for %s: clients must use one of these names.",
            certificate,
            ", ".join(names) or "no name",
            host,
        )
    return fitting[0] if fitting else near


def _names_of(host: str, port: int, certificate: Path) -> Sequence[str]:
    """The host names and addresses in the certificate that a server shows; only a checked one is taken apart."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be that of an authority
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, port), timeout=_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        found: dict[str, Any] = dict(connection.getpeercert() or {})
    return [value for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
