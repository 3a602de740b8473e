"""A container in the foreground: its terminal, its signals, its end.

See: signal(7), pty(7); Docker's `--sig-proxy`.
"""

from __future__ import annotations

import contextlib
import os
import select

from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from minicontainer.runtime.lifecycle import Container

_PATIENCE = 3  # interrupts, as Docker's client
_PASSED_ON = tuple(
    signals.NUMBERS[f"SIG{name}"]
    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "CONT")
)
_BLOCK = 65536


class Interrupted(BaseException):
    """A signal came before the container ran: take everything back and end.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by signal {number}")
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `Interrupted`, and pass over the next ones.

    They would otherwise come in the middle of the clean-up that the first one began.
    """

    def stop(number: int, _: object) -> None:
        for other in ends:
            signals.handle(other, signals.SIG_IGN)
        raise Interrupted(number)

    ends = (signals.SIGINT, signals.SIGTERM, signals.SIGHUP)
    for number in ends:
        signals.handle(number, stop)
    yield


def pass_signals_on(container: Container, say: Callable[[str], None]) -> None:
    """Give the container what this process is sent.

    Process 1 of a PID namespace gets only signals that it has a handler for: a shell command such
    as `sleep` ignores Ctrl-C there. After the third one the container is killed.
    """
    interrupts = 0

    def pass_on(number: int, _: object) -> None:
        nonlocal interrupts
        container.signal(number)
        interrupts += number in (signals.SIGINT, signals.SIGTERM)
        if interrupts == _PATIENCE:
            say(f"got {_PATIENCE} SIGTERM/SIGINTs, killing the container")
            container.signal(signals.SIGKILL)

    for number in _PASSED_ON:
        signals.handle(number, pass_on)


def proxy_terminal(container: Container, console: socket.socket, *, stdin: bool) -> None:
    """Carry bytes between this process's terminal and the container's, until the container ends.

    Args:
        console: where the container has sent its terminal's master.
        stdin: whether input goes in (`-i`).
    """
    from minicontainer.kernel import terminal  # termios and sockets: only with a terminal

    master = terminal.receive_descriptor(console)
    with contextlib.ExitStack() as stack:
        if os.isatty(0):
            _follow_window_size(master)
        if stdin and os.isatty(0):
            stack.enter_context(terminal.raw_mode(0))
        poll = select.poll()
        poll.register(master, select.POLLIN)
        poll.register(container.pidfd, select.POLLIN)
        if stdin:
            poll.register(0, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if 0 in ready and not _copy(0, master):
                poll.unregister(0)
            if master in ready and not _copy(master, 1):
                poll.unregister(master)  # every holder of the other side is gone
            elif container.pidfd in ready and master not in ready:
                return  # it has ended, and all that it wrote is out


def _follow_window_size(master: int) -> None:
    from minicontainer.kernel import terminal

    def resize(*_: object) -> None:
        terminal.set_window_size(master, *terminal.window_size(0))

    resize()
    signals.handle(signals.SIGWINCH, resize)


def _copy(source: int, sink: int) -> bool:
    """Copy what is there; say whether more can come."""
    try:
        data = os.read(source, _BLOCK)
    except OSError:  # EIO: the terminal's other side is closed
        return False
    rest = data
    while rest:
        rest = rest[os.write(sink, rest) :]
    return bool(data)
