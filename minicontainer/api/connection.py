"""One client's HTTP/1.1 connection, on a blocking socket.

h11 knows the protocol: framing, keep-alive, what may follow what. This module feeds it from the
socket, with a bound and a deadline for everything that a client sends. It hands the bare socket out
when a request turns the connection into a raw stream.

See: RFC 9110, RFC 9112; h11's documentation, "Switching protocols".
"""

from __future__ import annotations

import io
import select
import socket
import time
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

import h11

from minicontainer.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Headers = Sequence[tuple[str, str]]

HEADER_LIMIT = 16 * 1024
RECEIVE_SIZE = 64 * 1024
IDLE_S = 300.0  # between two requests
HEADER_S = 30.0  # from the first byte of a request to the end of its headers
SMALL_BODY_S = 30.0  # for a body that is read as a whole
DRAIN_LIMIT = 256 * 1024  # unread body that is still read away to keep the connection
CLOSE_LIMIT = 16 * 1024 * 1024  # what is still read of a client that is to be cut off

POLLRDHUP = 0x2000  # select has no name for it in every build


class Disconnected(Error):
    """The client closed the connection, or was too slow: nobody is there to read an answer."""


class BadRequest(Error):
    """The client sent something that is not HTTP, or too much of it.

    Args:
        status: the HTTP status of the answer, after which the connection is closed.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Body(io.RawIOBase):
    """The body of a request, read from the socket as it is needed."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._rest = memoryview(b"")
        self.finished = False

    def readable(self) -> bool:
        """Say that this file can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer* with the bytes that come next; give their number, 0 at the end."""
        while not self._rest:
            if self.finished:
                return 0
            data = self._connection.receive_data()
            self.finished = data is None
            self._rest = memoryview(data or b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def read_all(self, limit: int) -> bytes:
        """Read the whole of a small body.

        Raises:
            BadRequest: it is larger than *limit* bytes.
            Disconnected: it did not arrive in time.
        """
        parts, size = [], 0
        self._connection.set_deadline(SMALL_BODY_S)
        while part := self.read(RECEIVE_SIZE):
            size += len(part)
            if size > limit:
                raise BadRequest("http: request body too large", 413)
            parts.append(part)
        self._connection.set_deadline(None)
        return b"".join(parts)


class Request:
    """A request whose headers have arrived.

    Args:
        method: in capitals.
        path: percent-decoded.
        query: every value of each parameter.
        headers: names in small letters; of a repeated header the last value.
    """

    def __init__(self, event: h11.Request, body: Body) -> None:
        target = event.target.decode("ascii", "replace")
        # A target such as //x/json is a path here, though it reads like a URL with a host.
        parts = urlsplit(target if not target.startswith("/") else f"http://engine{target}")
        self.method = event.method.decode("ascii").upper()
        self.path = unquote(parts.path)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        self.headers = {
            name.decode("ascii"): value.decode("latin-1") for name, value in event.headers
        }
        self.body = body
        self.http_version = event.http_version.decode("ascii")


class RawStream:
    """The bare socket of a connection that is to be upgraded.

    Attributes:
        socket: blocking; its owner closes it.
        buffered: bytes that the client sent before the answer; they come first.
        accepted: the client has its answer, and only raw bytes follow.
    """

    def __init__(self, raw: socket.socket, buffered: bytes, answer: Callable[[], None]) -> None:
        self.socket = raw
        self.buffered = buffered
        self.accepted = False
        self._answer = answer

    def accept(self) -> None:
        """Answer the client that the stream begins; only the first call does anything.

        Raises:
            Disconnected: the client has gone.
        """
        if not self.accepted:
            self.accepted = True
            self._answer()


class Connection:
    """A client, from its first request to its last.

    Args:
        sock: connected; closed by `close`.
        headers: that every answer has.
    Attributes:
        peer: who the client is, for the log.
    """

    def __init__(self, sock: socket.socket, headers: Headers = ()) -> None:
        self.socket = sock
        self.headers = headers
        self.peer = ""
        self.upgraded = False
        self.head_sent = False  # of the answer to the present request
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_LIMIT)
        self._deadline: float | None = None
        self._body: Body | None = None

    def set_deadline(self, seconds: float | None) -> None:
        """Let all that is received from now on arrive within *seconds*; None for no limit."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def next_request(self) -> Request | None:
        """Wait for a request; None when the client has left or has been idle for too long.

        Raises:
            BadRequest: it sent something else than a request.
            Disconnected: it went away in the middle of one.
        """
        if self._body is not None:
            self._h11.start_next_cycle()
        self.head_sent = False
        if not self._h11.trailing_data[0]:
            self.set_deadline(IDLE_S)
            try:
                first = self._receive()
            except Disconnected:
                return None
            if not first:
                return None
            self._h11.receive_data(first)
        self.set_deadline(HEADER_S)
        event = self._next_event()
        self.set_deadline(None)
        if not isinstance(event, h11.Request):
            return None
        self._body = Body(self)
        return Request(event, self._body)

    def receive_data(self) -> bytes | None:
        """Receive the next part of the present request's body; None at its end."""
        if self._h11.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))
        event = self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    def _next_event(self) -> Any:
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                self._h11.receive_data(self._receive())
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            if self._h11.their_state is h11.ERROR and self._h11.trailing_data[1]:
                raise Disconnected(f"the client left in the middle of a request: {error}") from None
            raise BadRequest(f"malformed HTTP request: {error}", status) from None
        return event

    def _receive(self) -> bytes:
        """Receive some bytes; b"" at the end of what the client sends."""
        try:
            if self._deadline is not None:
                self.socket.settimeout(max(self._deadline - time.monotonic(), 0.001))
            return self.socket.recv(RECEIVE_SIZE)
        except TimeoutError:
            raise Disconnected("the client is too slow") from None
        except OSError as error:
            raise Disconnected(f"the connection broke: {error}") from None
        finally:
            if self._deadline is not None:
                self.socket.settimeout(None)

    def send_whole(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send an answer at once: a part by itself would wake the client for nothing.

        Returns:
            Whether another request can follow on this connection.
        """
        data = (h11.Data(data=body),) if body else ()
        self._send(self._head(status, headers), *data, h11.EndOfMessage())
        self.head_sent = True
        return self._can_go_on()

    def send_head(self, status: int, headers: Headers) -> None:
        """Send the status line and the headers; h11 adds what the body's framing needs."""
        self._send(self._head(status, headers))
        self.head_sent = True

    def _head(self, status: int, headers: Headers) -> h11.Response:
        told = (*self.headers, *headers)
        fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in told]
        reason = HTTPStatus(status).phrase.encode()  # docker-py puts it into its errors
        return h11.Response(status_code=status, headers=fields, reason=reason)

    def send_data(self, data: bytes) -> None:
        """Send a part of the answer's body.

        Raises:
            Disconnected: the client has gone.
        """
        self._send(h11.Data(data=data))

    def finish(self) -> bool:
        """End the answer; say whether another request can follow on this connection."""
        self._send(h11.EndOfMessage())
        return self._can_go_on()

    def _can_go_on(self) -> bool:
        if self._h11.their_state is h11.SEND_BODY:
            self._drain()
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    def _drain(self) -> None:
        """Read away a short rest of a body that the handler did not want."""
        size = 0
        self.set_deadline(1)
        try:
            while size < DRAIN_LIMIT and (data := self.receive_data()) is not None:
                size += len(data)
        except (BadRequest, Disconnected):
            return  # the state says that no other request can follow
        finally:
            self.set_deadline(None)

    def _send(self, *events: Any) -> None:
        try:
            if data := b"".join(self._h11.send(event) or b"" for event in events):
                self.socket.sendall(data)
        except (OSError, h11.LocalProtocolError) as error:
            raise Disconnected(f"the client has gone: {error}") from None

    def raw_stream(self, status_line: str, headers: Headers) -> RawStream:
        """Give the socket out as a raw stream, which begins when it is accepted.

        Args:
            status_line: of the answer to the present request.
            headers: beside those that every answer has.
        """
        buffered = self._h11.trailing_data[0]
        return RawStream(self.socket, buffered, lambda: self._upgrade(status_line, headers))

    def _upgrade(self, status_line: str, headers: Headers) -> None:
        """Send a head that no body follows.

        h11 is left out: `200 OK` without any framing is not HTTP, but what Docker's clients that
        send no `Upgrade` header expect.
        """
        lines = [status_line, *(f"{name}: {value}" for name, value in (*headers, *self.headers))]
        self.upgraded = self.head_sent = True
        try:
            self.socket.sendall("\r\n".join((*lines, "", "")).encode("latin-1"))
        except OSError as error:
            raise Disconnected(f"the client has gone: {error}") from None

    def is_gone(self) -> bool:
        """Look whether the client has closed its side, without waiting."""
        watch = select.poll()
        watch.register(self.socket, POLLRDHUP)
        try:
            return bool(watch.poll(0))
        except (OSError, ValueError):
            return True

    def close(self) -> None:
        """Close the connection; what the client still sends is read away for a moment.

        A socket that is closed with unread data resets the connection, and the client might lose
        the answer that says what was wrong.
        """
        try:
            if not self.upgraded and self._h11.their_state not in (h11.DONE, h11.CLOSED, h11.IDLE):
                self.socket.shutdown(socket.SHUT_WR)
                self.set_deadline(1)
                size = 0
                while size < CLOSE_LIMIT and (data := self._receive()):
                    size += len(data)
        except (OSError, Disconnected):
            pass  # it is gone already, or goes on sending: then it is cut off
        finally:
            self.socket.close()
