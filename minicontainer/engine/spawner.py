"""The spawner: everything imported, a single thread, and nothing to do but fork.

To fork an interpreter that is warm takes a millisecond; to start one takes twenty, and to fork the
engine with its threads would be unsafe. So the engine starts this process once. It is an
interpreter of its own and not a fork of the engine: its memory is small, which makes each fork
fast, and an engine that has lost its spawner can start another.

    engine ── ForkAhead ──► spawner ── fork ──► a monitor, or an exec process, that waits

See: `protocol` for the messages.
"""

from __future__ import annotations

import gc
import os
import socket
import sys

from minicontainer import faults
from minicontainer.engine import exec_process, monitor, rehearsal
from minicontainer.engine.ahead import Ahead
from minicontainer.engine.connections import Connection
from minicontainer.engine.protocol import (
    ForkAhead,
    StartContainer,
    StartExec,
)
from minicontainer.kernel import process, signals
from minicontainer.runtime.parent import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# What a start would import late; here it is imported before the first one.
_WARM = (
    "minicontainer.cgroups.v1",
    "minicontainer.cgroups.v2",
    "minicontainer.cgroups.device_filter",
    "minicontainer.cgroups.oom",
    "minicontainer.kernel.memory_policy",
    "minicontainer.kernel.overlay",
    "minicontainer.kernel.scheduling",
    "minicontainer.kernel.security",
    "minicontainer.kernel.sysctls",
    "minicontainer.kernel.terminal",
    "minicontainer.runtime.child.console",
    "minicontainer.runtime.config.attribute_check",
    "minicontainer.runtime.mounts.copyup",
    "minicontainer.runtime.mounts.mount_labels",
    "minicontainer.runtime.hook_process",
    "minicontainer.runtime.parent.listener",
    "minicontainer.runtime.parent.net_devices",
    "minicontainer.runtime.parent.notify",
    "minicontainer.runtime.config.seccomp_profile",
)

# Who waits for which task.
_WAITING = {
    StartContainer.__name__: monitor.wait_for_container,
    StartExec.__name__: exec_process.wait_for_program,
}


def serve(engine: Connection) -> int:
    """Fork for every message, until the engine is gone."""
    process.set_name("minic:spawner")
    warm_up()
    # The kernel takes the exit status of each child; a monitor gives it its usual meaning again.
    signals.handle(signals.SIGCHLD, signals.SIG_IGN)
    for number in (signals.SIGINT, signals.SIGTERM):  # of the engine's terminal
        signals.handle(number, signals.SIG_IGN)
    gc.disable()
    gc.collect()
    gc.freeze()
    while (received := engine.receive()) is not None:
        message, (descriptor,) = received
        assert isinstance(message, ForkAhead)
        ahead = Ahead()
        if ahead.fork(fork_child, "spawner") == 0:
            engine.close()
            _become(message.task, descriptor, ahead)
        os.close(descriptor)
    return 0


def fork_child() -> int:
    """Fork a process that will be a container's monitor, or the parent of an exec's program.

    The spawner has one thread, and has imported everything already. It forks ahead: the process
    waits for its task, and this fork costs no start anything.
    """
    return process.fork()


def warm_up() -> None:
    """Do once, before the first fork, what every fork would do again."""
    for name in _WARM:
        __import__(name)
    rehearsal.rehearse()


def _become(task: str, descriptor: int, ahead: Ahead) -> NoReturn:
    """Be the process that does the task; it ends here."""
    status = 1
    try:
        signals.handle(signals.SIGCHLD, signals.SIG_DFL)
        status = _WAITING[task](Connection(socket.socket(fileno=descriptor)), ahead)
    finally:
        os._exit(status)


def main() -> int:
    """Serve the engine; the arguments: how many files may be open, and the connection's number."""
    interpreter.protect(sys.orig_argv, os.environ)
    process.reset_reserved_signals()  # what this process ignores, every container would ignore
    most_files, own = map(int, sys.argv[-2:])
    _, hard = process.get_rlimit("RLIMIT_NOFILE")
    process.set_rlimit("RLIMIT_NOFILE", most_files, hard)
    # Such as a socket of systemd's, or a pipe of who started the engine: a monitor, which outlives
    # the engine, would keep it open.
    process.close_all_but((own,))
    faults.begin(os.environ.get(faults.VARIABLE, ""))
    return serve(Connection(socket.socket(fileno=own)))
