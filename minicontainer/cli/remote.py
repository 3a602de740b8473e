"""A connection to an engine on another machine: by TCP, with TLS or without."""

from __future__ import annotations

import os
import socket
import ssl

from minicontainer.cli.exits import EXIT_FAILED, Lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cli.hosts import Address

_PATIENCE_S = 20  # for the connection to be made


def connect(address: Address) -> socket.socket:
    """Connect to an engine.

    Raises:
        OSError: nobody answers there.
        Lost: a certificate that it needs is missing.
    """
    try:
        connected = socket.create_connection((address.host, address.port), timeout=_PATIENCE_S)
    except socket.gaierror as error:
        raise OSError(error.errno, f"no such host: {address.host}") from None
    connected.settimeout(None)
    return _encrypted(connected, address) if address.tls else connected


def _encrypted(connected: socket.socket, address: Address) -> ssl.SSLSocket:
    """Speak TLS: prove who this client is, and check who the engine is if that was asked for."""
    tls = address.tls
    assert tls is not None
    files = (tls.ca, tls.cert, tls.key) if tls.verify else ()
    if missing := next((path for path in files if path and not os.path.exists(path)), ""):
        raise Lost(f"can't speak TLS: open {missing}: no such file or directory", EXIT_FAILED, True)
    context = ssl.create_default_context(cafile=tls.ca if tls.verify and tls.ca else None)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if os.path.exists(tls.cert):
        context.load_cert_chain(tls.cert, tls.key)
    return context.wrap_socket(connected, server_hostname=address.host)
