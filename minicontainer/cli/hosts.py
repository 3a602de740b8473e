"""Where an engine listens: unix:///run/docker.sock, tcp://host:2376.

See: Docker's `docker` reference, "Environment variables" and "-H, --host".
"""

from __future__ import annotations

from minicontainer.cli.exits import EXIT_FAILED, Exit
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


EXEC_ROOT = "/run/minicontainer"
SOCKET = "minicontainer.sock"  # in the engine's EXEC_ROOT


class Tls(Record):
    """How to speak TLS: whether the engine's certificate is checked, and the files."""

    verify: bool
    ca: str
    cert: str
    key: str


class Address(Record):
    """Where an engine listens.

    Args:
        url: as the user wrote it, for messages.
        path: of a unix socket; "" for TCP.
        host, port: of a TCP socket.
        tls: None for plain text.
        own: it is the engine of this project on this host, which may be started by the client.
    """

    url: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: Tls | None = None
    own: bool = False


def find(options: Mapping[str, Any], environ: Mapping[str, str]) -> Address:
    """Find the engine: --host, MINICONTAINER_HOST, DOCKER_HOST, else the one of --exec-root."""
    if not options.get("host") and (root := options.get("exec_root")):
        return Address(url=f"unix://{root}/{SOCKET}", path=f"{root}/{SOCKET}", own=True)
    named = (options.get("host"), environ.get("MINICONTAINER_HOST"), environ.get("DOCKER_HOST"))
    url = next(filter(None, named), "")
    if not url:
        path = f"{EXEC_ROOT}/{SOCKET}"
        return Address(url=f"unix://{path}", path=path, own=True)
    return parse(url, _tls(options, environ))


def _tls(options: Mapping[str, Any], environ: Mapping[str, str]) -> Tls | None:
    verify = bool(options.get("tlsverify") or environ.get("DOCKER_TLS_VERIFY"))
    if not (verify or options.get("tls") or environ.get("DOCKER_TLS")):
        return None
    config = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '')}/.docker"
    directory = environ.get("DOCKER_CERT_PATH") or config
    return Tls(
        verify=verify,
        ca=options.get("tlscacert") or f"{directory}/ca.pem",
        cert=options.get("tlscert") or f"{directory}/cert.pem",
        key=options.get("tlskey") or f"{directory}/key.pem",
    )


def parse(url: str, tls: Tls | None = None) -> Address:
    """Read an engine's address.

    Raises:
        Exit: it is none that this client can speak to.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "tcp", url
    if scheme == "unix":
        return Address(url=url, path=rest or "/var/run/docker.sock")
    if scheme not in ("tcp", "http", "https"):
        raise Exit(f"can't speak {scheme}: use unix://PATH or tcp://HOST:PORT", EXIT_FAILED, True)
    if scheme == "https" and tls is None:
        tls = Tls(verify=True, ca="", cert="", key="")
    host, colon, port = rest.partition("/")[0].rpartition(":")
    if not colon or port.endswith("]"):
        host, port = rest.partition("/")[0], "2376" if tls else "2375"
    if not port.isdecimal():
        raise Exit(f"invalid port in {url}: use tcp://HOST:PORT", EXIT_FAILED, True)
    return Address(url=url, host=host.strip("[]") or "localhost", port=int(port), tls=tls)
