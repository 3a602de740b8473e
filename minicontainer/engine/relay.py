"""The streams of a program: copied to the log and to every attached client, and from clients to it.

    program ── stdout, stderr, or a terminal ──► Relay ──► log file
                                                   ├─────► client 1
        stdin ◄── (what clients type) ─────────────┴─────► client 2

One loop without threads. A chunk is written to the log and to all clients before the next one is
read, so a slow disk or a slow client slows the program down, and nothing is lost or kept without
bound. A client's socket is never made non-blocking, because another process may hold it too.

See: Docker Engine API, "Stream format" of ContainerAttach.
"""

from __future__ import annotations

import os
import select
import socket

from minicontainer.contexts import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.engine.log_files import LogFile
    from minicontainer.engine.protocol import AttachStreams

_BLOCK = 65536
_MOST_WAITING = 256 * 1024  # bytes for one client, before the program has to wait for it
_MOST_UNREAD = 4 << 20  # bytes from a client that are read for nobody
_STREAM_NUMBERS = {"stdout": 1, "stderr": 2}
_HANGUP = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Client:
    """A client that is attached.

    Args:
        sock: its socket;  streams: what it is connected to.
        tty: whether detach keys count.
    """

    def __init__(self, sock: socket.socket, streams: AttachStreams, *, tty: bool) -> None:
        self.sock = sock
        self.streams = streams
        self.raw = not streams.multiplex
        self.sends = streams.stdin
        self.waiting = bytearray()
        self.gone = False
        self._keys = bytes.fromhex(streams.detach_keys) if tty else b""
        self._typed = b""  # a beginning of the detach keys

    def offer(self, stream: str, data: bytes) -> None:
        """Send what the program wrote, or keep it until the client takes it."""
        if not (self.streams.stdout if stream == "stdout" else self.streams.stderr):
            return
        if not self.raw:
            self.waiting += bytes((_STREAM_NUMBERS[stream], 0, 0, 0)) + len(data).to_bytes(4, "big")
        self.waiting += data
        self.flush()

    def flush(self) -> None:
        """Send what the client takes now."""
        try:
            while self.waiting:
                sent = self.sock.send(self.waiting, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                del self.waiting[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True

    def receive(self) -> bytes | None:
        """Read what the client sent; b"" when it sends no more; None when it wants to detach."""
        try:
            data = self.sock.recv(_BLOCK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.sends = False
            return self._typed
        return self.without_keys(data)

    def without_keys(self, data: bytes) -> bytes | None:
        """Look for the detach keys; None when they are there.

        A beginning of them is held back until the next key shows whether it was meant so.
        """
        if not self._keys:
            return data
        data, self._typed = self._typed + data, b""
        if self._keys in data:
            return None
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._typed = data[-length:]
                return data[:-length]
        return data

    def close(self) -> None:
        """Close the connection: the engine has closed its copy, or does so after the exit status.

        The client hears of the end only from the last close: by then it can ask for the status.
        """
        discard_unread(self.sock)
        self.sock.close()


def discard_unread(sock: socket.socket) -> None:
    """Read away what a client has sent, and let it send no more, before its socket is closed.

    A socket that is closed with unread data resets the connection: `yes | docker run -i … head`
    would fail after all of the output. What the client still sends is refused, by EPIPE.
    """
    with suppress(OSError):  # the client has gone
        sock.shutdown(socket.SHUT_RD)  # by TCP, it can still send
        for _ in range(_MOST_UNREAD // _BLOCK):
            if not sock.recv(_BLOCK, socket.MSG_DONTWAIT):
                return


class Relay:
    """Copies between a program and those who look on.

    Args:
        outputs: descriptors to read from, by stream: stdout, stderr; the terminal's master is
            stdout.
        stdin: where to write what clients send, or -1.
        tty: whether that is a terminal.
        stdin_once: close it when the first client that sent something ends.
        log: gets all output; None for an exec.
        detached: called when a client has typed its detach keys.
    """

    def __init__(
        self,
        outputs: dict[str, int],
        stdin: int,
        *,
        tty: bool,
        stdin_once: bool,
        log: LogFile | None,
        detached: Callable[[], None],
    ) -> None:
        self.outputs = dict(outputs)
        self.clients: list[Client] = []
        self._stdin = stdin
        self._tty = tty
        self._stdin_once = stdin_once
        self._stdin_ends = False
        self._typed = bytearray()
        self._log = log
        self._detached = detached
        self._peer = _peer_of(outputs["stdout"]) if tty else -1
        if stdin >= 0:
            os.set_blocking(stdin, False)

    def let_terminal_hang_up(self) -> None:
        """Let the terminal end with its last process, now that the program has ended."""
        if self._peer >= 0:
            os.close(self._peer)
            self._peer = -1

    def attach(self, passed: list[int], streams: AttachStreams) -> None:
        """Attach a client that the engine has passed on, if this process can have it.

        Too many clients must not end the program. Where this process has no descriptor left, the
        kernel drops the one that was passed, or the log can't be opened; then the client reads an
        end of file.

        Args:
            passed: the descriptor of its socket, or none.
        """
        for descriptor in passed:
            try:
                self.add(descriptor, streams)
            except OSError:  # EMFILE
                os.close(descriptor)

    def add(self, descriptor: int, streams: AttachStreams) -> None:
        """Attach a client.

        Raises:
            OSError: the log can't be read.
        """
        written: list[tuple[str, bytes]] = []
        if streams.log_inode >= 0 and self._log is not None:
            written = self._log.after(streams.log_inode, streams.log_offset)
        client = Client(socket.socket(fileno=descriptor), streams, tty=self._tty)
        self.clients.append(client)
        for stream, data in written:
            client.offer(stream, data)
        if streams.early and streams.stdin:
            self._take(client, client.without_keys(bytes.fromhex(streams.early)))

    def interests(self) -> dict[int, int]:
        """Say which descriptors to poll, and for what."""
        found: dict[int, int] = {}
        if all(len(client.waiting) < _MOST_WAITING for client in self.clients):
            found |= dict.fromkeys(self.outputs.values(), select.POLLIN)
        room = len(self._typed) < _BLOCK
        for client in self.clients:
            events = select.POLLOUT if client.waiting else 0
            events |= select.POLLIN if client.sends and room else 0
            found[client.sock.fileno()] = events
        if self._typed and self._stdin >= 0:
            found[self._stdin] = found.get(self._stdin, 0) | select.POLLOUT
        return found

    def handle(self, ready: dict[int, int]) -> None:
        """Copy what can be copied; *ready* is what poll(2) said."""
        for stream, fd in tuple(self.outputs.items()):
            if ready.get(fd, 0) & ~select.POLLOUT:
                self._read(stream, fd)
        for client in tuple(self.clients):
            events = ready.get(client.sock.fileno(), 0)
            if events & select.POLLOUT:
                client.flush()
            if events & select.POLLIN and client.sends:
                self._take(client, client.receive())
            elif events & _HANGUP:
                client.gone = True
            if client.gone:
                self._drop(client)
        if self._typed:
            self._write_stdin()

    def _read(self, stream: str, fd: int) -> None:
        try:
            data = os.read(fd, _BLOCK)
        except OSError:  # EIO: nobody has the terminal any more
            data = b""
        if not data:
            if self._log is not None:
                self._log.finish(stream)
            del self.outputs[stream]
            if fd == self._stdin:  # the terminal is both
                self._stdin = -1
            os.close(fd)
            return
        if self._log is not None:
            self._log.write(stream, data)
        for client in self.clients:
            client.offer(stream, data)

    def _take(self, client: Client, data: bytes | None) -> None:
        if data is None:
            self._detached()
            self._drop(client)
            return
        if self._stdin >= 0:
            self._typed += data
            if not client.sends and self._stdin_once and not self._tty:
                self._stdin_ends = True
            self._write_stdin()

    def _drop(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
            client.close()
            # a client that vanished will not send more either
            if client.streams.stdin and self._stdin_once and not self._tty and self._stdin >= 0:
                self._stdin_ends = True
                self._write_stdin()

    def _write_stdin(self) -> None:
        try:
            while self._typed:
                del self._typed[: os.write(self._stdin, self._typed)]
        except BlockingIOError:
            return
        except OSError:  # EPIPE, EIO: the program reads no more
            self._stdin_ends = not self._tty
            self._typed.clear()
        if self._stdin_ends and not self._typed and self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def resize(self, height: int, width: int) -> None:
        """Set the size of the terminal's window."""
        from minicontainer.kernel import terminal  # preloaded; a start without one needs it not

        if self._tty and "stdout" in self.outputs:
            with suppress(OSError):
                terminal.set_window_size(self.outputs["stdout"], height, width)

    def finish(self, timeout_s: float) -> None:
        """Send clients what they have not taken yet, and close their connections."""
        for client in tuple(self.clients):
            if not client.waiting:
                self._drop(client)
        while self.clients:
            poll = select.poll()
            for client in self.clients:
                poll.register(client.sock.fileno(), select.POLLOUT)
            ready = dict(poll.poll(timeout_s * 1000))
            if not ready:
                break
            for client in tuple(self.clients):
                if client.sock.fileno() in ready:
                    client.flush()
                    if client.gone or not client.waiting:
                        self._drop(client)
        for client in tuple(self.clients):
            self._drop(client)


def _peer_of(master: int) -> int:
    """Open the other side of a terminal.

    Without a copy of it, the terminal would hang up for good when the program closes its last one,
    though it may open /dev/console again.
    """
    from minicontainer.kernel import terminal  # preloaded

    return terminal.open_peer(master)
