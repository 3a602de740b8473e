"""What the caller of create, run and exec passes in and gets back: descriptors, terminal, pid file.

See: runc(8) "--console-socket", "--pidfd-socket", "--preserve-fds"; sd_listen_fds(3); unix(7).
"""

from __future__ import annotations

import os

from minicontainer.errors import InvalidArgument, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from minicontainer.contexts import ExitStack
    from minicontainer.runtime.cli.command_line import Asked
    from minicontainer.runtime.config.spec_process import Process
    from minicontainer.runtime.parent.foreground import Running


def listening_sockets(environ: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    """Count the sockets that systemd opened for the container, and return their variables.

    sd_listen_fds(3) looks at descriptors from 3 on, and at two variables. `exec` passes none: the
    program accepts only sockets for its own number, and is not process 1.

    Returns:
        The number, and settings for the program's environment.
    """
    listening = environ.get("LISTEN_FDS", "")
    # They may be for a process above this one, and only be inherited with the environment.
    if listening.isdecimal() and environ.get("LISTEN_PID") == str(os.getpid()):
        return int(listening), (f"LISTEN_FDS={listening}", "LISTEN_PID=1")
    return 0, ()


def preserved_descriptors(asked: Asked, listening: int = 0) -> int:
    """Return how many descriptors the program inherits, from 3 on.

    Args:
        listening: the number of systemd's sockets, which come before those that the option counts.
    Raises:
        InvalidArgument: one of them is not open.
    """
    count = asked.number("preserve-fds")
    if count < 0:
        raise InvalidArgument(f"--preserve-fds: expected 0 or more, got {count}")
    count += listening
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError:
            raise InvalidArgument(f"--preserve-fds: descriptor {fd} is not open") from None
    return count


def console(
    process: Process, asked: Asked, undo: ExitStack, *, detached: bool
) -> tuple[socket.socket | None, socket.socket | None]:
    """Find out where the terminal's master goes: to the console socket's owner, or to this process.

    Returns:
        Our end of a socket, if this process gets it; and the container's, if there is a terminal.
    Raises:
        InvalidArgument: options and process.terminal don't fit together.
        KernelError: no process listens at the console socket.
    """
    given = asked.value("console-socket")
    if process.terminal and detached and not given:
        raise InvalidArgument(
            "process.terminal: a detached process needs --console-socket, or nobody would have "
            "its terminal"
        )
    if given and not (process.terminal and detached):
        raise InvalidArgument("--console-socket: only for a detached process with a terminal")
    if not process.terminal:
        return None, None
    import socket  # 5 ms, with a terminal alone

    if not given:
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        undo.callback(theirs.close)
        return ours, theirs
    return None, _connected("console-socket", given, undo)


def shows_in_a_file(ours: socket.socket | None) -> bool:
    """Report whether the terminal's output, which this process prints, goes to no terminal."""
    return ours is not None and not os.isatty(1)


def _connected(option: str, path: str, undo: ExitStack) -> socket.socket:
    import socket

    connected = socket.socket(socket.AF_UNIX)
    undo.callback(connected.close)
    try:
        connected.connect(path)
    except OSError as error:
        why = error.strerror or str(error)  # a path that is too long: no error number
        raise KernelError(error.errno, why, f"--{option} {path}") from None
    return connected


def pidfd_socket(asked: Asked, undo: ExitStack) -> socket.socket | None:
    """Connect to the socket that wants a pidfd of the process, before the process exists.

    Raises:
        KernelError: no process listens there.
    """
    path = asked.value("pidfd-socket")
    return _connected("pidfd-socket", path, undo) if path else None


def send_pidfd(wanted: socket.socket | None, pidfd: int) -> None:
    """Send a pidfd to the socket that wants one: unlike a number, it never refers to another
    process.

    Raises:
        KernelError: the other side has closed. See: pidfd_open(2).
    """
    if wanted is None:
        return
    from minicontainer.kernel import terminal  # it can send descriptors

    try:
        terminal.send_descriptor(wanted, pidfd, "pidfd")
    except OSError as error:
        raise KernelError(error.errno, error.strerror, "--pidfd-socket") from None
    finally:
        wanted.close()


def write_pid_file(asked: Asked, pid: int) -> None:
    """Write the pid file; a reader finds the whole number, or no file: rename(2).

    Raises:
        KernelError: the file can't be written.
    """
    path = asked.value("pid-file")
    if not path:
        return
    draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(str(pid))
        os.rename(draft, path)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"--pid-file {path}") from None


def follow(running: Running, ours: socket.socket | None) -> int:
    """Stay with a program in the foreground: pass signals and the terminal, return the exit
    status.
    """
    from minicontainer.runtime.parent import foreground

    with foreground.passing_signals_on(running):
        if ours is not None:
            from minicontainer.runtime.parent import attach  # only with a terminal

            attach.proxy_terminal(running, ours)
        return running.wait()
