"""Connect a container's terminal to this process's terminal.

See: pty(7), tty_ioctl(4).
"""

from __future__ import annotations

import os
import select

from minicontainer.contexts import ExitStack, suppress
from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from minicontainer.runtime.parent.foreground import Running

_BLOCK = 65536


def proxy_terminal(running: Running, console: socket.socket) -> None:
    """Copy bytes between this process's terminal and the container's, until the container ends.

    Args:
        console: the socket to which the container has sent its terminal's master.
    """
    from minicontainer.kernel import terminal  # termios and sockets: only with a terminal

    master = terminal.receive_descriptor(console)
    with ExitStack() as stack:
        stack.callback(os.close, master)
        # A copy of the other side: without one, the terminal would hang up for good when the
        # program closes its last one, though it may open /dev/console again.
        stack.callback(os.close, terminal.open_peer(master))
        if os.isatty(0):
            _follow_window_size(master)
            stack.callback(signals.handle, signals.SIGWINCH, signals.SIG_DFL)
            stack.enter_context(terminal.raw_mode(0))
        poll = select.poll()
        poll.register(master, select.POLLIN)
        poll.register(running.pidfd, select.POLLIN)
        poll.register(0, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if 0 in ready and not _type_in(master):
                poll.unregister(0)
            if master in ready and not _copy(master, 1):
                poll.unregister(master)  # no process has the other side open any more
            elif running.pidfd in ready and master not in ready:
                return  # it has ended, and all its output is printed


def _follow_window_size(master: int) -> None:
    from minicontainer.kernel import terminal

    def resize(*_: object) -> None:
        with suppress(OSError):  # it is gone with the container
            terminal.set_window_size(master, *terminal.window_size(0))

    resize()
    signals.handle(signals.SIGWINCH, resize)


def _type_in(master: int) -> bool:
    """Pass on what was typed; report whether more can come."""
    try:
        return _copy(0, master)
    except OSError:  # EIO: no process has the terminal open, so the input is dropped
        return False


def _copy(source: int, sink: int) -> bool:
    """Copy the output that is there; report whether more can come."""
    try:
        data = os.read(source, _BLOCK)
    except OSError:  # EIO: the terminal's other side is closed
        return False
    rest = data
    while rest:
        rest = rest[os.write(sink, rest) :]
    return bool(data)
