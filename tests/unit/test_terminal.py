"""Descriptors over unix sockets, as terminals and listeners are sent."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from minicontainer.kernel import terminal

if TYPE_CHECKING:
    from collections.abc import Iterable


class HurriedPair(socket.socket):
    """A sender whose receiver takes what has come, and hangs up before the next call."""

    receiver: socket.socket
    taken: int

    def sendmsg(self, buffers: Iterable[Any], *more: Any) -> int:
        """Send, and let the receiver have its way."""
        sent = super().sendmsg(buffers, *more)
        self.taken = terminal.receive_descriptor(self.receiver)
        self.receiver.close()
        return sent


def test_a_receiver_may_hang_up_once_it_has_the_descriptor() -> None:
    """All was sent by then: a further call, be it for no byte, would fail with EPIPE."""
    one, other = socket.socketpair()
    read_end, write_end = os.pipe()
    with HurriedPair(fileno=one.detach()) as sender, other:
        sender.receiver = other
        terminal.send_descriptor(sender, write_end, "/dev/ptmx")
    os.write(sender.taken, b"x")
    assert os.read(read_end, 2) == b"x"
    for fd in (read_end, write_end, sender.taken):
        os.close(fd)
