"""The creator: it makes and starts a container for its monitor, and ends. So a monitor is small.

To start a container runs through a few hundred functions. Each time Python touches one of their
objects it writes a reference count, and with that the kernel copies the page, which the process
shared with the spawner until then: nine hundred pages, which a monitor would hold as long as its
container lives. In a process that ends when the program runs, they go with it.

    engine           monitor            creator                   init
      │                 │ fork ───────────────► │ waits                   │
      │ StartContainer ───────────────────────► │ create_container ─────► │ the monitor's child
      │                 │ ◄────── StartContainer│                         │ works
      │                 │   [streams, clients]  │                         │
      │ ◄────────────────────────────── Created │                         │
      │                 │ Proceed ────────────► │                         │
      │ Proceed ──────────────────────────────► │ start ────────────────► │ execve
      │ ◄────────────────────────────── Started │                         │
      │                 │ ◄────────────── Begun │ ends
      │                 │   [pidfd, claim, oom] │

The creator hears the engine first, and gives the monitor its part as soon as init is there. While
init works, the monitor prepares what it needs to hold the container: room for exit.json, the socket
for the next engine, the log. Only then the program may run, which is the monitor's Proceed. So no
program has run where one of these fails (the disk is full), and each program that runs can be found
by an engine that is started later.

Some containers can't change hands (`Spec.may_be_handed_over`). Then the creator passes the message
on and ends, and the monitor does everything.

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
from minicontainer.errors import Aborted, Error, InitError
from minicontainer.event import Event
from minicontainer.kernel import pidfds, process, signals
from minicontainer.runtime import sync
from minicontainer.runtime.container import operations
from minicontainer.runtime.container.state import Store
from minicontainer.runtime.inputs import Options
from minicontainer.runtime.parent import lifecycle
from minicontainer.runtime.parent.taken import Taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.engine.ahead import Ahead
    from minicontainer.engine.connections import Connection
    from minicontainer.engine.protocol import StartContainer
    from minicontainer.runtime.parent.lifecycle import Container

_KILLED = protocol.Failed(message="the process that creates the container was killed")


class Creator:
    """A creator, which waits for its container.

    Args:
        engine: the monitor's connection to the engine; the creator inherits it.
        ahead: keeps its fork.
    """

    def __init__(self, engine: Connection, ahead: Ahead) -> None:
        self._connection, theirs = connections.pair()
        monitor_pid = os.getpid()
        self._pid = ahead.fork(fork_creator, "monitor")
        if self._pid == 0:
            self._connection.close()
            _be_creator(theirs, engine, monitor_pid, ahead)
        theirs.close()

    def fileno(self) -> int:
        """Give a descriptor that can be read when the creator has ended, for poll(2)."""
        return self._connection.fileno()

    def release(self) -> None:
        """Let it end: this process holds the container now."""
        self._connection.say_no_more()

    def receive_task(self) -> tuple[StartContainer, list[int]] | None:
        """Wait for the container that it has begun to create; None if it has ended instead.

        Returns:
            The engine's message; and the streams, if the creator makes the container, before the
            sockets of the clients.
        Raises:
            Error: it could not begin.
        """
        received = self._connection.receive()
        if received is None:
            self.end()
            return None
        if isinstance(received[0], protocol.Failed):
            self.end()
            raise received[0].error()
        asked, descriptors = received
        assert isinstance(asked, protocol.StartContainer)
        return asked, descriptors

    def let_start(self) -> None:
        """Let the program run: this process is ready for it."""
        with suppress(OSError):  # it has failed, or was killed: `wait` says so
            self._connection.send(protocol.Proceed())

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


def fork_creator() -> int:
    """Fork the creator, which will make and start the container for the monitor, and end.

    What a start writes to, the kernel copies for the process that writes. These pages go with the
    creator, and the monitor, which stays as long as its container, remains small.
    """
    return process.fork()


def become_creator() -> None:
    """Take a name for ps(1), and be killed when the monitor ends.

    What the creator has made until then, the monitor would have to undo.
    """
    process.set_name(protocol.WAITING)
    process.die_with_parent()


def _be_creator(
    monitor: Connection, engine: Connection, monitor_pid: int, ahead: Ahead
) -> NoReturn:
    """Wait for a container; create and start it."""
    try:
        ahead.keep("creator")
        steps.take(become_creator)
        ahead.leave()
        rehearsal.rehearse()
        # otherwise the monitor died before it could take this process along
        if os.getppid() == monitor_pid and (received := engine.receive()) is not None:
            asked, clients = received
            assert isinstance(asked, protocol.StartContainer)
            if asked.apart:
                _create_and_start(asked, monitor, engine, clients, ahead)
            else:
                monitor.send(asked, clients)
    except Exception as error:  # this process ends here
        engine.flush()  # the events of what was undone
        with suppress(OSError):
            monitor.send(protocol.failure(error))
    finally:
        os._exit(0)


def _create_and_start(
    asked: StartContainer,
    monitor: Connection,
    engine: Connection,
    clients: list[int],
    ahead: Ahead,
) -> None:
    follow(asked, engine, "creator", ahead)
    stdio = steps.take(make_streams, asked)
    watches: list[OomWatch | None] = []

    def meanwhile(cgroup: Cgroup) -> None:
        steps.take(give_streams, asked, stdio, monitor, engine, clients)
        watches.append(watch_oom(cgroup))

    container = create_container(asked, stdio, meanwhile)
    _start(monitor, engine, container, watches[0], alone=asked.alone)


def make_streams(asked: StartContainer) -> Stdio:
    """Be the creator of this container: by name; and make the program's streams."""
    process.set_name("minic:creator")
    return Stdio(tty=asked.tty, stdin=asked.open_stdin)


