"""Signals: numbers, names, masks.

This uses the C module below `signal`: the Python one wraps every number in an enum, whose import
costs 3 ms.

See: signal(7).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object] | int

SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGPIPE, SIGALRM, SIGTERM = 1, 2, 3, 9, 13, 14, 15
SIGCHLD: int = _signal.SIGCHLD  # this one and the next differ between architectures
SIGSTOP: int = _signal.SIGSTOP
SIGTTOU: int = _signal.SIGTTOU
SIGWINCH: int = _signal.SIGWINCH
SIG_DFL: int = _signal.SIG_DFL
SIG_IGN: int = _signal.SIG_IGN

NUMBERS: dict[str, int] = {
    name: value
    for name, value in vars(_signal).items()
    if name.startswith("SIG") and name[3].isalpha() and isinstance(value, int)
}
VALID: frozenset[int] = frozenset(_signal.valid_signals())
CATCHABLE: frozenset[int] = VALID - {SIGKILL, SIGSTOP}
ENDING = frozenset((SIGHUP, SIGINT, SIGQUIT, SIGTERM))  # how users and hosts end a process

handle: Callable[[int, Handler], Handler] = _signal.signal
alarm: Callable[[int], int] = _signal.alarm  # SIGALRM after so many seconds
handler_of: Callable[[int], Handler] = _signal.getsignal
wait_for: Callable[[Iterable[int]], int] = _signal.sigwait
pause: Callable[[], None] = _signal.pause


class Interrupted(BaseException):
    """A signal that ends a process came.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by signal {number}")
        self.number = number


def block(numbers: Iterable[int]) -> set[int]:
    """Block signals until they are waited for or unblocked; return the former mask."""
    return set(_signal.pthread_sigmask(_signal.SIG_BLOCK, numbers))


def unblock(numbers: Iterable[int]) -> set[int]:
    """Unblock signals, which also delivers those that came meanwhile; return the former mask."""
    return set(_signal.pthread_sigmask(_signal.SIG_UNBLOCK, numbers))


def set_mask(numbers: Iterable[int]) -> None:
    """Block exactly these."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, numbers)
