"""The monitor: the parent of one container's first process, for as long as that lives.

It holds the container's streams or its terminal, writes the log, serves clients that are attached,
and keeps the exit status: in exit.json, written before anybody is told. It needs neither the engine
nor the spawner, and goes on when they are killed; the next engine connects to its socket.

See: `protocol` for what it says; `relay` for the streams; `lifecycle` for the container.
"""

from __future__ import annotations

import errno
import os
import select
import time

from minicontainer import steps
from minicontainer.contexts import ExitStack, suppress
from minicontainer.engine import bundle_reader, connections, creator, protocol
from minicontainer.engine.connections import Connection
from minicontainer.engine.exits import reserve_exit, write_exit
from minicontainer.engine.log_files import LogFile
from minicontainer.engine.protocol import failure
from minicontainer.engine.relay import Relay
from minicontainer.engine.stdio import Stdio
from minicontainer.errors import Error
from minicontainer.kernel import process
from minicontainer.runtime.container.state import Store
from minicontainer.runtime.parent.taken import Taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.engine.ahead import Ahead
    from minicontainer.engine.other_runtime import OtherContainer
    from minicontainer.record import Record
    from minicontainer.runtime.parent.lifecycle import Container

_DRAIN_S = 2  # for output that is still in a pipe when the program has ended
_SLOW_CLIENT_S = 10


def wait_for_container(engine: Connection, ahead: Ahead) -> int:
    """Be a monitor, before there is a container for it, until that ends; its creator waits too.

    Args:
        ahead: keeps what is done before there is a container.
    """
    process.set_name(protocol.WAITING)
    os.chdir("/")
    helper = creator.Creator(engine, ahead)
    return _reported(engine, lambda: _hold_next(engine, helper, ahead))


def _hold_next(engine: Connection, helper: creator.Creator, ahead: Ahead) -> None:
    """Wait for the creator's container, and hold that until it ends."""
    received = helper.receive_task()
    if received is None:  # the engine has ended; or the creator was killed, and another is forked
        return
    asked, descriptors = received
    if asked.apart:
        if asked.explain:
            _explain(engine, asked.explain)
        _have_created(asked, engine, descriptors, helper)
        return
    helper.end()
    creator.follow(asked, engine, "monitor", ahead)
    steps.take(become_monitor)
    _create_and_hold(asked, engine, descriptors)


def _reported(engine: Connection, work: Callable[[], None]) -> int:
    """Do what a monitor is for; tell the engine what goes wrong; give the exit status."""
    try:
        work()
    except Exception as error:  # this process ends here
        _report(engine, failure(error))
        return 1
    return 0


def _create_and_hold(
    asked: protocol.StartContainer, engine: Connection, descriptors: list[int]
) -> None:
    """Create the container in this process, and stay until it ends."""
    steps.leave_out(asked.without)
    stdio, clients = steps.take(take_container, asked, descriptors)
    reserve_exit(asked.directory)
    log = _log_for(asked.log)
    container = _create(asked, stdio)
    _Monitor(asked, engine, container, stdio, clients, log).start(container)


def become_monitor() -> None:
    """Take a name for ps(1), leave the engine's session, and become the parent of orphans.

    In a session of its own the monitor hears no Ctrl-C of the terminal where the engine was
    started. A process of the container whose parent has ended becomes the monitor's child, so
    that somebody waits for it.
    """
    process.set_name("minic:monitor")
    process.new_session()
    process.become_subreaper()


def take_container(
    asked: protocol.StartContainer, descriptors: list[int]
) -> tuple[Stdio, list[int]]:
    """Take the program's streams, and the clients.

    The creator has made the streams, unless the monitor creates the container itself.

    Args:
        descriptors: from the creator those of the streams; then the sockets of the clients.
    Returns:
        The streams and the clients.
    Raises:
        OSError: EMFILE: the kernel has dropped descriptors for which there was no room.
    """
    count = Stdio.count_held(tty=asked.tty, stdin=asked.open_stdin) if asked.apart else 0
    if len(descriptors) < count + len(asked.attached):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if not asked.apart:
        return Stdio(tty=asked.tty, stdin=asked.open_stdin), descriptors
    stdio = Stdio.held(descriptors[:count], tty=asked.tty, stdin=asked.open_stdin)
    return stdio, descriptors[count:]


def _explain(engine: Connection, begun_ns: int) -> None:
    """Send every event from now on to the engine."""
    steps.pass_on(engine.put, "monitor", begun_ns)


