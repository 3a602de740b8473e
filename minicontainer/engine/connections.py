"""A connection between two of the engine's processes; `protocol` has the messages.

It is a unix socket of type SOCK_SEQPACKET: one message is one packet, written and read whole, and
can carry descriptors (SCM_RIGHTS). A process sees the end of the other as an end of file, also when
it was killed.

See: unix(7), socket(7).
"""

from __future__ import annotations

import array
import os
import socket

from minicontainer import jsontext
from minicontainer.contexts import contextmanager, suppress
from minicontainer.engine.protocol import TYPES, Happened
from minicontainer.event import Unsent
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minicontainer.event import Unwritten

LARGEST_MESSAGE = 4 << 20  # a program's arguments and variables can be 2 MiB
_SO_SNDBUFFORCE = 32  # socket(7): above the host's limit, with CAP_NET_ADMIN
_MOST_DESCRIPTORS = 253  # SCM_MAX_FD of the kernel: in a packet
_MORE = b"+"  # a packet with descriptors of the message that follows


class Connection:
    """One end of a connection.

    Args:
        sock: a SOCK_SEQPACKET unix socket.
    Attributes:
        left_unread: the other side has ended, and had not read all that was sent to it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.left_unread = False
        self._unsent = Unsent()  # events, to be sent before the next message

    def fileno(self) -> int:
        """Give the descriptor, for select(2)."""
        return self.sock.fileno()

    def send(self, message: Record, descriptors: Iterable[int] = ()) -> None:
        """Send a message whole, with copies of descriptors.

        Raises:
            OSError: EPIPE or ECONNRESET when the other side is gone.
        """
        self.flush()
        data = jsontext.dump([type(message).__name__, message.to_json()]).encode()
        listed = array.array("i", descriptors)
        while len(listed) > _MOST_DESCRIPTORS:
            self._send_packet(_MORE, listed[:_MOST_DESCRIPTORS])
            listed = listed[_MOST_DESCRIPTORS:]
        self._send_packet(data, listed)

    def _send_packet(self, data: bytes, descriptors: array.array[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
        self.sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)

    def put(self, event: Unwritten | str) -> None:
        """Send an event, together with others: a packet for each would slow a start down."""
        if self._unsent.add(event):
            self.flush()

    def flush(self) -> None:
        """Send the events that wait for the next message; nobody may be there to hear them."""
        lines = self._unsent.take()
        with suppress(OSError):
            if lines:
                self.sock.sendmsg([lines.encode()], (), socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[Record, list[int]] | None:
        """Wait for the next message and its descriptors; None when the other side is gone."""
        descriptors: list[int] = []
        data = self._receive_packet(descriptors)
        while data == _MORE:
            data = self._receive_packet(descriptors)
        if not data:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        if data.startswith(b"{"):
            return Happened(lines=data.decode()), descriptors
        name, fields = jsontext.parse(data.decode())
        return TYPES[name].from_json(fields, name), descriptors

    def _receive_packet(self, descriptors: list[int]) -> bytes:
        """Wait for the next packet, and add its descriptors to those; empty at the end."""
        try:
            data, extra = self._next_packet()
        except ConnectionResetError:
            # The other side closed its end with a message of ours unread. The kernel says so once,
            # before it gives what the other side had sent; its last word may be an exit status.
            self.left_unread = True
            try:
                data, extra = self._next_packet()
            except ConnectionError:
                return b""
        except ConnectionError:
            return b""
        found = array.array("i")
        for level, kind, content in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found.frombytes(content[: len(content) // 4 * 4])
        descriptors += found
        return data

    def _next_packet(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        room = socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
        # a packet that is larger than the room for it would be cut: ask for its size first
        size = self.sock.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)
        data, extra, _, _ = self.sock.recvmsg(size or 1, room, socket.MSG_CMSG_CLOEXEC)
        return data, extra

    def close(self) -> None:
        """Close it."""
        self.flush()
        self.sock.close()

    def say_no_more(self) -> None:
        """Let the other side see an end of file; it may still say something."""
        self.sock.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Say that nothing more comes; close it when the other side has ended, too."""
        with suppress(OSError):
            self.say_no_more()
            while self.receive() is not None:
                pass
        self.close()


def pair() -> tuple[Connection, Connection]:
    """Make both ends of a connection."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (one, other):
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, LARGEST_MESSAGE)
        except OSError:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_MESSAGE)
    return Connection(one), Connection(other)


def listen_at(path: str) -> socket.socket:
    """Listen at a path of any length: the kernel takes 108 bytes, so it is reached by /proc."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with suppress(FileNotFoundError):
        os.unlink(path)
    try:
        with _short(path) as short:
            listener.bind(short)
    except OSError as error:  # ENOSPC, …: with the place that the caller knows
        listener.close()
        raise OSError(error.errno, error.strerror, path) from None
    listener.listen(8)
    return listener


def connect_to(path: str) -> Connection:
    """Connect to who listens at *path*.

    Raises:
        OSError: ENOENT, ECONNREFUSED: nobody does.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(path) as short:
            sock.connect(short)
    except OSError:
        sock.close()
        raise
    return Connection(sock)


@contextmanager
def _short(path: str) -> Iterator[str]:
    directory, _, name = path.rpartition("/")
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
