"""Terminals: pseudo-terminals, raw mode, window size, and passing a descriptor.

See: pty(7), devpts (kernel doc filesystems/devpts.rst), termios(3), ioctl_tty(2), unix(7).
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
import termios
import tty

from minicontainer import steps
from minicontainer.contexts import contextmanager, suppress
from minicontainer.errors import NotFound
from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

# ioctl_tty(2); the termios module does not have them
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


def open_peer(master_fd: int) -> int:
    """Unlock a terminal's master and open its other side, the slave.

    The peer is opened through the master (TIOCGPTPEER), not by its name under /dev/pts: a container
    could have put something else at that name (CVE-2025-52565).

    Args:
        master_fd: a descriptor of a devpts instance's ptmx.
    """
    fcntl.ioctl(master_fd, _TIOCSPTLCK, struct.pack("i", 0))
    return fcntl.ioctl(master_fd, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def become_controlling(slave_fd: int) -> None:
    """Make the terminal the session's controlling terminal: its keys then reach the session's
    processes.

    Raises:
        KernelError: EPERM if this process leads no session, or has a terminal already.
    """
    steps.noted(
        "ioctl", ("TIOCSCTTY", slave_fd), lambda: fcntl.ioctl(slave_fd, termios.TIOCSCTTY, 0),
        object="process:terminal", shell="setsid --ctty",
    )  # fmt: skip


def take_foreground(fd: int) -> None:
    """Make this process's group the foreground group, which gets Ctrl-C and Ctrl-Z.

    Raises:
        KernelError: ENOTTY if it is not this session's terminal.
    """
    # A background process that calls this is stopped by SIGTTOU, unless that is blocked.
    mask = signals.block((signals.SIGTTOU,))
    try:
        steps.noted(
            "ioctl", ("TIOCSPGRP", fd, os.getpgrp()), lambda: os.tcsetpgrp(fd, os.getpgrp()),
            object="process:foreground", after=str(os.getpgrp()),
        )  # fmt: skip
    finally:
        signals.set_mask(mask)


def window_size(fd: int) -> tuple[int, int]:
    """Return the rows and columns of a terminal; zeros for one that has hung up."""
    try:
        size = _steadily(lambda: fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return 0, 0
    rows, columns, _, _ = struct.unpack("HHHH", size)
    return rows, columns


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """Set them; the foreground processes get SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def keep_newlines(fd: int) -> None:
    """Show a newline as it is written, without a carriage return before it: no ONLCR."""
    mode = termios.tcgetattr(fd)
    mode[tty.OFLAG] &= ~termios.ONLCR
    termios.tcsetattr(fd, termios.TCSANOW, mode)


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Pass every key on unchanged during the block: echo, lines and signals are the other side's
    work.
    """
    try:
        before = _steadily(lambda: termios.tcgetattr(fd))
        # the default, TCSAFLUSH, would drop what was typed ahead
        _steadily(lambda: tty.setraw(fd, termios.TCSADRAIN))
    except OSError:  # the terminal has hung up: it has no mode any more
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # it has hung up meanwhile
            _steadily(lambda: termios.tcsetattr(fd, termios.TCSADRAIN, before))


@contextmanager
def line_mode(fd: int) -> Iterator[None]:
    """Read whole lines during the block, as they are edited; Ctrl-C ends a line, as a character.

    So one reader gets both, and no signal interrupts it in the middle of something else.

    Raises:
        OSError: EIO: the terminal has hung up.
    """
    before = _steadily(lambda: termios.tcgetattr(fd))
    mode = [*before[: tty.CC], [*before[tty.CC]]]
    mode[tty.IFLAG] |= termios.ICRNL
    mode[tty.OFLAG] |= termios.OPOST | termios.ONLCR
    mode[tty.LFLAG] |= termios.ICANON | termios.ECHO | termios.ECHOE | termios.ECHOK
    mode[tty.LFLAG] &= ~termios.ISIG
    mode[tty.CC][termios.VEOL2] = mode[tty.CC][termios.VINTR]
    _steadily(lambda: termios.tcsetattr(fd, termios.TCSADRAIN, mode))
    try:
        yield
    finally:
        with suppress(OSError):  # it has hung up meanwhile
            _steadily(lambda: termios.tcsetattr(fd, termios.TCSADRAIN, before))


def _steadily(call: Callable[[], T]) -> T:
    """Call a function that works on a terminal, whatever this process and the terminal go through.

    A background process that changes its terminal would be stopped by SIGTTOU, or be interrupted,
    again and again, if that signal is caught: so it is blocked meanwhile. Another signal may still
    interrupt the call, which is then made again.

    Raises:
        OSError: EIO, ENOTTY, …: the terminal has hung up.
    """
    mask = signals.block((signals.SIGTTOU,))
    try:
        while True:
            try:
                return call()
            except termios.error as error:  # no OSError, though it has its two arguments
                if error.args[0] != errno.EINTR:
                    raise OSError(*error.args) from None
            except InterruptedError:
                continue
    finally:
        signals.set_mask(mask)


def send_descriptor(sock: socket.socket, fd: int, name: str) -> None:
    """Send a descriptor over a unix socket, with at least one byte that describes it.

    See: unix(7) "SCM_RIGHTS"; the OCI console socket takes the same form.
    """
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
    data = name.encode()
    rest = data[sock.sendmsg([data], [rights]) :]
    if rest:  # an empty send would fail (EPIPE) once the receiver has closed
        sock.sendall(rest)


def receive_descriptor(sock: socket.socket) -> int:
    """Receive one descriptor, close-on-exec.

    Raises:
        NotFound: the other side closed the socket without sending one.
    """
    room = socket.CMSG_SPACE(struct.calcsize("i"))
    _, messages, _, _ = sock.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in messages:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return int(struct.unpack("i", data[:4])[0])
    raise NotFound("no terminal was sent: the container ended before it opened one")