def _have_created(
    asked: protocol.StartContainer,
    engine: Connection,
    descriptors: list[int],
    helper: creator.Creator,
) -> None:
    """Let the creator create and start the container, and hold it from then on.

    Args:
        descriptors: the streams, and then the sockets of the clients.
    """
    with ExitStack() as undo:
        with ExitStack() as meanwhile:
            meanwhile.callback(helper.abandon, asked)
            steps.take(become_monitor)
            stdio, clients = steps.take(take_container, asked, descriptors)
            if not asked.hold:  # otherwise the engine waits for the creator's next message alone
                engine.flush()
            reserve_exit(asked.directory)
            listener = connections.listen_at(asked.socket)
            undo.callback(os.unlink, asked.socket)
            log = _log_for(asked.log)
            steps.reach("before let-start")
            meanwhile.pop_all()
        # The program waits for this: an engine that is killed from now on finds the container.
        helper.let_start()
        container, oom, begun_ns = helper.wait(asked)
        undo.pop_all()
    monitor = _Monitor(asked, engine, container, stdio, clients, log, helper)
    helper.release()
    engine.flush()
    monitor.watch(listener, oom, begun_ns)


def _create(asked: protocol.StartContainer, stdio: Stdio) -> Container | OtherContainer:
    if not asked.runtime:
        return creator.create_container(asked, stdio)
    from minicontainer.engine import other_runtime  # few containers want one

    bundle = bundle_reader.read(asked.directory)
    return other_runtime.create(asked, bundle, Store(asked.state_root), stdio)


def _log_for(options: protocol.LogOptions) -> LogFile:
    if options.driver == "journald":
        from minicontainer.engine.journal_log import JournalLog  # few containers want it

        return JournalLog(options)
    return LogFile(options)


def _report(engine: Connection, message: Record) -> None:
    with suppress(OSError):  # the engine is gone: the exit file tells the next one
        engine.send(message)


