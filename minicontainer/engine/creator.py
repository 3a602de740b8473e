"""The creator: it makes and starts a container for its monitor, and ends. So a monitor is small.

To start a container runs through a few hundred functions. Each time Python touches one of their
objects it writes a reference count, and with that the kernel copies the page, which the process
shared with the spawner until then: nine hundred pages, which a monitor would hold as long as its
container lives. In a process that ends when the program runs, they go with it.

    engine            monitor             creator                    init
      │                  │ fork ────────────► │ waits                   │
      │ StartContainer ► │                    │                         │
      │                  │ StartContainer ──► │                         │
      │                  │   [streams]        │ create_container ─────► │ a child of the monitor
      │ ◄─────────────────────────── Created  │                         │
      │ Proceed ────────────────────────────► │ start ────────────────► │ execve
      │ ◄─────────────────────────── Started  │                         │
      │                  │ ◄────────── Begun  ends
      │                  │   [pidfd, claim,
      │                  │    oom]

Instead of Begun the creator sends Failed, after it has undone everything. It dies with the monitor
(PR_SET_PDEATHSIG), as init does. If the creator is killed, the monitor undoes.

Monitor and creator are forked ahead, before there is a container for them: `spawning`.

See: `taken`, for what the monitor holds then.
"""

from __future__ import annotations

import os
import time

from minicontainer import steps
from minicontainer.cgroups import oom
from minicontainer.contexts import ExitStack, suppress
from minicontainer.engine import bundle_reader, connections, protocol, rehearsal
from minicontainer.engine.stdio import Stdio
from minicontainer.errors import Error, InitError
from minicontainer.kernel import pidfds, process, signals
from minicontainer.runtime import sync
from minicontainer.runtime.container import operations
from minicontainer.runtime.container.state import Store
from minicontainer.runtime.inputs import Options
from minicontainer.runtime.parent import lifecycle
from minicontainer.runtime.parent.taken import Taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.engine.connections import Connection
    from minicontainer.engine.protocol import StartContainer
    from minicontainer.runtime.parent.lifecycle import Container

_KILLED = protocol.Failed(message="the process that creates the container was killed")


class KilledInWaiting(Error):
    """The creator was killed before it had taken the request: another one can be asked."""


class Creator:
    """A creator, which waits for its container.

    Args:
        engine: the monitor's connection to the engine; the creator inherits it.
    """

    def __init__(self, engine: Connection) -> None:
        self._connection, theirs = connections.pair()
        monitor_pid = os.getpid()
        self._pid = process.fork()
        if self._pid == 0:
            self._connection.close()
            _be_creator(theirs, engine, monitor_pid)
        theirs.close()

    def fileno(self) -> int:
        """Give a descriptor that can be read when the creator has ended, for poll(2)."""
        return self._connection.fileno()

    def release(self) -> None:
        """Let it end: this process holds the container now."""
        self._connection.say_no_more()

    def begin(self, asked: StartContainer, stdio: Stdio) -> None:
        """Have it create a container, and start that when the engine says so.

        Args:
            stdio: the streams; what the program gets of them is passed on.
        """
        with suppress(OSError):  # it was killed: `wait` says so
            self._connection.send(asked, stdio.to_pass())
        stdio.passed()

    def wait(self, asked: StartContainer) -> tuple[Taken, OomWatch | None, int]:
        """Wait until the program runs.

        Returns:
            What this process holds of the container; what watches its memory, or None without a
            memory controller; and when its program began, in nanoseconds since the epoch.
        Raises:
            Error: why it could not be started; nothing is left.
        """
        received = self._connection.receive()
        if received and isinstance(received[0], protocol.Begun):
            begun, (pidfd, claim, *watched) = received[0], received[1]
            store = Store(asked.state_root)
            taken = Taken(asked.id, store, begun.pid, pidfd, claim, begun.cgroup)
            watch = oom.taken_over(begun.oom, begun.memory, watched[0]) if watched else None
            return taken, watch, begun.at_ns
        self.end()
        if received is None:
            _undo(asked)
            if self._connection.left_unread:
                raise KilledInWaiting(_KILLED.message)
        raise _told(received).error()

    def abandon(self, asked: StartContainer) -> None:
        """Stop it in the midst of its work, and undo that."""
        os.kill(self._pid, signals.SIGKILL)
        self.end()
        _undo(asked)

    def end(self) -> None:
        """Wait for its end: it ends with its work, or when this connection is closed."""
        self._connection.close()
        os.waitpid(self._pid, 0)


