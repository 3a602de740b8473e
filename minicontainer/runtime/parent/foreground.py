"""Signals of a command that stays while its container runs.

See: signal(7); Docker's `--sig-proxy`.
"""

from __future__ import annotations

import errno
import posix
import select

from minicontainer.contexts import contextmanager
from minicontainer.errors import KernelError
from minicontainer.kernel import pidfds, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# Signals about this process itself: its children, pipes, terminal, and its own faults.
_OWN = ("CHLD", "URG", "PIPE", "TTIN", "TTOU", "SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS")
_PASSED_ON = tuple(signals.CATCHABLE - {signals.NUMBERS[f"SIG{name}"] for name in _OWN})


class Running:
    """A child of this process, which stays with it.

    Args:
        pid, pidfd: the child's.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd

    def signal(self, number: int) -> None:
        """Send it a signal; do nothing if it has ended."""
        try:
            pidfds.pidfd_send_signal(self.pidfd, number)
        except KernelError as error:
            if error.errno != errno.ESRCH:
                raise

    def wait(self) -> int:
        """Wait for it to end; return its exit status, 128+N for signal N."""
        return pidfds.wait_exit(self.pid)


@contextmanager
def interruptible() -> Iterator[None]:
    """Block signals; while `waiting`, the signals that end a process raise `Interrupted`.

    Outside of `waiting`, something is half made or half undone, and an exception would leave it so.
    All other signals are meant for the program, and are kept until it runs.
    """
    with _handled(signals.ENDING, _interrupt):
        yield


def _interrupt(number: int, _: object) -> None:
    raise signals.Interrupted(number)


@contextmanager
def _handled(numbers: Collection[int], handler: signals.Handler) -> Iterator[None]:
    """Change the action of signals, and block all that may be passed on."""
    mask = signals.block(_PASSED_ON)
    former = {number: signals.handle(number, handler) for number in numbers}
    try:
        yield
    finally:
        signals.block(_PASSED_ON)
        for number, meaning in former.items():
            signals.handle(number, meaning)
        signals.set_mask(mask)


@contextmanager
def waiting() -> Iterator[None]:
    """Let a signal in that `interruptible` blocks: nothing is half made here.

    Raises:
        Interrupted: a signal came.
    """
    ours = [number for number in signals.ENDING if signals.handler_of(number) is _interrupt]
    mask = signals.block(())
    try:
        signals.unblock(ours)  # a blocked signal arrives at this point, and not later
        yield
    finally:
        signals.set_mask(mask)


def wait_readable(fd: int) -> None:
    """Wait until there is something to read; once there is, let no signal in.

    A signal could otherwise come between reading a message and storing it.

    Raises:
        Interrupted: a signal came before that.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    try:
        with waiting():
            poll.poll()
    except signals.Interrupted as interrupt:
        if not poll.poll(0):
            raise
        posix.kill(posix.getpid(), interrupt.number)  # blocked again


def is_readable(fd: int, timeout_s: float) -> bool:
    """Wait for a while until there is something to read, or the other side has closed."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


@contextmanager
def passing_signals_on(running: Running) -> Iterator[None]:
    """Pass on to the container the signals that this process gets, those blocked before included.

    The kernel drops signals to process 1 of a PID namespace for which it has no handler: a command
    such as `sleep` ignores Ctrl-C there.
    """

    def pass_on(number: int, _: object) -> None:
        running.signal(number)

    with _handled(_PASSED_ON, pass_on):
        signals.unblock(_PASSED_ON)
        yield