class _Monitor:
    """What the monitor holds while its container lives."""

    def __init__(
        self,
        asked: protocol.StartContainer,
        engine: Connection,
        container: Container | OtherContainer | Taken,
        stdio: Stdio,
        clients: list[int],
        log: LogFile,
        helper: creator.Creator | None = None,
    ) -> None:
        self._asked = asked
        self._helper = helper
        self._container = container
        self._engines = [engine]
        self._listener: socket.socket | None = None
        self._oom: OomWatch | None = None
        self._started_ns = 0
        self._log = log
        outputs, stdin = stdio.taken()
        self._relay = Relay(
            outputs, stdin, tty=asked.tty, stdin_once=asked.stdin_once, log=self._log,
            detached=lambda: self._tell(protocol.Detached()),
        )  # fmt: skip
        for descriptor, streams in zip(clients, asked.attached, strict=True):
            self._relay.add(descriptor, streams)

    def start(self, container: Container | OtherContainer) -> None:
        """Start the program when the engine says so; stay until it ends.

        Args:
            container: created in this process.
        Raises:
            Error: it could not be started; nothing is left.
        """
        engine = self._engines[0]
        oom = None
        try:
            if held := steps.held():  # one step waits at a time
                oom = creator.watch_oom(container.cgroup)
            steps.reach("before report-created")
            _report(engine, protocol.Created(pid=container.pid))
            # listening before the program runs: an engine that is killed now finds the container
            listener = connections.listen_at(self._asked.socket)
            steps.reach("after listen")
            # while the engine connects the network: it costs the start nothing, and misses nothing
            if not held:
                oom = creator.watch_oom(container.cgroup)
            creator.wait_to_proceed(engine)
            container.start()
        except (Error, OSError):
            self._clear_away()
            raise
        steps.hold(None)
        begun_ns = time.time_ns()
        steps.reach("before report-started")
        _report(engine, protocol.Started(pid=container.pid, at_ns=begun_ns))
        self.watch(listener, oom, begun_ns)

    def watch(self, listener: socket.socket, oom: OomWatch | None, begun_ns: int) -> None:
        """Stay until the program, which runs, has ended.

        Args:
            listener: where a later engine connects;  oom: None without a memory controller.
            begun_ns: when the program began, since the epoch.
        """
        self._listener, self._oom, self._started_ns = listener, oom, begun_ns
        self._watch()
        self._end()

    def _clear_away(self) -> None:
        self._relay.finish(0)
        with suppress(OSError):
            os.unlink(self._asked.socket)
        self._container.delete()

    def _watch(self) -> None:
        """Copy streams and serve engines until the first process has ended."""
        pidfd = self._container.pidfd
        while True:
            ready = self._poll({pidfd: select.POLLIN, **self._relay.interests(), **self._control()})
            self._serve(ready)  # first: a window's new size counts for what is typed after it
            self._relay.handle(ready)
            if pidfd in ready:
                return

    def _poll(self, interests: dict[int, int], timeout_s: float | None = None) -> dict[int, int]:
        poll = select.poll()
        for fd, events in interests.items():
            poll.register(fd, events)
        return dict(poll.poll(None if timeout_s is None else timeout_s * 1000))

    def _control(self) -> dict[int, int]:
        """Say what to poll beside the streams."""
        found = {engine.fileno(): select.POLLIN for engine in self._engines}
        if self._listener is not None:
            found[self._listener.fileno()] = select.POLLIN
        if self._oom is not None:
            found[self._oom.fd] = self._oom.events
        if self._helper is not None:
            found[self._helper.fileno()] = select.POLLIN
        return found

    def _serve(self, ready: dict[int, int]) -> None:
        for engine in tuple(self._engines):
            if engine.fileno() in ready:
                self._answer(engine)
        if self._listener is not None and self._listener.fileno() in ready:
            engine = Connection(self._listener.accept()[0])
            self._engines.append(engine)
            pid, started = self._container.pid, self._started_ns
            _report(engine, protocol.Hello(id=self._asked.id, pid=pid, started_ns=started))
        if self._oom is not None and self._oom.fd in ready and self._oom.happened():
            self._tell(protocol.OutOfMemory())
        if self._helper is not None and self._helper.fileno() in ready:
            self._let_helper_go()

    def _let_helper_go(self) -> None:
        if self._helper is not None:
            self._helper.end()
            self._helper = None

    def _answer(self, engine: Connection) -> None:
        received = engine.receive()
        if received is None:
            engine.close()
            self._engines.remove(engine)
            return
        message, descriptors = received
        if isinstance(message, protocol.Attach):
            self._relay.attach(descriptors, message.streams)
        elif isinstance(message, protocol.Resize):
            self._relay.resize(message.height, message.width)
        elif isinstance(message, protocol.Explain):
            _explain(engine, message.begun_ns)
        elif isinstance(message, protocol.ReopenLog):
            self._log.reopen()

    def _tell(self, message: Record) -> None:
        for engine in self._engines:
            _report(engine, message)

    def _end(self) -> None:
        """Keep the exit status, say it, and take back all that was made for the container."""
        at_ns = time.time_ns()
        status = self._container.wait()
        steps.reach("before write-exit")
        self._drain()
        kills, peak = self._memory_story()
        exited = protocol.Exited(
            status=status, at_ns=at_ns, started_ns=self._started_ns,
            out_of_memory=bool(kills), peak=peak,
        )  # fmt: skip
        write_exit(self._asked.directory, exited, durable=self._asked.durable)
        steps.reach("before report-exit")
        self._tell(exited)
        steps.reach("after report-exit")
        self._let_helper_go()
        if self._oom is not None:
            self._oom.close()
        if self._listener is not None:
            self._listener.close()
        with suppress(OSError):
            os.unlink(self._asked.socket)
        with suppress(Error):  # busy: the engine removes it before the next start
            self._container.delete()
        self._serve_the_last()
        for engine in self._engines:
            engine.close()
        self._relay.finish(_SLOW_CLIENT_S)

    def _serve_the_last(self) -> None:
        """Serve what an engine sent before it heard of the end: such a client gets the log."""
        while ready := self._poll({one.fileno(): select.POLLIN for one in self._engines}, 0):
            self._serve(ready)

    def _drain(self) -> None:
        """Copy the output that is still in the pipes; the processes that held them are gone."""
        self._relay.let_terminal_hang_up()
        deadline = time.monotonic() + _DRAIN_S
        killed = False
        while self._relay.outputs and (left := deadline - time.monotonic()) > 0:
            interests = self._relay.interests()
            ready = self._poll(interests, 0 if not killed else left)
            if not ready and not killed:
                # Processes that outlive the first one hold the pipes: it had no PID namespace.
                with suppress(Error):
                    self._container.cgroup.kill()
                killed = True
            self._relay.handle(ready)

    def _memory_story(self) -> tuple[int, int]:
        """Count the processes that the kernel killed, and the memory that was used at most."""
        try:
            kills = self._container.cgroup.oom_kills()
            peak = self._container.cgroup.stats().memory.peak or 0 if kills else 0
        except (Error, OSError):
            return 0, 0
        return kills, peak
