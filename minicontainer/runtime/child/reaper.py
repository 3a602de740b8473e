"""Process 1 that stays: it starts the program, passes signals on, and reaps orphans.

The kernel makes process 1 of a PID namespace the parent of every orphan, and ends the namespace
with it. Most programs do not expect children that they did not start, and do not reap them: those
stay as zombies. See: pid_namespaces(7) "The namespace init process", wait(2).
"""

from __future__ import annotations

import os

from minicontainer.contexts import suppress
from minicontainer.kernel import pidfds, process, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

# Signals that concern this process itself, not the program.
_OWN = frozenset(
    signals.NUMBERS[f"SIG{name}"]
    for name in ("CHLD", "SEGV", "BUS", "FPE", "ILL", "ABRT", "TRAP", "SYS", "TTIN", "TTOU")
)


def run(
    forked: Callable[[], None],
    program: Callable[[], None],
    failed: Callable[[BaseException], None],
    title: tuple[str, ...] = (),
) -> NoReturn:
    """Fork; the child calls *program*, and this process stays until the child ends.

    Args:
        forked: called in this process once the child exists.
        program: becomes the program; it returns only by raising.
        failed: called in the child with the exception that *program* raised.
        title: the command line that ps(1) shows for this process.
    Raises:
        KernelError: EAGAIN: no more processes are allowed.
    """
    if os.getpid() != 1:  # without a PID namespace of its own
        process.become_subreaper()
    # Blocked before the fork, so that no signal is lost: the kernel drops signals to process 1 that
    # have no handler, but keeps a blocked one for sigwait(2).
    before = signals.block(signals.CATCHABLE)
    child = process.fork()
    if child == 0:
        try:
            signals.set_mask(before)
            program()
        except BaseException as error:  # the process ends here, and its parent says why
            failed(error)
        os._exit(125)
    if title:
        process.set_name(os.path.basename(title[0]))  # while this can be told
    forked()
    if title:
        process.set_command_line(title)
    process.close_all_but(())  # without an execve, close-on-exec descriptors stay open here
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
    """Reap every ended child; return the exit status if *child* is among them."""
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
