"""Programs that are started in running containers: `docker exec`.

See: Docker Engine API, "Exec"; `exec_process` for the program's parent.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from minicontainer import steps
from minicontainer.engine import detach_keys, protocol, specs
from minicontainer.engine.errors_of_starts import EXECUTING, NoProgram, explained
from minicontainer.errors import Conflict, Error, InvalidArgument, NotFound
from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.connections import Connection
    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine
    from minicontainer.engine.options import ClientStream

    Json = dict[str, Any]

EXIT_NOT_STARTED = 126
_KILLED = 137
_REMEMBERED_S = 300  # an exec that has ended, for who asks for its exit status


class Exec:
    """One program: asked for, running, or ended.

    Attributes:
        exit_code: None until it has ended.
        ended_s: when that was, by time.monotonic.
        life: how often its container had ended when this was asked for.
        story: that its start is part of; "" for none. Its container's end may be part of another.
        client: a copy of the client's socket, until the exit status is known; -1 without one. The
            client asks for the status when its stream ends, and that is when the last copy is
            closed.
    """

    def __init__(self, identifier: str, container: Container, body: Json) -> None:
        self.id = identifier
        self.container = container
        self.body = body
        self.pid = 0
        self.running = False
        self.exit_code: int | None = None
        self.ended_s = 0.0
        self.life = container.exits
        self.client = -1
        self.story = ""
        self.process: Connection | None = None
        self.lock = threading.Lock()

    def is_of_an_earlier_life(self) -> bool:
        """Report whether the container has ended since this was asked for."""
        return self.container.exits > self.life

    def let_client_go(self) -> None:
        """Close this process's copy of the client's socket."""
        if self.client >= 0:
            os.close(self.client)
            self.client = -1

    @property
    def program(self) -> tuple[str, ...]:
        """Give the program with its arguments."""
        return tuple(self.body.get("Cmd") or ())


class Execs:
    """The execs of an engine, for as long as their containers exist.

    Args:
        engine: with its other parts.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_id: dict[str, Exec] = {}

    def find(self, exec_id: str) -> Exec:
        """Find an exec by its ID.

        Raises:
            NotFound: there is none.
        """
        found = self._by_id.get(exec_id)
        if found is None or found.container.removed:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    def create(self, ref: str, body: Json) -> Json:
        """Register a program; `start` starts it."""
        container = self._engine.containers.find(ref)
        _check_running(container, ref)
        if isinstance(body.get("Cmd"), str):
            body = {**body, "Cmd": [body["Cmd"]]}
        if not body.get("Cmd"):
            raise InvalidArgument("No exec command specified")
        detach_keys.parse(body.get("DetachKeys") or "")
        made = Exec(os.urandom(32).hex(), container, body)
        self._process(made)  # what makes no sense is refused here
        self._forget_old()
        self._by_id[made.id] = made
        with container.changed:
            container.exec_ids.append(made.id)
        self._publish(made, f"exec_create: {' '.join(made.program)}")
        return {"Id": made.id}

    def _forget_old(self) -> None:
        past = time.monotonic() - _REMEMBERED_S
        for identifier, one in tuple(self._by_id.items()):
            if one.container.removed or (one.exit_code is not None and one.ended_s < past):
                self._by_id.pop(identifier, None)

    def _process(self, one: Exec) -> Json:
        container = one.container
        lowers = self._engine.lowers_of(container)
        config = self._engine.linked_config(container)
        process = specs.exec_process(config, container.id, container.directory, lowers, one.body)
        return process.to_json()

    def start(self, exec_id: str, body: Json, connection: ClientStream | None) -> None:
        """Start the program; its streams are the client's, or nobody's.

        What goes wrong then is written into the stream, as the status has been sent.
        """
        one = self.find(exec_id)
        if one.is_of_an_earlier_life() and one.exit_code is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        with one.lock:
            _check_running(one.container, one.container.id)  # if not now, perhaps later
            if one.running or one.exit_code is not None:
                raise Conflict(f"Error: Exec command {exec_id} is already running or has run")
            one.running = True
        try:
            if connection is not None:
                connection.accept()
                one.client = os.dup(connection.socket.fileno())
            self._start(one, body, connection)
        except (Error, OSError) as error:
            told = explained(error, one.program, EXECUTING)
            one.ended_s = time.monotonic()
            one.exit_code = getattr(told, "exit_code", EXIT_NOT_STARTED)
            one.running = False
            one.let_client_go()
            self._forget(one)
            if connection is None or not isinstance(told, NoProgram):
                raise told from None
            _tell(connection, str(told), framed=_is_framed(body))

    def _start(self, one: Exec, body: Json, connection: ClientStream | None) -> None:
        message = protocol.StartExec(
            id=one.container.id,
            state_root=self._engine.supervisor.state_store.root,
            process=self._with_size(one, body),
            stdin=bool(one.body.get("AttachStdin")) and connection is not None,
            attached=(self._streams(one, body, connection),) if connection else (),
            explain=self._engine.traces.begun_ns(),
        )
        clients = [connection.socket.fileno()] if connection else []
        one.story = self._engine.traces.current
        self._engine.traces.concern(one.container.id)
        process = steps.take(self.hand_to_exec_parent, message, clients)
        with contextlib.ExitStack() as undo:
            undo.callback(process.close)
            self._publish(one, f"exec_start: {' '.join(one.program)}")
            who = "the process that starts it"
            started = self._engine.supervisor.expect(
                process, protocol.Started, one.container, who, one.story
            )
            undo.pop_all()
        one.pid = started.pid
        one.process = process
        self._engine.supervisor.watch(process, lambda message: self._hear(one, message))

    def hand_to_exec_parent(self, message: protocol.StartExec, clients: list[int]) -> Connection:
        """Hand the program to a process that will be its parent, and stays as long as the program.

        The spawner has forked that process ahead, and now forks the next one. The container's
        monitor can't be the parent: it serves the first process, and would have to fork with its
        streams open.
        """
        return self._engine.supervisor.spawner.start(message, clients)

    def _with_size(self, one: Exec, body: Json) -> Json:
        process = self._process(one)
        size: list[int] = body.get("ConsoleSize") or one.body.get("ConsoleSize") or []
        if process.get("terminal") and len(size) == 2 and any(size):
            return {**process, "consoleSize": {"height": size[0], "width": size[1]}}
        return process

    def _streams(self, one: Exec, body: Json, connection: ClientStream) -> protocol.AttachStreams:
        asked = one.body
        return protocol.AttachStreams(
            multiplex=_is_framed(body),
            stdin=bool(asked.get("AttachStdin")),
            stdout=bool(asked.get("AttachStdout")),
            stderr=bool(asked.get("AttachStderr")),
            detach_keys=detach_keys.parse(asked.get("DetachKeys") or "").hex(),
            early=connection.buffered.hex(),
        )

    def _hear(self, one: Exec, message: object) -> None:
        """Note what the program's parent says; None is its end."""
        if isinstance(message, protocol.Happened):
            self._engine.explain(one.container, message.lines, one.story)
        elif isinstance(message, protocol.Detached):
            one.let_client_go()
            self._publish(one, "exec_detach")
        elif isinstance(message, protocol.Exited):
            self._ended(one, message.status)
        elif message is None:
            self._ended(one, _KILLED)  # if nothing was said before: its parent was killed
            with one.lock:
                if one.process is not None:
                    one.process.close()
                    one.process = None

    def _ended(self, one: Exec, status: int) -> None:
        """Note the end of a program, once; then its client may see the end of its stream."""
        if one.exit_code is not None:
            return
        one.ended_s = time.monotonic()
        one.exit_code = status
        one.running = False
        self._forget(one)
        self._publish(one, "exec_die", exitCode=str(status))
        one.let_client_go()

    def _forget(self, one: Exec) -> None:
        with one.container.changed:
            if one.id in one.container.exec_ids:
                one.container.exec_ids.remove(one.id)

    def _publish(self, one: Exec, action: str, **attributes: str) -> None:
        self._engine.publish(one.container, action, execID=one.id, **attributes)

    def resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of the terminal's window."""
        one = self.find(exec_id)
        with one.lock:
            try:
                if one.process is not None and not one.is_of_an_earlier_life():
                    one.process.send(protocol.Resize(height=height, width=width))
                    return
            except OSError:
                pass  # the program's parent is just ending
        raise Conflict(f"exec {exec_id} is not running")

    def kill(self, exec_id: str) -> None:
        """Kill the program; nothing happens when it has ended."""
        one = self.find(exec_id)
        with one.lock, contextlib.suppress(OSError):
            if one.process is not None:
                one.process.send(protocol.Signal(number=signals.SIGKILL))

    def inspect(self, exec_id: str) -> Json:
        """Show an exec."""
        one = self.find(exec_id)
        asked = one.body
        return {
            "ID": one.id,
            "Running": one.running,
            "ExitCode": one.exit_code,
            "ProcessConfig": {
                "tty": bool(asked.get("Tty")),
                "entrypoint": one.program[0],
                "arguments": list(one.program[1:]),
                "privileged": bool(asked.get("Privileged")),
                "user": asked.get("User") or "",
            },
            "OpenStdin": bool(asked.get("AttachStdin")),
            "OpenStderr": bool(asked.get("AttachStderr")),
            "OpenStdout": bool(asked.get("AttachStdout")),
            "CanRemove": one.exit_code is not None,
            "ContainerID": one.container.id,
            "DetachKeys": asked.get("DetachKeys") or "",
            "Pid": one.pid,
        }


def _is_framed(body: Json) -> bool:
    """Say how the output is sent: the client says it when it starts the program, not before."""
    return not body.get("Tty")


def _tell(connection: ClientStream, message: str, *, framed: bool) -> None:
    data = f"{message}\r\n".encode()
    if framed:
        data = b"\1\0\0\0" + len(data).to_bytes(4, "big") + data
    with contextlib.suppress(OSError):  # the client is gone
        connection.socket.sendall(data)


def _check_running(container: Container, ref: str) -> None:
    status = container.state.status
    if status == "paused":
        raise Conflict(f"Container {ref} is paused, unpause the container before exec")
    if status == "restarting":
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    if status != "running":
        raise Conflict(f"container {container.id} is not running")
