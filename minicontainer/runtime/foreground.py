"""A command that stays while its container runs: what it does with signals.

See: signal(7); Docker's `--sig-proxy`.
"""

from __future__ import annotations

import contextlib

from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.runtime.lifecycle import Container

_PATIENCE = 3  # interrupts, as Docker's client
_ENDS = (signals.SIGINT, signals.SIGTERM, signals.SIGHUP)
_PASSED_ON = tuple(
    signals.NUMBERS[f"SIG{name}"]
    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "CONT")
)


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
        for other in _ENDS:
            signals.handle(other, signals.SIG_IGN)
        raise Interrupted(number)

    for number in _ENDS:
        signals.handle(number, stop)
    yield


def pass_signals_on(container: Container, say: Callable[[str], None]) -> None:
    """Give the container what this process is sent.

    Process 1 of a PID namespace gets only signals that it has a handler for: a shell command such
    as `sleep` ignores Ctrl-C there. After the third one the container is killed.

    Args:
        say: tells the user that.
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
