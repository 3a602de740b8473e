"""Raw streams through a transport that the engine can't use itself: TLS, and WebSocket frames.

The engine passes a client's socket on to the process that owns the container's streams. That needs
plain bytes on a plain descriptor. Where the client's bytes are encrypted or framed, the engine gets
one end of a socket pair, and a thread here carries the bytes between the other end and the client.

    client ── TLS or WebSocket ── relay ── socket pair ── monitor

See: RFC 6455; unix(7).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import select
import socket
import ssl
import threading

from wsproto.connection import Connection as WebSocket
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from minicontainer.api.connection import RawStream
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.api.connection import Connection

_BLOCK = 32 * 1024
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Bytes:
    """The coding of a transport that carries bytes as they are."""

    half_closes = True  # a client that sends no more may still receive

    def decode(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Take what the client sent: payload, what to send back at once, whether it has ended."""
        return data, b"", False

    def encode(self, data: bytes) -> bytes:
        """Make what is sent to the client."""
        return data

    def end(self) -> bytes:
        """Make what tells the client that no more comes."""
        return b""


class Frames(Bytes):
    """The coding of a WebSocket: each block is a binary message."""

    half_closes = False

    def __init__(self) -> None:
        self._protocol = WebSocket(ConnectionType.SERVER)

    def decode(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Take frames apart; answer pings and the closing."""
        try:
            self._protocol.receive_data(data)
            payload, reply, ended = b"", b"", False
            for event in self._protocol.events():
                payload += _payload(event)
                reply += self._reply(event)
                ended = ended or isinstance(event, CloseConnection)
        except (RemoteProtocolError, LocalProtocolError):
            return b"", self._send(CloseConnection(code=1002)), True
        return payload, reply, ended

    def _reply(self, event: Event) -> bytes:
        if isinstance(event, Ping | CloseConnection):
            return self._send(event.response())
        return b""

    def _send(self, event: Event) -> bytes:
        try:
            return self._protocol.send(event)
        except LocalProtocolError:
            return b""  # the closing has been sent already

    def encode(self, data: bytes) -> bytes:
        """Make a binary message."""
        return self._send(BytesMessage(data=data))

    def end(self) -> bytes:
        """Make the frame that closes the connection: normal end."""
        return self._send(CloseConnection(code=1000))


def _payload(event: Event) -> bytes:
    if isinstance(event, TextMessage):
        return event.data.encode()
    return bytes(event.data) if isinstance(event, Message) and not isinstance(event, Pong) else b""


class Relay:
    """Carries bytes between a client and one end of a socket pair, in both directions.

    Args:
        client: the transport; blocking until now.
        near: our end of the pair.
        coding: of the transport.
        early: bytes that the client has sent already.
    """

    def __init__(
        self, client: socket.socket, near: socket.socket, coding: Bytes, early: bytes
    ) -> None:
        self._client, self._near, self._coding = client, near, coding
        self._to_client = b""
        self._to_near = b""
        self._client_ended = False  # it sends no more, and near was told
        self._near_ended = False
        client.setblocking(False)
        near.setblocking(False)
        if early:
            self._take(early)

    def run(self) -> None:
        """Carry bytes until the engine's side has ended, or the client is gone."""
        try:
            while self._step():
                pass
        except OSError:
            pass  # one of the two is gone, and so is the stream
        finally:
            self._near.close()
            with contextlib.suppress(OSError, ValueError):
                self._client.shutdown(socket.SHUT_RDWR)

    def _step(self) -> bool:
        """Wait for either side, then move what can be moved; False when all is done."""
        over = self._near_ended or (self._client_ended and not self._coding.half_closes)
        if over and not self._to_client:
            return False
        reads_client = not self._client_ended and len(self._to_near) < _BLOCK
        reads_near = not self._near_ended and len(self._to_client) < _BLOCK
        watch = select.poll()
        for sock, reads, writes in (
            (self._client, reads_client, self._to_client),
            (self._near, reads_near, self._to_near),
        ):
            # With nothing to do on it, poll would go on reporting a side that has hung up.
            if mask := (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0):
                watch.register(sock, mask)
        # What TLS has decrypted already is no longer in the kernel, and poll does not know of it.
        pending = isinstance(self._client, ssl.SSLSocket) and self._client.pending()
        watch.poll(0 if pending and reads_client else None)
        if reads_client:
            self._read_client()
        if reads_near:
            self._read_near()
        self._to_client = _send_some(self._client, self._to_client)
        try:
            self._to_near = _send_some(self._near, self._to_near)
        except ConnectionError:  # the program reads no more; what it has written still comes
            self._to_near = b""
        if self._client_ended and not self._to_near:
            with contextlib.suppress(OSError):
                self._near.shutdown(socket.SHUT_WR)
        return True

    def _read_client(self) -> None:
        try:
            data = self._client.recv(_BLOCK)
        except _WOULD_BLOCK:
            return
        except ssl.SSLError:
            data = b""  # an end without TLS's own goodbye
        if data:
            self._take(data)
        else:
            self._client_ended = True

    def _take(self, data: bytes) -> None:
        payload, reply, ended = self._coding.decode(data)
        self._to_near += payload
        self._to_client += reply
        self._client_ended = self._client_ended or ended

    def _read_near(self) -> None:
        try:
            data = self._near.recv(_BLOCK)
        except _WOULD_BLOCK:
            return
        self._to_client += self._coding.encode(data) if data else self._coding.end()
        self._near_ended = not data


def _send_some(sock: socket.socket, data: bytes) -> bytes:
    """Send what the socket takes now; give the rest."""
    try:
        return data[sock.send(data) :] if data else data
    except _WOULD_BLOCK:
        return data


@contextlib.contextmanager
def relayed(client: RawStream, coding: Bytes) -> Iterator[RawStream]:
    """Give a plain stream that stands for *client*; a thread carries its bytes once it begins."""
    near, far = socket.socketpair()
    threads = []

    def begin() -> None:
        client.accept()
        relay = Relay(client.socket, near, coding, client.buffered)
        threads.append(threading.Thread(target=relay.run, name="relay", daemon=True))
        threads[0].start()

    with near:
        with far:
            yield RawStream(far, b"", begin)
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def plain_stream(connection: Connection, client: RawStream) -> Iterator[RawStream]:
    """Give the client's stream as plain bytes on a descriptor that can be passed on."""
    if isinstance(connection.socket, ssl.SSLSocket):
        with relayed(client, Bytes()) as stream:
            yield stream
    else:
        yield client


def accept_key(key: str) -> str:
    """Make the server's proof that it understood a WebSocket handshake: RFC 6455, section 4.2.2."""
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        valid = False
    if not valid:
        raise InvalidArgument("bad WebSocket handshake: Sec-WebSocket-Key is missing or malformed")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