def _undo(asked: StartContainer) -> None:
    """Take back what a killed creator has made: it is found by the state that it had saved."""
    with suppress(Error):
        operations.delete(asked.id, Store(asked.state_root), force=True)


def _be_creator(monitor: Connection, engine: Connection, monitor_pid: int) -> NoReturn:
    """Wait for a container; create and start it."""
    try:
        process.die_with_parent()
        process.set_name(protocol.WAITING)
        rehearsal.rehearse()
        # otherwise the monitor died before it could take this process along
        if os.getppid() == monitor_pid and (received := monitor.receive()) is not None:
            process.set_name("minic:creator")
            asked, descriptors = received
            assert isinstance(asked, protocol.StartContainer)
            stdio = Stdio.of(descriptors, tty=asked.tty)
            container = create_container(asked, stdio, for_parent=True)
            _start(monitor, engine, container, alone=asked.alone)
    except (Error, OSError) as error:
        with suppress(OSError):
            monitor.send(protocol.failure(error))
    finally:
        os._exit(0)


def create_container(asked: StartContainer, stdio: Stdio, *, for_parent: bool = False) -> Container:
    """Create a container of the engine's.

    Args:
        for_parent: it will be held by this process's parent.
    Raises:
        Error: nothing is left.
    """
    bundle = bundle_reader.read(asked.directory)
    with stdio.given():
        # Not detached: a container whose monitor is killed could not be waited for, nor read from.
        options = Options(console=stdio.console, for_parent=for_parent)
        return lifecycle.create_container(asked.id, bundle, Store(asked.state_root), options)


def _start(monitor: Connection, engine: Connection, container: Container, *, alone: bool) -> None:
    watch: OomWatch | None = None
    with ExitStack() as undo:
        undo.callback(container.delete)  # the monitor hears of a failure when nothing is left
        if not alone:
            steps.reach("before report-created")
            engine.send(protocol.Created(pid=container.pid))
        with suppress(Error, OSError):  # without a memory controller
            watch = container.cgroup.watch_oom()
        if not alone:
            wait_to_proceed(engine)
        container.start()
        undo.pop_all()
    at_ns = time.time_ns()
    steps.reach("before report-started")
    # before the monitor reports anything itself, such as an end
    with suppress(OSError):  # the engine is gone: the next one finds the container
        engine.send(protocol.Started(pid=container.pid, at_ns=at_ns))
    steps.reach("before report-begun")
    begun = protocol.Begun(
        pid=container.pid,
        at_ns=at_ns,
        cgroup=container.cgroup.path,
        oom=type(watch).__name__ if watch else "",
        memory=watch.directory if watch else "",
    )
    watched = [watch.fd] if watch else []
    monitor.send(begun, [container.pidfd, container.claim, *watched])
    # Wait until the monitor is at work: `release`. To end a process takes the kernel a millisecond,
    # on the processor where the monitor, which has just got its message, is about to wake.
    monitor.receive()


def wait_to_proceed(engine: Connection) -> None:
    """Wait for Proceed, when the container is created.

    Raises:
        InitError: the engine is gone, or could not connect the network.
    """
    received = engine.receive()
    if received is None or not isinstance(received[0], protocol.Proceed):
        raise InitError("the engine has given the start up")


def _told(received: tuple[object, list[int]] | None) -> protocol.Failed:
    """Say why the creator failed; only the monitor, as its parent, can ask how init has ended."""
    told = received[0] if received else _KILLED
    assert isinstance(told, protocol.Failed)
    with suppress(ChildProcessError):
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended and told.message == sync.ENDED:
            told = told.replace(message=sync.why_it_ended(pidfds.exit_status(status)))
    return told
