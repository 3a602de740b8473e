"""Process 1 that stays: it starts the program, passes signals on, and reaps orphans.

The kernel gives every orphan of a PID namespace to its process 1, and ends the namespace with it.
Most programs don't expect children that they never made; what they leave unreaped stays as a
zombie. See: pid_namespaces(7) "The namespace init process", wait(2).
"""

from __future__ import annotations

import os

from minicontainer.contexts import suppress
from minicontainer.kernel import pidfds, process, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

# Signals about this process itself, not for the program.
_OWN = frozenset(
    signals.NUMBERS[f"SIG{name}"]
    for name in ("CHLD", "SEGV", "BUS", "FPE", "ILL", "ABRT", "TRAP", "SYS", "TTIN", "TTOU")
)


def run(
    forked: Callable[[], None], program: Callable[[], None], failed: Callable[[BaseException], None]
) -> NoReturn:
    """Fork; the child calls *program*, this process stays until the child ends.

    Args:
        forked: called in this process once the child exists.
        program: becomes the program; it returns only by raising.
        failed: told of what it raised, in the child.
    Raises:
        KernelError: EAGAIN: there may be no more processes.
    """
    if os.getpid() != 1:  # without a PID namespace of its own
        process.become_subreaper()
    # Blocked before the fork, so that none is lost: process 1 gets no signal that it has no
    # handler for, but a blocked one is kept for sigwait(2).
    before = signals.block(signals.CATCHABLE)
    child = process.fork()
    if child == 0:
        try:
            signals.set_mask(before)
            program()
        except BaseException as error:  # the process ends here, and its parent says why
            failed(error)
        os._exit(125)
    forked()
    process.close_all_but(())  # what was close-on-exec stays open here, without an execve
    while True:
        number = signals.wait_for(signals.CATCHABLE)
        if number == signals.SIGCHLD:
            status = _reap(child)
            if status is not None:
                os._exit(status)
        elif number not in _OWN:
            with suppress(ProcessLookupError):
                os.kill(child, number)


def _reap(child: int) -> int | None:
    """Take every ended child; give the exit status if *child* is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = pidfds.exit_status(status)
