"""create, run: from a bundle to a container."""

from __future__ import annotations

import contextlib
import os

from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.runtime import foreground, lifecycle
from minicontainer.runtime.context import Options
from minicontainer.runtime.spec import read_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from contextlib import ExitStack

    from minicontainer.runtime.command_line import Asked
    from minicontainer.runtime.lifecycle import Container
    from minicontainer.runtime.main import Session
    from minicontainer.runtime.spec import Bundle


def create(session: Session, asked: Asked) -> int:
    """Create a container; return while it waits."""
    name = asked.only_argument()
    bundle = _read(asked)
    _check_console(bundle, asked, detached=True)
    with foreground.interruptible(), contextlib.ExitStack() as undo:
        container = _create(session, asked, name, bundle, _connect(asked, undo))
        with contextlib.ExitStack() as half_made:
            half_made.callback(container.delete)
            _write_pid_file(asked, container.pid)
            half_made.pop_all()
        container.leave()
    return 0


def run(session: Session, asked: Asked) -> int:
    """Create and start a container; wait for it and delete it, unless it shall be detached."""
    name = asked.only_argument()
    bundle = _read(asked)
    detached = asked.has("detach")
    _check_console(bundle, asked, detached=detached)
    with foreground.interruptible(), contextlib.ExitStack() as undo:
        ours, theirs = None, _connect(asked, undo)
        if bundle.spec.process.terminal and theirs is None:
            ours, theirs = _socket_pair(undo)
        container = _create(session, asked, name, bundle, theirs)
        with contextlib.ExitStack() as half_made:
            half_made.callback(container.delete)
            _write_pid_file(asked, container.pid)
            container.start()
            if detached:
                half_made.pop_all()
                container.leave()
                return 0
            status = _follow(session, container, ours)
            if asked.has("keep"):
                half_made.pop_all()
            return status


def _read(asked: Asked) -> Bundle:
    return read_bundle(asked.value("bundle", "."), asked.value("config", "config.json"))


def _create(
    session: Session, asked: Asked, name: str, bundle: Bundle, console: socket.socket | None
) -> Container:
    preserved, listening = asked.number("preserve-fds"), session.environ.get("LISTEN_FDS", "")
    if listening.isdecimal():
        # Sockets that systemd opened for the program: sd_listen_fds(3) looks for them from 3 on.
        preserved += int(listening)
        told = (*bundle.spec.process.env, f"LISTEN_FDS={listening}", "LISTEN_PID=1")
        process = bundle.spec.process.replace(env=told)
        bundle = bundle.replace(spec=bundle.spec.replace(process=process))
    for fd in range(3, 3 + preserved):
        _check_open(fd)
    options = Options(
        console=console,
        detached=asked.has("detach") or session.command == "create",
        preserve_fds=preserved,
    )
    return lifecycle.create(name, bundle, session.store, options)


def _check_open(fd: int) -> None:
    try:
        os.fstat(fd)
    except OSError:
        raise InvalidArgument(f"--preserve-fds: descriptor {fd} is not open") from None


def _check_console(bundle: Bundle, asked: Asked, *, detached: bool) -> None:
    terminal, given = bundle.spec.process.terminal, asked.has("console-socket")
    if terminal and detached and not given:
        raise InvalidArgument(
            "process.terminal: a detached container needs --console-socket, or nobody would have "
            "its terminal"
        )
    if given and not (terminal and detached):
        raise InvalidArgument(
            "--console-socket: only for a detached container with process.terminal"
        )


def _connect(asked: Asked, undo: ExitStack) -> socket.socket | None:
    """Connect to the console socket, if one is named: its owner waits for the terminal's master."""
    if not asked.has("console-socket"):
        return None
    import socket  # 5 ms that only a terminal costs

    path = asked.value("console-socket")
    connected = socket.socket(socket.AF_UNIX)
    undo.callback(connected.close)
    try:
        connected.connect(path)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"--console-socket {path}") from None
    return connected


def _socket_pair(undo: ExitStack) -> tuple[socket.socket, socket.socket]:
    import socket

    ours, theirs = socket.socketpair()
    undo.callback(ours.close)
    undo.callback(theirs.close)
    return ours, theirs


def _write_pid_file(asked: Asked, pid: int) -> None:
    """Write the number so that a reader finds the whole of it, or no file: rename(2)."""
    if not asked.has("pid-file"):
        return
    path = asked.value("pid-file")
    draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
    try:
        with open(draft, "w", encoding="ascii") as file:
            file.write(str(pid))
        os.rename(draft, path)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"--pid-file {path}") from None


def _follow(session: Session, container: Container, console: socket.socket | None) -> int:
    with foreground.passing_signals_on(container, session.say):
        if console is not None:
            from minicontainer.runtime import attach  # only with a terminal

            attach.proxy_terminal(container, console, stdin=True)
        return container.wait()
