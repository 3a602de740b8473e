"""A command that stays while its container runs: what it does with signals.

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
    from collections.abc import Callable, Iterator

_PATIENCE = 3  # interrupts, as Docker's client
_ENDS = (signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGHUP)
# What is about this process itself: its children, its pipes, its terminal, its own mistakes.
_OWN = ("CHLD", "URG", "PIPE", "TTIN", "TTOU", "SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS")
_PASSED_ON = tuple(signals.CATCHABLE - {signals.NUMBERS[f"SIG{name}"] for name in _OWN})


class Interrupted(BaseException):
    """A signal came before the container ran: take everything back and end.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by signal {number}")
        self.number = number


class Running:
    """A process that this one is the parent of, and stays with.

    Args:
        pid, pidfd: its.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        try:
            pidfds.pidfd_send_signal(self.pidfd, number)
        except KernelError as error:
            if error.errno != errno.ESRCH:
                raise

    def wait(self) -> int:
        """Wait for it to end; give its exit status, 128+N for signal N."""
        return pidfds.wait_exit(self.pid)


@contextmanager
def interruptible() -> Iterator[None]:
    """Hold signals back; while `waiting`, those that end a process become `Interrupted`.

    Between two waits something is half made, or half taken back, that nobody would take back then.
    What else is sent is the program's, and waits until that runs.
    """
    with _handled(_ENDS, _interrupt):
        yield


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(number)


@contextmanager
def _handled(numbers: tuple[int, ...], handler: signals.Handler) -> Iterator[None]:
    """Give signals another meaning, and hold back all that may be passed on."""
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
    """Let a signal in, where `interruptible` holds it back: nothing is half made here.

    Raises:
        Interrupted: one came.
    """
    ours = [number for number in _ENDS if signals.handler_of(number) is _interrupt]
    mask = signals.block(())
    try:
        signals.unblock(ours)  # a signal that was held back comes here, and not later
        yield
    finally:
        signals.set_mask(mask)


def wait_readable(fd: int) -> None:
    """Wait until there is something to read, and let no signal in once there is.

    It would come between reading and remembering what was read.

    Raises:
        Interrupted: one came before.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    try:
        with waiting():
            poll.poll()
    except Interrupted as interrupt:
        if not poll.poll(0):
            raise
        posix.kill(posix.getpid(), interrupt.number)  # held back again


@contextmanager
def passing_signals_on(
    running: Running, say: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Give the container what this process is sent meanwhile, and what was held back before.

    Process 1 of a PID namespace gets only signals that it has a handler for: a shell command such
    as `sleep` ignores Ctrl-C there. A user at the keyboard gets rid of it by the third one.

    Args:
        say: tells the user that; None where an engine calls: it may send as many as it likes.
    """
    interrupts = 0

    def pass_on(number: int, _: object) -> None:
        nonlocal interrupts
        running.signal(number)
        interrupts += number in (signals.SIGINT, signals.SIGTERM)
        if say is not None and interrupts == _PATIENCE:
            say(f"got {_PATIENCE} SIGTERM/SIGINTs, killing the container")
            running.signal(signals.SIGKILL)

    with _handled(_PASSED_ON, pass_on):
        signals.unblock(_PASSED_ON)
        yield
