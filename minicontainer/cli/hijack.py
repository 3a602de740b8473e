"""A raw stream between this terminal and a container: attach, run, exec.

    stdin ──> pending ──> socket ──> the container's stdin
    stdout, stderr <── frames <── socket <── its output

One loop waits for all of it at once, signals included (a wake-up pipe), so that a container that
reads slowly does not keep its output from being shown, nor the other way round.

See: Docker Engine API, ContainerAttach "Stream format"; signal(7); poll(2).
"""

from __future__ import annotations

import _socket
import posix  # os, which defines more, costs a command a millisecond
import select

from minicontainer.cli import interrupts
from minicontainer.cli.exits import EXIT_FAILED, Exit
from minicontainer.contexts import ExitStack, contextmanager, suppress
from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from minicontainer.cli.client import Connection

_BLOCK = 65536
_TLS_WAITS = ("SSLWantWriteError", "SSLWantReadError")  # by name: ssl is imported where TLS is used
_STDERR, _SYSTEM = 2, 3  # a frame's first byte; 0 and 1 are stdin and stdout
DETACH_KEYS = "ctrl-p,ctrl-q"
_PATIENCE = 3  # interrupts that a program may ignore


class Detached(Exception):
    """The user pressed the detach keys."""


class Frames:
    """Takes the engine's frames apart: 4 bytes stream, 4 bytes length, the payload."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """Give stream number and payload of every frame, in part where it is not all there."""
        data = self._rest + block
        position = 0
        while len(data) - position >= 8:
            size = int.from_bytes(data[position + 4 : position + 8], "big")
            end = position + 8 + size
            if len(data) < end:
                break
            yield data[position], data[position + 8 : end]
            position = end
        self._rest = data[position:]


def write_all(fd: int, data: bytes) -> None:
    """Write everything to standard output (1) or standard error (2).

    Raises:
        BrokenPipeError: who read it has gone.
        Exit: it can't be written, with the words and the status of Docker's client.
    """
    try:
        while data:
            data = data[posix.write(fd, data) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        stream = "stdout" if fd == 1 else "stderr"
        told = f"write /dev/{stream}: {(error.strerror or '').lower()}"
        raise Exit(told, EXIT_FAILED) from None


def show(block: bytes, frames: Frames | None) -> None:
    """Write output where it belongs: raw, or by its frames to stdout and stderr."""
    if frames is None:
        write_all(1, block)
        return
    for stream, payload in frames.feed(block):
        if stream == _SYSTEM:
            message = payload.decode("utf-8", "replace")
            raise Exit(f"error from daemon in stream: {message}")
        write_all(2 if stream == _STDERR else 1, payload)


def keys_of(text: str) -> bytes:
    """Read detach keys: ctrl-p,ctrl-q.

    Raises:
        Exit: there is no such key.
    """
    found = bytearray()
    for word in text.split(","):
        special = word.removeprefix("ctrl-")
        if len(word) == 1:
            found += word.encode()
        elif special != word and len(special) == 1 and "@" <= special.upper() <= "_":
            found.append(ord(special.upper()) - 64)
        else:
            raise Exit(f"Unknown character: '{word}'")
    return bytes(found)


class KeyWatch:
    """Finds the detach keys in what is typed; keeps back what may become them."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, typed: bytes) -> bytes:
        """Give what is to be sent.

        Raises:
            Detached: the keys are there.
        """
        passed = bytearray()
        for byte in typed:
            self._held += bytes((byte,))
            while self._held and not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys and self._keys:
                raise Detached
        return bytes(passed)


