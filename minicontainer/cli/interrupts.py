"""Signals that come before a container runs: the command ends, and takes back what it began.

Once the container runs, signals are its program's: `hijack`.

See: signal(7).
"""

from __future__ import annotations

from minicontainer.contexts import contextmanager
from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Of the signals that this process can catch, those that say nothing about the program.
_OWN = frozenset((signals.SIGCHLD, signals.SIGPIPE, signals.SIGWINCH, signals.NUMBERS["SIGURG"],
                  signals.SIGTTOU, signals.NUMBERS["SIGTTIN"]))  # fmt: skip
FOR_PROGRAM = frozenset(number for number in signals.CATCHABLE if number < 32) - _OWN


class Notice:
    """What to do about a signal: end at once, or a moment later."""

    def __init__(self) -> None:
        self._holds = False
        self._came = 0

    def __call__(self, number: int, _: object) -> None:
        """Hear of a signal; the user's second one is always obeyed.

        Raises:
            Interrupted: now is a good moment to end.
        """
        if self._holds and not self._came:
            self._came = number
            return
        raise signals.Interrupted(number)

    @contextmanager
    def held(self, wanted: bool = True) -> Iterator[None]:
        """Let no signal in while something is half done.

        Args:
            wanted: False where the engine undoes by itself what is half done: `--step`.
        Raises:
            Interrupted: one came meanwhile.
        """
        self._holds = wanted
        try:
            yield
        finally:
            self._holds = False
        if self._came:
            raise signals.Interrupted(self._came)


@contextmanager
def noticed() -> Iterator[Notice]:
    """Let a signal that ends a process raise `Interrupted` meanwhile."""
    notice = Notice()
    former = {
        number: signals.handle(number, notice)
        for number in signals.ENDING
        if signals.handler_of(number) != signals.SIG_IGN  # as nohup(1) has it
    }
    try:
        yield notice
    finally:
        for number, meaning in former.items():
            signals.handle(number, meaning)


@contextmanager
def kept(wanted: bool) -> Iterator[None]:
    """Keep the other signals for the program, until `hijack` unblocks them: it runs then."""
    mask = signals.block(FOR_PROGRAM - signals.ENDING if wanted else ())
    try:
        yield
    finally:
        signals.set_mask(mask)
