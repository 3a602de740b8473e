"""The HTTP server: a thread for each connection, read from top to bottom.

    accept ── connection ── request ── route ── handler ── engine
                                                  │
                                    answer: JSON, a stream, or the bare socket

Everything that a client sends is bounded in size and time. Whatever a client does costs no more
than its own thread and descriptor, and only while it stays.

See: Docker Engine API v1.50, "Errors" and "Versioning".
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import select
import socket
import threading
import time

from minicontainer.api import routes
from minicontainer.api.calls import Answer, Call, error_answer
from minicontainer.api.connection import BadRequest, Connection, Disconnected
from minicontainer.api.hangups import HangUps
from minicontainer.api.listeners import peer_of
from minicontainer.errors import (
    Conflict,
    Error,
    Forbidden,
    InvalidArgument,
    NotFound,
    NotModified,
    Unauthorized,
    Unsupported,
    explained,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from minicontainer.api.connection import Request
    from minicontainer.api.interface import Engine
    from minicontainer.api.listeners import Listener

STATUS_OF: tuple[tuple[type[Error], int], ...] = (
    (InvalidArgument, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (NotModified, 304),
    (Unsupported, 501),
)
_NO_BODY = (204, 304)
_MOST_CONNECTIONS = 4096
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_TRACE = "minicontainer-trace"  # the header that makes a request part of a story: `traces`
_ONE_REQUEST = 65_536
_NOT_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_HANDSHAKE_S = 10.0

_log = logging.getLogger(__name__)


def status_of(error: Exception) -> int:
    """Give the HTTP status of an error; 500 for what has none of its own."""
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)


class Server:
    """Serves an engine's API at some listeners.

    Args:
        engine: what does the work.
        listeners: closed by `stop`.
        release: of this program, for the header `Server`.
    """

    def __init__(self, engine: Engine, listeners: Sequence[Listener], release: str = "") -> None:
        self.engine = engine
        self.listeners = tuple(listeners)
        version = ".".join(map(str, routes.NEWEST))
        self._headers = (
            ("Api-Version", version),
            ("Docker-Experimental", "false"),
            ("Ostype", "linux"),
            ("Server", f"minicontainer/{release or 'dev'} (linux)"),
        )
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._busy = 0  # requests that are being answered
        self._last_request = time.monotonic()
        self._stopping = False
        self._hang_ups = HangUps()
        self._acceptors: list[threading.Thread] = []
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)  # ends the acceptors

    def start(self) -> None:
        """Take clients, in threads of its own."""
        for listener in self.listeners:
            thread = threading.Thread(
                target=self._accept, args=(listener,), name="accept", daemon=True
            )
            self._acceptors.append(thread)
            thread.start()

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no more clients, let requests finish for a while, then end those that are left.

        Requests that wait for something to happen would not finish: they are ended at once.
        """
        if self._stopping:
            return
        self._stopping = True
        # Not shutdown(2), which would wake accept(2) too: systemd has the same sockets, and gives
        # them to the next engine.
        os.eventfd_write(self._wake, 1)
        for thread in self._acceptors:
            thread.join()
        for listener in self.listeners:
            listener.close()
        os.close(self._wake)
        self._hang_ups.cut()
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and self._busy:
            time.sleep(0.02)
        with self._lock:
            left = list(self._connections)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        self._hang_ups.close()

    def idle_s(self) -> float:
        """Give the time since the last request; 0 while one is being answered."""
        return 0.0 if self._busy else time.monotonic() - self._last_request

    @property
    def connection_count(self) -> int:
        """Give the number of clients."""
        return len(self._connections)

    def _accept(self, listener: Listener) -> None:
        listener.socket.setblocking(False)  # a client that is there may have left when it is taken
        watch = select.poll()
        for source in (listener.socket.fileno(), self._wake):
            watch.register(source, select.POLLIN)
        while True:
            watch.poll()
            if self._stopping:
                return
            try:
                sock, _ = listener.socket.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                if self._stopping or error.errno in (errno.EBADF, errno.EINVAL):
                    return
                _log.warning("cannot take a client: %s", error)
                if error.errno in _OUT_OF_DESCRIPTORS:
                    time.sleep(0.1)  # until a connection ends; without a pause this would spin
                continue
            if len(self._connections) >= _MOST_CONNECTIONS:
                sock.close()
                continue
            self._give_thread(sock, listener)

    def _give_thread(self, sock: socket.socket, listener: Listener) -> None:
        thread = threading.Thread(
            target=self._serve, args=(sock, listener), name="client", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # a limit of processes, which counts threads: TasksMax
            _log.warning("cannot serve a client: %s", error)
            sock.close()
            time.sleep(0.1)  # until a thread or a container ends

    def _serve(self, sock: socket.socket, listener: Listener) -> None:
        """Serve one client until it leaves; whatever happens, its descriptor is closed."""
        connection = Connection(sock, self._headers)
        try:
            connection.peer = peer_of(sock)
            if listener.tls is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.settimeout(_HANDSHAKE_S)
                if _refused_without_tls(sock):
                    return
                connection.socket = listener.tls.wrap_socket(sock, server_side=True)
                connection.socket.settimeout(None)
            with self._lock:
                self._connections.add(connection)
            _log.debug("client %s at %s", connection.peer, listener.address)
            while not self._stopping and self._serve_request(connection):
                pass
        except (Disconnected, OSError) as error:
            _log.debug("client %s: %s", connection.peer, error)
        except Exception:  # the thread ends here
            _log.exception("client %s", connection.peer)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _serve_request(self, connection: Connection) -> bool:
        """Answer one request; say whether another may follow."""
        try:
            request = connection.next_request()
            if request is None:
                return False
            with self._counted(), self.engine.traces.telling(request.headers.get(_TRACE, "")):
                return self._answer(request, connection)
        except BadRequest as error:
            if not connection.head_sent:
                answer = error_answer(error.status, str(error))
                answer.headers = (("Connection", "close"),)
                self._send(connection, "GET", answer)
            return False

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._last_request = time.monotonic()

    def _answer(self, request: Request, connection: Connection) -> bool:
        began = time.monotonic()
        try:
            answer = self._call(request, connection)
            if answer is None:  # the connection has become a stream
                return False
            if not isinstance(answer.body, bytes):
                answer.source = answer.body
            if not isinstance(answer.body, bytes) and not answer.early:
                _with_first_part(answer, answer.body, connection)
        except (BadRequest, Disconnected):
            raise
        except Exception as error:  # the request ends here
            if connection.upgraded:
                _log.exception("%s %s", request.method, request.path)
                return False
            answer = self._error(error, request)
        taken_ms = (time.monotonic() - began) * 1000
        _log.debug(
            "%s %s: %d in %.1f ms (%s)",
            request.method, request.path, answer.status, taken_ms, connection.peer,
        )  # fmt: skip
        return self._send(connection, request.method, answer)

    def _call(self, request: Request, connection: Connection) -> Answer | None:
        if "\0" in request.path:
            raise InvalidArgument("invalid path: it holds a NUL character")
        version, path = routes.split_version(request.path)
        handler, names = routes.find(request.method, path)
        return handler(Call(self.engine, request, connection, version, names))

    def _error(self, error: Exception, request: Request) -> Answer:
        status = status_of(error)
        if status == 304:
            return Answer(304)
        if isinstance(error, Error):
            _log.info("%s %s: %s", request.method, request.path, error)
        else:
            _log.exception("%s %s", request.method, request.path)
        told = explained(error) if isinstance(error, OSError) else str(error)
        message = told or type(error).__name__
        if routes.are_errors_plain(request.path):
            return Answer(status, f"{message}\r\n".encode(), "text/plain; charset=utf-8")
        return error_answer(status, message)

    def _send(self, connection: Connection, method: str, answer: Answer) -> bool:
        """Send an answer; say whether another request can follow."""
        headers = [*answer.headers]
        if answer.content_type:
            headers.append(("Content-Type", answer.content_type))
        body = answer.body
        if isinstance(body, bytes):
            if answer.status not in _NO_BODY:
                headers.append(("Content-Length", str(len(body))))
            return connection.send_whole(answer.status, headers, b"" if method == "HEAD" else body)
        try:
            connection.send_head(answer.status, headers)
            self._send_parts(connection, body, answer.cleanup)
        finally:
            _close(answer.source)
            _close(answer.cleanup)
        return connection.finish()

    def _send_parts(self, connection: Connection, parts: Iterable[bytes], waits: object) -> None:
        """Send the parts of a stream; when the client leaves, end what *waits* for the next one."""
        with contextlib.ExitStack() as stack:
            if waits is not None:
                stack.enter_context(self._hang_ups.watch(connection.socket, lambda: _close(waits)))
            for part in parts:
                if part:
                    connection.send_data(part)
                elif connection.is_gone():
                    raise Disconnected("the client has gone")


def _refused_without_tls(sock: socket.socket) -> bool:
    """Tell a client that speaks HTTP where TLS is wanted, as Go's server does."""
    if not sock.recv(1, socket.MSG_PEEK).isalpha():  # a handshake begins with the byte 22
        return False
    sock.recv(_ONE_REQUEST)  # or the end of the connection would take the answer along
    sock.sendall(_NOT_TLS)
    return True


def _close(source: object) -> None:
    """Close a source of parts that can be closed."""
    close = getattr(source, "close", None)
    if close is not None:
        # A generator that runs in another thread can't be closed; it ends with its next part.
        with contextlib.suppress(ValueError):
            close()


def _with_first_part(answer: Answer, parts: Iterable[bytes], connection: Connection) -> None:
    """Fetch the first part of a stream, so that an error in its place is still a status.

    An empty part says only that the work goes on: a registry that answers late may still refuse.
    """
    rest = iter(parts)
    for first in rest:
        if first:
            answer.body = itertools.chain((first,), rest)
            return
        if connection.is_gone():
            _close(answer.source)
            _close(answer.cleanup)
            raise Disconnected("the client has gone")
    answer.body = ()