class Session:
    """What a raw stream is connected to.

    Args:
        connection: to the engine.
        tty: the container has a terminal: no frames, and every key is sent as it is.
        stdin: whether input is sent.
        detach_keys: end the connection, where there is a terminal.
        resize: tells the engine the window's size: rows, columns.
        forward: sends a signal to the program, by name.
    """

    def __init__(
        self,
        connection: Connection,
        tty: bool,
        stdin: bool,
        detach_keys: str = "",
        resize: Callable[[int, int], None] | None = None,
        forward: Callable[[str], None] | None = None,
    ) -> None:
        self._connection = connection
        self._tty = tty
        self._stdin = stdin
        self._frames = None if tty else Frames()
        self._watch = KeyWatch(keys_of(detach_keys or DETACH_KEYS)) if tty and stdin else None
        self.resize = resize
        self._forward = None if tty else forward
        self._pending = b""
        self._ended = not stdin  # nothing more comes from stdin
        self._interrupts = 0

    def talk(self) -> None:
        """Pass input and output on until the output ends.

        Raises:
            Detached: the user left; the container goes on.
        """
        socket = self._connection.socket
        with _wakeups(self._forward is not None, self._tty) as wakeup_fd:
            if self._connection.buffer:
                show(self._connection.receive(), self._frames)
            while True:
                ready = self._wait(socket, wakeup_fd)
                if ready.get(wakeup_fd):
                    self._signalled(posix.read(wakeup_fd, 512))
                if ready.get(0):
                    self._read_input(socket)
                if ready.get(socket.fileno(), 0) & select.POLLOUT:
                    self._send(socket)
                if ready.get(socket.fileno(), 0) & ~select.POLLOUT:
                    block = self._connection.receive()
                    if not block:
                        return
                    show(block, self._frames)

    def _wait(self, socket: Any, wakeup_fd: int) -> dict[int, int]:
        poll = select.poll()
        out = select.POLLOUT if self._pending else 0
        poll.register(socket.fileno(), select.POLLIN | out)
        poll.register(wakeup_fd, select.POLLIN)
        if not self._ended and not self._pending:
            poll.register(0, select.POLLIN)
        held = getattr(socket, "pending", None)  # TLS has read more than it gave
        if held is not None and held():
            return {socket.fileno(): select.POLLIN}
        return dict(poll.poll())

    def _read_input(self, socket: Any) -> None:
        try:
            typed = posix.read(0, _BLOCK)
        except OSError:  # EIO: the terminal is gone
            typed = b""
        if typed:
            self._pending = self._watch.feed(typed) if self._watch else typed
            self._send(socket)
            return
        self._ended = True
        self._half_close(socket)

    def _send(self, socket: Any) -> None:
        """Send what the socket takes without waiting."""
        if not self._pending:
            return
        socket.setblocking(False)
        try:
            self._pending = self._pending[socket.send(self._pending) :]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._pending, self._ended = b"", True  # the program has closed its input
        except OSError as error:
            if type(error).__name__ not in _TLS_WAITS:
                raise
        finally:
            socket.setblocking(True)

    def _half_close(self, socket: Any) -> None:
        """End the input, and keep on reading the output."""
        with suppress(OSError):  # the engine has gone meanwhile
            # Not its own method: that of a TLS socket would drop TLS for what is still to be read.
            _socket.socket.shutdown(socket, _socket.SHUT_WR)

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signals.SIGWINCH:
                self.follow_window()
            elif self._forward is not None:
                names = {value: name for name, value in signals.NUMBERS.items()}
                self._forward(names.get(number, str(number)))
                self._count(number)
            else:
                raise Exit("", 128 + number)

    def _count(self, number: int) -> None:
        """Leave a program that takes no notice, as Docker's client does: the user is stuck."""
        self._interrupts += number in (signals.SIGINT, signals.SIGTERM)
        if self._interrupts == _PATIENCE:
            raise Exit(f"\ngot {_PATIENCE} SIGTERM/SIGINTs, forcefully exiting", EXIT_FAILED)

    def follow_window(self) -> None:
        """Tell the engine how large this terminal is."""
        if self.resize is not None and self._tty and posix.isatty(1):
            from minicontainer.kernel import terminal  # only a terminal pays for it

            rows, columns = terminal.window_size(1)
            if rows or columns:
                self.resize(rows, columns)


@contextmanager
def _wakeups(proxied: bool, tty: bool) -> Iterator[int]:
    """Have signals written to a pipe; give its reading end.

    Args:
        proxied: all signals are caught, to be sent to the program.
        tty: those that end this process are caught, so that the terminal is restored.
    """
    import _signal  # type: ignore[import-not-found]  # typeshed has no stub for it

    reading, writing = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    caught = {signals.SIGWINCH}
    if proxied:
        caught = set(interrupts.FOR_PROGRAM)
    elif tty:
        caught |= signals.ENDING
    before = {number: signals.handle(number, lambda *_: None) for number in caught}
    former = _signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    mask = signals.unblock(caught | signals.ENDING)  # those that came before the program ran
    try:
        yield reading
    finally:
        signals.set_mask(mask)
        _signal.set_wakeup_fd(former)
        for number, handler in before.items():
            signals.handle(number, handler)
        posix.close(reading)
        posix.close(writing)


@contextmanager
def raw_terminal(
    wanted: bool, begin: Callable[[], None] = lambda: None, late: bool = False
) -> Iterator[None]:
    """Pass every key on as it is, meanwhile, if standard input is a terminal.

    Args:
        begin: called first; *late*: a prompt needs the terminal as it is until that has returned.
    """
    if late:
        begin()
    with ExitStack() as stack:
        if wanted and posix.isatty(0):
            from minicontainer.kernel import terminal  # only a terminal pays for it

            stack.enter_context(terminal.raw_mode(0))
        if not late:
            begin()
        yield


def check_terminal(stdin: bool, tty: bool) -> None:
    """Refuse -it without a terminal, in Docker's words."""
    if stdin and tty and not posix.isatty(0):
        raise Exit("the input device is not a TTY")


def console_size() -> list[int]:
    """Give rows and columns of this terminal; zeros without one."""
    if not posix.isatty(1):
        return [0, 0]
    size = posix.get_terminal_size(1)
    return [size.lines, size.columns]
