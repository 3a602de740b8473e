"""The creator: it makes and starts a container for its monitor, and ends. So a monitor is small.

To start a container runs through a few hundred functions. Each time Python touches one of their
objects it writes a reference count, and with that the kernel copies the page, which the process
shared with the spawner until then: nine hundred pages, which a monitor would hold as long as its
container lives. In a process that ends when the program runs, they go with it.

    engine            monitor             creator                    init
      │                  │ fork ────────────► │                         │
      │                  │                    │ create_container ─────► │ a child of the monitor
      │ ◄─────────────────────────── Created  │                         │
      │ Proceed ────────────────────────────► │ start ────────────────► │ execve
      │                  │ ◄────────── Begun  │
      │ ◄─────── Started │ [pidfd, claim,     ends
                              oom]

Instead of Begun the creator sends Failed, after it has undone everything. It dies with the monitor
(PR_SET_PDEATHSIG), as init does. If the creator is killed, the monitor undoes.

See: `taken`, for what the monitor holds then.
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.cgroups import oom
from minicontainer.contexts import ExitStack, suppress
from minicontainer.engine import protocol
from minicontainer.errors import Error, InitError
from minicontainer.kernel import pidfds, process
from minicontainer.runtime import sync
from minicontainer.runtime.container import operations
from minicontainer.runtime.container.state import Store
from minicontainer.runtime.parent.taken import Taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.engine.protocol import Connection, StartContainer
    from minicontainer.runtime.parent.lifecycle import Container

_KILLED = protocol.Failed(message="the process that creates the container was killed")


class Refused(Error):
    """The creator has failed, and said why.

    Args:
        told: its message, which is passed on.
    """

    def __init__(self, told: protocol.Failed) -> None:
        super().__init__(told.message)
        self.told = told


class Begun:
    """A container whose program runs.

    Args:
        container: what this process holds of it.
        oom: watches its memory; None without a memory controller.
    """

    def __init__(self, container: Taken, oom: OomWatch | None) -> None:
        self.container = container
        self.oom = oom


def run(
    asked: StartContainer, engine: Connection, make: Callable[[], Container], unused: list[int]
) -> Begun:
    """Fork a creator; return when its container's program runs.

    Args:
        make: creates the container; it runs in the creator.
        unused: descriptors that the creator has no use for.
    Raises:
        Refused: it failed; nothing is left.
    """
    ours, theirs = protocol.pair()
    monitor_pid = os.getpid()
    pid = process.fork()
    if pid == 0:
        for descriptor in (ours.fileno(), *unused):
            os.close(descriptor)
        _work(theirs, engine, monitor_pid, make)
    theirs.close()
    received = ours.receive()
    ours.close()
    os.waitpid(pid, 0)  # it ends at once; from then on, its pages are this process's own again
    store = Store(asked.state_root)
    if received and isinstance(received[0], protocol.Begun):
        begun, (pidfd, claim, *watched) = received[0], received[1]
        taken = Taken(asked.id, store, begun.pid, pidfd, claim, begun.cgroup)
        watch = oom.taken_over(begun.oom, begun.memory, watched[0]) if watched else None
        return Begun(taken, watch)
    if received is None:  # what a killed one had made is found by the state that it had saved
        with suppress(Error):
            operations.delete(asked.id, store, force=True)
    raise Refused(_told(received))


def _work(
    monitor: Connection, engine: Connection, monitor_pid: int, make: Callable[[], Container]
) -> NoReturn:
    """Be the creator."""
    try:
        process.die_with_parent()
        if os.getppid() == monitor_pid:  # otherwise it died before it could take this process along
            process.set_name("minic:creator")
            _start(monitor, engine, make())
    except (Error, OSError) as error:
        with suppress(OSError):
            monitor.send(protocol.failure(error))
    finally:
        os._exit(0)


def _start(monitor: Connection, engine: Connection, container: Container) -> None:
    watch: OomWatch | None = None
    with ExitStack() as undo:
        undo.callback(container.delete)  # the monitor hears of a failure when nothing is left
        steps.reach("before report-created")
        engine.send(protocol.Created(pid=container.pid))
        with suppress(Error, OSError):  # without a memory controller
            watch = container.cgroup.watch_oom()
        received = engine.receive()
        if received is None or not isinstance(received[0], protocol.Proceed):
            raise InitError("the engine has given the start up")
        container.start()
        undo.pop_all()
    steps.reach("before report-begun")
    begun = protocol.Begun(
        pid=container.pid,
        cgroup=container.cgroup.path,
        oom=type(watch).__name__,
        memory=watch.directory if watch else "",
    )
    watched = [watch.fd] if watch else []
    monitor.send(begun, [container.pidfd, container.claim, *watched])


def _told(received: tuple[object, list[int]] | None) -> protocol.Failed:
    """Say why the creator failed; only the monitor, as its parent, can ask how init has ended."""
    told = received[0] if received else _KILLED
    assert isinstance(told, protocol.Failed)
    with suppress(ChildProcessError):
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended and told.message == sync.ENDED:
            told = told.replace(message=sync.why_it_ended(pidfds.exit_status(status)))
    return told