def give_streams(
    asked: StartContainer,
    stdio: Stdio,
    monitor: Connection,
    engine: Connection,
    clients: list[int],
) -> None:
    """Give the monitor the ends of the streams that are not the program's; init works meanwhile.

    The monitor copies them to the log and to clients as long as the container lives. It hears here
    which container it is.
    """
    engine.flush()  # before the monitor, on the same connection, tells anything of its own
    monitor.send(asked, [*stdio.to_hold(), *clients])
    stdio.held_elsewhere()
    for client in clients:
        os.close(client)


def follow(asked: StartContainer, engine: Connection, actor: str, ahead: Ahead) -> None:
    """If somebody follows the start, tell the engine of each step; wait before each, if asked to.

    Args:
        actor: the name of this process in the events.
        ahead: what was done before there was a container: it is told first.
    """
    if asked.explain:
        ahead.tell(engine.put, actor, asked.explain)
    if asked.hold:
        steps.hold(lambda event: _wait_for_engine(engine, event))


def _wait_for_engine(engine: Connection, event: Event) -> None:
    """Wait until the engine lets the step begin.

    Raises:
        Aborted: it does not; or it is gone, and nobody could ever go on.
    """
    with suppress(OSError):  # the engine is gone: the next line finds out
        engine.send(protocol.Waiting(event=event))
    received = engine.receive()
    if received is None or not isinstance(received[0], protocol.Proceed):
        raise Aborted(f"aborted before {event.step}: everything was undone")


def create_container(
    asked: StartContainer, stdio: Stdio, meanwhile: Callable[[Cgroup], None] | None = None
) -> Container:
    """Create a container of the engine's.

    Args:
        meanwhile: called while init works; the container will be held by this process's parent.
    Raises:
        Error: nothing is left.
    """
    bundle = bundle_reader.read(asked.directory)
    with stdio.given():
        # Not detached: a container whose monitor is killed could not be waited for, nor read from.
        options = Options(
            console=stdio.console, for_parent=meanwhile is not None, meanwhile=meanwhile
        )
        return lifecycle.create_container(asked.id, bundle, Store(asked.state_root), options)


def _start(
    monitor: Connection,
    engine: Connection,
    container: Container,
    watch: OomWatch | None,
    *,
    alone: bool,
) -> None:
    with ExitStack() as undo:
        undo.callback(container.delete)  # the monitor hears of a failure when nothing is left
        if not alone:
            steps.reach("before report-created")
            engine.send(protocol.Created(pid=container.pid))
            wait_to_proceed(engine)
        wait_to_proceed(monitor)
        container.start()
        undo.pop_all()
    steps.hold(None)
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


def watch_oom(cgroup: Cgroup) -> OomWatch | None:
    """Watch a container's memory; None without a memory controller."""
    try:
        return steps.take(watch_memory, cgroup)
    except Aborted:
        raise
    except (Error, OSError):
        return None


def watch_memory(cgroup: Cgroup) -> OomWatch:
    """Ask the kernel to say when the container has used up its memory limit.

    The kernel then kills a process of the container. The monitor notes it for the exit status,
    and the engine publishes an `oom` event.
    """
    return cgroup.watch_oom()


def wait_to_proceed(other: Connection) -> None:
    """Wait for Proceed, when the container is created.

    Args:
        other: the connection to the engine, or to the monitor.
    Raises:
        InitError: the engine is gone, or could not connect the network.
    """
    received = other.receive()
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
