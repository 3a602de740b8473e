"""Where clients connect: a unix socket, a TCP port with TLS, or sockets that systemd has opened.

Whoever may write to the unix socket is root of the host in all but name, so only root and one group
may. A TCP port asks every client for a certificate.

See: unix(7); sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import socket
import ssl
import stat
import struct

from minicontainer.errors import Conflict, InvalidArgument
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BACKLOG = 4096  # a client that does not wait gets EAGAIN when this is full: connect(2)
LISTEN_FDS_START = 3

_log = logging.getLogger(__name__)


class Listener:
    """A socket that clients connect to.

    Args:
        sock: listening.
        address: as a client names it: `unix:///run/minicontainer.sock`.
        tls: what each connection is wrapped in; None for plain bytes.
        path: of a unix socket that this process has made, and removes at its end.
    """

    def __init__(
        self, sock: socket.socket, address: str, tls: ssl.SSLContext | None = None, path: str = ""
    ) -> None:
        self.socket = sock
        self.address = address
        self.tls = tls
        self._path = path

    def close(self) -> None:
        """Take no more clients."""
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        self.socket.close()


class TlsFiles(Record):
    """The files that a TCP port needs: all clients are checked against the authority `ca`."""

    ca: str
    cert: str
    key: str

    def context(self) -> ssl.SSLContext:
        """Make what connections are wrapped in."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.verify_mode = ssl.CERT_REQUIRED
        try:
            made.load_cert_chain(self.cert, self.key)
            made.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgument(
                f"cannot use the TLS files {self.ca}, {self.cert} and {self.key}: {error}"
            ) from None
        return made


def listen(address: str, group: str = "", tls: TlsFiles | None = None) -> list[Listener]:
    """Listen at an address.

    Args:
        address: `unix://PATH`, `tcp://HOST:PORT`, or `fd://` for the sockets of systemd.
        group: who may use the unix socket beside root.
        tls: of a TCP port.
    """
    kind, _, where = address.partition("://")
    if kind == "unix" and where.startswith("/"):
        return [listen_unix(where, group)]
    if kind == "tcp":
        return [listen_tcp(where, tls)]
    if kind == "fd":
        raise InvalidArgument("fd:// needs sockets from systemd: LISTEN_FDS is not set for us")
    raise InvalidArgument(f"bad host {address}: expected unix:///PATH, tcp://HOST:PORT or fd://")


def listen_unix(path: str, group: str = "") -> Listener:
    """Make a unix socket for root and a group.

    Raises:
        Conflict: an engine answers there already.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is right from the first moment: there is no time in which anybody could connect.
    before = os.umask(0o117)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise InvalidArgument(f"cannot listen at unix://{path}: {error.strerror}") from None
    finally:
        os.umask(before)
    _give_to_group(path, group)
    sock.listen(BACKLOG)
    return Listener(sock, f"unix://{path}", path=path)


def _remove_stale(path: str) -> None:
    """Remove the socket of an engine that is no more."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise InvalidArgument(f"cannot listen at unix://{path}: a file is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            raise InvalidArgument(f"cannot listen at unix://{path}: {error.strerror}") from None
    raise Conflict(f"an engine answers at unix://{path} already: stop it first, or use --host")


def _give_to_group(path: str, group: str) -> None:
    if not group:
        return
    try:
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        os.chown(path, -1, gid)
    except KeyError:
        _log.info("no group %s: only root can use unix://%s", group, path)
    except PermissionError:
        _log.info("not root: unix://%s stays with this user's own group", path)


def listen_tcp(where: str, tls: TlsFiles | None) -> Listener:
    """Listen at a TCP port, for clients with a certificate.

    Raises:
        InvalidArgument: there are no TLS files: plain TCP would give this host away.
    """
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise InvalidArgument(f"bad host tcp://{where}: expected tcp://HOST:PORT")
    if tls is None:
        raise InvalidArgument(
            f"tcp://{where} needs TLS: give --tlscacert, --tlscert and --tlskey, or whoever "
            "reaches the port is root of this host"
        )
    context = tls.context()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, int(port)))
    except OSError as error:
        sock.close()
        raise InvalidArgument(f"cannot listen at tcp://{where}: {error}") from None
    sock.listen(BACKLOG)
    return Listener(sock, f"tcp://{host}:{sock.getsockname()[1]}", context)


def inherited(count: int, tls: TlsFiles | None = None) -> list[Listener]:
    """Take the sockets that systemd opened for this process: descriptors from 3 on."""
    found = []
    for fd in range(LISTEN_FDS_START, LISTEN_FDS_START + count):
        sock = socket.socket(fileno=fd)
        sock.set_inheritable(False)
        name: Any = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            found.append(Listener(sock, f"unix://{name}"))
        elif tls is None:
            raise InvalidArgument("a TCP socket of systemd needs --tlscacert, --tlscert, --tlskey")
        else:
            found.append(Listener(sock, f"tcp://{name[0]}:{name[1]}", tls.context()))
    return found


def peer_of(sock: socket.socket) -> str:
    """Say who a client is: the process at the other end of a unix socket, or an address."""
    if sock.family != socket.AF_UNIX:
        address: Any = sock.getpeername()
        return f"{address[0]}:{address[1]}"
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack(
        "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return f"pid={pid} uid={uid} gid={gid}"
