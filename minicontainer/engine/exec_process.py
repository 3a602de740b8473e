"""The parent of a program that `exec` starts in a container: its streams and its exit status.

See: `execs` for how the program gets into the container; `protocol` for what this process says.
"""

from __future__ import annotations

import os
import select
import time

from minicontainer import steps
from minicontainer.contexts import ExitStack, suppress
from minicontainer.engine import bundle_reader, protocol, rehearsal
from minicontainer.engine.relay import Relay
from minicontainer.engine.stdio import Stdio
from minicontainer.kernel import process
from minicontainer.runtime.config.spec import Bundle
from minicontainer.runtime.config.spec_process import Process
from minicontainer.runtime.container import execs
from minicontainer.runtime.container.state import Store
from minicontainer.runtime.inputs import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.ahead import Ahead
    from minicontainer.engine.connections import Connection
    from minicontainer.record import Record
    from minicontainer.runtime.parent.foreground import Running

_DRAIN_S = 0.3  # for output of processes that the program has left behind
_SLOW_CLIENT_S = 10


def wait_for_program(engine: Connection, ahead: Ahead) -> int:
    """Be the parent of a program, before there is one for it, until it ends.

    Args:
        ahead: keeps what is done before that.
    """
    ahead.keep("exec")
    steps.take(become_exec_parent)
    ahead.leave()
    os.chdir("/")
    rehearsal.rehearse()
    received = engine.receive()
    if received is None:  # the engine has ended
        return 0
    asked, clients = received
    assert isinstance(asked, protocol.StartExec)
    if asked.explain:
        ahead.tell(engine.put, "exec", asked.explain)
    try:
        _run(asked, engine, clients)
    except Exception as error:  # this process ends here
        _report(engine, protocol.failure(error))
        return 1
    return 0


def _run(asked: protocol.StartExec, engine: Connection, clients: list[int]) -> None:
    program = Process.from_json(asked.process, "process")
    stdio = steps.take(take_program, program, stdin=asked.stdin)
    running = _start(asked, program, stdio)
    outputs, stdin = stdio.taken()
    relay = Relay(
        outputs, stdin, tty=program.terminal, stdin_once=True, log=None,
        detached=lambda: _report(engine, protocol.Detached()),
    )  # fmt: skip
    _report(engine, protocol.Started(pid=running.pid, at_ns=time.time_ns()))
    for descriptor, streams in zip(clients, asked.attached, strict=True):
        relay.add(descriptor, streams)
    _follow(running, relay, engine)


def become_exec_parent() -> None:
    """Take a name for ps(1), and leave the engine's session.

    This process stays beside the program, copies its streams, and reports its exit status. In a
    session of its own it hears no Ctrl-C of the terminal where the engine was started.
    """
    process.set_name(protocol.WAITING)
    process.new_session()


def take_program(program: Process, *, stdin: bool) -> Stdio:
    """Be the parent of this program: by name, and with its streams.

    Args:
        stdin: a client's input is passed on to it.
    """
    process.set_name("minic:exec")
    return Stdio(tty=program.terminal, stdin=stdin)


def _start(asked: protocol.StartExec, program: Process, stdio: Stdio) -> Running:
    store = Store(asked.state_root)
    with ExitStack() as undo:
        state, pidfd = execs.hold(asked.id, store, undo)
        spec = store.load_config(asked.id, bundle_reader.parse)
        bundle = Bundle(path=state.bundle, spec=spec.replace(process=program), text="")
        with stdio.given():
            options = Options(console=stdio.console, detached=True)
            return execs.start_exec(state, pidfd, bundle, store, options)


def _report(engine: Connection, message: Record) -> None:
    with suppress(OSError):  # the engine is gone
        engine.send(message)


def _follow(running: Running, relay: Relay, engine: Connection) -> None:
    """Copy the streams until the program has ended and its output is out."""
    ended_at: float | None = None
    listening = True
    while ended_at is None or (relay.outputs and time.monotonic() < ended_at + _DRAIN_S):
        poll = select.poll()
        interests = relay.interests()
        if ended_at is None:
            interests[running.pidfd] = select.POLLIN
        if listening:
            interests[engine.fileno()] = select.POLLIN
        for fd, events in interests.items():
            poll.register(fd, events)
        ready = dict(poll.poll(None if ended_at is None else _DRAIN_S * 1000))
        if listening and engine.fileno() in ready:
            listening = _answer(engine, relay, running)
        relay.handle(ready)
        if running.pidfd in ready:
            ended_at = time.monotonic()
            relay.let_terminal_hang_up()
    _report(engine, protocol.Exited(status=running.wait(), at_ns=time.time_ns()))
    relay.finish(_SLOW_CLIENT_S)


def _answer(engine: Connection, relay: Relay, running: Running) -> bool:
    """Do what the engine says; say whether it is still there."""
    received = engine.receive()
    if received is None:
        return False
    message, descriptors = received
    if isinstance(message, protocol.Attach):
        relay.attach(descriptors, message.streams)
    elif isinstance(message, protocol.Resize):
        relay.resize(message.height, message.width)
    elif isinstance(message, protocol.Signal):
        running.signal(message.number)
    return True
