"""Starts containers through the spawner, and watches their monitors until they end.

A request's thread starts a container and talks to its monitor until the program runs. From then on
one thread watches the connections to all monitors: an idle container costs no thread.

See: `protocol` for what is said.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from contextlib import suppress

from minicontainer import steps
from minicontainer.engine import (
    bundles,
    connections,
    endpoints,
    health,
    probes,
    protocol,
    relay,
    removal,
    restarts,
    shared_memory,
    tasks,
)
from minicontainer.engine.errors_of_starts import explained
from minicontainer.engine.exits import KILLED, LOST, end_of, read_exit
from minicontainer.engine.late_threads import LateThreads
from minicontainer.engine.spawning import Spawner
from minicontainer.errors import Aborted, Conflict, Error, InitError, NotModified
from minicontainer.runtime.container import operations
from minicontainer.runtime.container.state import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")
    Hear = Callable[[object], None]  # gets each message, and None at the end

    from minicontainer.engine.connections import Connection
    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine


class Supervisor:
    """The engine's side of all monitors.

    Args:
        engine: its parts are used when something happens.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.state_store = Store(os.path.join(engine.exec_root, "containers"))
        self._sockets = os.path.join(engine.exec_root, "monitors")
        os.makedirs(self._sockets, mode=0o700, exist_ok=True)
        self.spawner = Spawner()
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Connection, Hear]] = {}
        self._ends = LateThreads()  # each follows the end of a monitor
        self._closed = False
        self._wake_reads, self._wake_writes = os.pipe()
        self._epoll.register(self._wake_reads, select.EPOLLIN)
        self.ended: Callable[[Container], None] = lambda container: None
        threading.Thread(target=self._watch, name="monitors", daemon=True).start()

    # --- starting ---------------------------------------------------------------------------

    def start(self, container: Container, *, by_policy: bool = False) -> None:
        """Start a container; return when its program runs.

        Args:
            by_policy: unless the user has stopped or removed it meanwhile.
        Raises:
            NotModified: it runs already.
            Conflict: it is paused, or being removed.
            InvalidArgument: its program is missing, or no program.
            Error: whatever else went wrong. Nothing is left then.
        """
        with container.operating:
            if by_policy and (container.removed or container.state.status != "restarting"):
                raise NotModified(f"container {container.name} was stopped")
            self._check_startable(container)
            clients, container.attached = container.attached, []
            try:
                self._start(container, clients)
            except Exception as error:  # the request ends here; nothing runs
                for _, descriptor in clients:
                    with socket.socket(fileno=os.dup(descriptor)) as client:
                        relay.discard_unread(client)
                known = error if isinstance(error, (Error, OSError)) else Error(repr(error))
                self._failed(container, known)
                undone = isinstance(error, Aborted) and container.made_in == container.story
                if undone or container.config.host_config.auto_remove:
                    removal.remove_quietly(self._engine, container)
                if known is not error:
                    raise
                raise explained(known, container.program()) from None
            finally:
                for _, descriptor in clients:
                    os.close(descriptor)

    def _check_startable(self, container: Container) -> None:
        status = container.state.status
        if status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if status == "running":
            raise NotModified(f"container {container.name} is running already")
        if status in ("removing", "dead"):
            raise Conflict(
                "container is marked for removal and cannot be started: "
                f"{container.short_id} is {status}"
            )
        self.wait_for_monitor(container, 30)  # of the last start: it may still be clearing away

    def wait_for_monitor(self, container: Container, timeout_s: float) -> None:
        """Wait until a container's monitor has ended; not for ever."""
        with container.changed:
            container.changed.wait_for(lambda: container.monitor is None, timeout_s)

    def wait_for_last_words(self, container: Container, timeout_s: float) -> None:
        """Wait until all of a container's end has been told: with `--rm`, its removal too."""
        self.wait_for_monitor(container, timeout_s)
        if container.config.host_config.auto_remove:
            with container.changed:
                container.changed.wait_for(lambda: container.removed, timeout_s)

    def _start(
        self, container: Container, clients: list[tuple[protocol.AttachStreams, int]]
    ) -> None:
        engine = self._engine
        if self.state_store.has(container.id):  # a killed monitor's
            self.clear_away(container)
        container.story = engine.traces.current
        engine.kept_group.make()
        with contextlib.ExitStack() as undo:
            undo.callback(shared_memory.remove, engine.exec_root, container.id)
            spec = engine.prepared(container)
            steps.take(bundles.write_bundle, container, spec)
            attached = tuple(streams for streams, _ in clients)
            message = tasks.message_for(engine, container, spec, attached)
            if message.alone:  # before the program can run: nobody would end it if this fails
                steps.take(engine.networks.connect_container, container, 0)
                undo.callback(steps.take_back, engine.networks.disconnect_container, container)
            descriptors = [descriptor for _, descriptor in clients]
            monitor = steps.take(self.hand_to_monitor, message, descriptors)
            undo.callback(self._take_back, container, monitor)
            if not message.alone:
                self._connect(container, monitor)
            started = self.expect(monitor, protocol.Started, container)
            undo.pop_all()
        self._running(container, monitor, started)

    def _connect(self, container: Container, monitor: Connection) -> None:
        """Connect a container to its networks, when its first process is there; let it go on."""
        engine, config = self._engine, container.config.host_config
        created = self.expect(monitor, protocol.Created, container)
        steps.take(engine.networks.connect_container, container, created.pid)
        linked = endpoints.linked(config, engine.containers.find)
        engine.networks.tell_names(container, lambda: bundles.write_etc(container, linked))
        if config.without:
            steps.take(probes.look_for_leaks, config.without, created.pid)
        engine.keep(container)  # the program will run, also if this engine is killed now
        with suppress(OSError):  # it has failed, or was killed: the next message says why
            monitor.send(protocol.Proceed())

    def _take_back(self, container: Container, monitor: Connection) -> None:
        """Undo a start that failed; what a living monitor has made, it takes back itself."""
        monitor.end()
        self.clear_away(container)
        steps.take_back(self._engine.networks.disconnect_container, container)
        if "isolate-mounts" in container.config.host_config.without:
            steps.take_back(probes.take_mounts_back, container.directory)

    def socket_of(self, container: Container) -> str:
        """Name the socket where a container's monitor listens."""
        return os.path.join(self._sockets, container.id)

    def hand_to_monitor(self, message: protocol.StartContainer, clients: list[int]) -> Connection:
        """Hand the container to a monitor, which stays as long as the container.

        The spawner has forked the monitor ahead, and now forks the next one. The engine can't fork
        itself: it has threads, which fork(2) does not copy.
        """
        return self.spawner.start(message, clients)

    def explain_end(self, container: Container) -> None:
        """Have the monitor tell of the container's end, if the request is part of a story."""
        traces = self._engine.traces
        if not traces.current and traces.is_read(container.story):
            return  # it tells that story's reader, and those of all stories too
        begun_ns = traces.begun_ns()
        if begun_ns and container.monitor is not None:
            container.story = traces.current
            with contextlib.suppress(OSError):  # it ends just now
                container.monitor.send(protocol.Explain(begun_ns=begun_ns))

    def expect(
        self,
        monitor: Connection,
        kind: type[T],
        container: Container,
        who: str = "the container's monitor",
        story: str | None = None,
    ) -> T:
        """Wait for a message of that kind; pass events on.

        Args:
            monitor: the connection to it; or to the parent of an exec's program.
            who: that process, as an error names it.
            story: that the events are part of; None for the container's own.
        Raises:
            InitError: what the other side says went wrong; or it was killed.
        """
        while (received := monitor.receive()) is not None:
            message, _ = received
            if isinstance(message, kind):
                return message
            if isinstance(message, protocol.Happened):
                self._engine.explain(container, message.lines, story)
            elif isinstance(message, protocol.Waiting):
                self._hold(container, monitor, message)
            elif isinstance(message, protocol.Failed):
                raise message.error()
        raise InitError(f"{who} was killed before the program ran")

    def _hold(self, container: Container, monitor: Connection, waiting: protocol.Waiting) -> None:
        """Let the reader of the story decide when a step of monitor or init begins, and whether."""
        answer: protocol.Proceed | protocol.Abort = protocol.Proceed()
        if hold := self._engine.traces.hold_of(container.story):
            try:
                hold.wait(waiting.event, container.id, monitor.fileno())
            except Aborted:
                answer = protocol.Abort()
        else:  # the reader has just left
            answer = protocol.Abort()
        with suppress(OSError):  # it was killed: the next look at the connection says so
            monitor.send(answer)

    def _running(
        self, container: Container, monitor: Connection, started: protocol.Started
    ) -> None:
        with container.changed:
            state = container.state
            state.status = "running"
            state.pid = started.pid
            state.started_ns = started.at_ns
            state.exit_code = 0
            state.error = ""
            state.oom_killed = False
            state.stopped = False
            container.health = health.initial(container)
            self._engine.keep(container)
            self._register(container, monitor)
            container.changed.notify_all()
        self._engine.tell_start(container)
        health.watch(self._engine, container)

    def _register(self, container: Container, monitor: Connection) -> None:
        container.monitor = monitor
        self.watch(monitor, lambda message: self._hear(container, monitor, message))

    def watch(self, connection: Connection, hear: Hear) -> None:
        """Have the watching thread read a connection from now on; it must not wait in *hear*."""
        self._watched[connection.fileno()] = connection, hear
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _failed(self, container: Container, error: Error | OSError) -> None:
        told = explained(error, container.program())
        with container.changed:
            state = container.state
            state.exit_code = getattr(told, "exit_code", 128)
            state.error = str(told)
            if state.status == "restarting":
                state.status = "exited"
                state.finished_ns = time.time_ns()
            container.count_end()
            self._engine.keep(container)
            container.changed.notify_all()

    # --- watching ---------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._closed:
            for fd, _ in self._epoll.poll(self._ends.retry_s()):
                try:
                    if fd in self._watched:
                        self._read(*self._watched[fd])
                except Exception as error:  # or the thread ends here, for all of them
                    self._engine.warn(f"a monitor's message can't be handled: {error!r}")
            self._ends.start()

    def _read(self, connection: Connection, hear: Hear) -> None:
        received = connection.receive()
        if received is None:
            self._epoll.unregister(connection.fileno())
            del self._watched[connection.fileno()]
            hear(None)
        else:
            hear(received[0])

    def _hear(self, container: Container, monitor: Connection, message: object) -> None:
        if message is None:
            self._ends.add(lambda: self._gone(container, monitor))
        elif isinstance(message, protocol.Exited):
            self._exited(container, message)
        elif isinstance(message, protocol.Happened):
            self._engine.explain(container, message.lines)
        elif isinstance(message, protocol.Failed):  # the program ran, and ends with its monitor
            self._engine.warn(f"container {container.name}: its monitor ends: {message.message}")
        elif isinstance(message, protocol.OutOfMemory):
            self._engine.publish(container, "oom")
        elif isinstance(message, protocol.Detached):
            self._engine.publish(container, "detach")

    def _exited(self, container: Container, exited: protocol.Exited) -> None:
        with container.changed:
            state = container.state
            wants_restart = restarts.wants_restart(container, exited.status)
            state.status = "restarting" if wants_restart else "exited"
            state.pid = 0
            state.exit_code = exited.status
            state.oom_killed = exited.out_of_memory
            state.peak_memory = exited.peak
            state.finished_ns = exited.at_ns
            container.count_end()
            self._engine.keep(container)
            duration_s = max(0, state.finished_ns - state.started_ns) // 10**9
            self._engine.publish(
                container, "die", exitCode=str(exited.status), execDuration=str(duration_s)
            )
            container.changed.notify_all()

    def _gone(self, container: Container, monitor: Connection) -> None:
        """Do what follows the end of a monitor, which has taken back all that it had made."""
        with self._engine.traces.telling(container.story, container.id):
            self._after_end(container, monitor)

    def _after_end(self, container: Container, monitor: Connection) -> None:
        monitor.close()
        self.clear_away(container)  # it may have been killed at any moment
        if container.state.is_running():  # and its container with it
            self._exited(container, end_of(container.directory, container.state.started_ns))
        steps.take_back(self._engine.networks.disconnect_container, container)
        with container.changed:
            container.monitor = None
            container.changed.notify_all()
        self.ended(container)

    def clear_away(self, container: Container) -> None:
        """Remove what a killed monitor has left: processes, cgroup, state, socket."""
        shared_memory.remove(self._engine.exec_root, container.id)
        with suppress(FileNotFoundError):
            os.unlink(self.socket_of(container))
        try:
            operations.delete(container.id, self.state_store, force=True)
        except (Error, OSError) as error:
            self._engine.warn(f"container {container.name}: can't be cleared away: {error}")

    def sweep(self, running: set[str]) -> None:
        """Remove what killed monitors left of containers that do not run.

        Args:
            running: IDs of those whose monitors live.
        """
        for name in self.state_store.names():
            if name not in running:
                with suppress(Error):  # its monitor lives, and clears away itself
                    operations.delete(name, self.state_store, force=True)
        for name in os.listdir(self._sockets):
            if name not in running:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._sockets, name))

    def adopt(self, container: Container) -> bool:
        """Connect to the monitor of a container that an earlier engine started.

        That engine may have been killed before it noted the start, or the end.

        Returns:
            Whether the container runs; if not, its end is noted.
        """
        if self._adopted(container):
            return True
        state = container.state
        if state.is_running():
            rebooted = not self.state_store.has(container.id)
            self.clear_away(container)
            unknown = LOST if rebooted else KILLED
            self._exited(container, end_of(container.directory, state.started_ns, unknown))
            return False
        exited = read_exit(container.directory)
        if exited and exited.at_ns > state.finished_ns:  # the start was not noted either
            self._exited(container, exited)
        return False

    def _kernel_status(self, container: Container) -> str:
        state = self.state_store.load(container.id)
        return operations.status(state, self.state_store) if state else "stopped"

    def _adopted(self, container: Container) -> bool:
        try:
            monitor = connections.connect_to(self.socket_of(container))
        except OSError:
            return False
        received = monitor.receive()
        if received is None or not isinstance(received[0], protocol.Hello):
            monitor.close()
            return False
        hello = received[0]
        with container.changed:
            state = container.state
            # the earlier engine may have been killed before it noted the last change
            is_paused = self._kernel_status(container) == "paused"
            state.status = "paused" if is_paused else "running"
            state.started_ns = hello.started_ns
            state.pid = hello.pid
            container.health = health.initial(container)
            self._engine.keep(container)
            self._register(container, monitor)
        health.watch(self._engine, container)
        return True

    def close(self) -> None:
        """Stop watching; the monitors go on without this engine."""
        self._closed = True
        os.write(self._wake_writes, b"x")
        self.spawner.close()
