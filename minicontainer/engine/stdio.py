"""The standard streams of a program, as its parent makes them: pipes, or a terminal's master.

The child inherits 0, 1 and 2 across the fork. So its ends of the pipes take those numbers in the
parent for as long as the fork takes, and nothing is left of them there afterwards: a pipe ends
when the last process that has its other end is gone.

    with stdio.given():          # 0, 1, 2 are the child's ends
        container = create_container(…)
    outputs, stdin = stdio.taken()

See: pipe(7), pty(7).
"""

from __future__ import annotations

import os

from minicontainer.contexts import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


class Stdio:
    """Both ends of a program's streams.

    Args:
        tty: a terminal instead of pipes.
        stdin: whether the standard input is kept open for clients; without it, it is /dev/null.
    """

    def __init__(self, *, tty: bool, stdin: bool) -> None:
        self.console: socket.socket | None = None
        self._ours: dict[str, int] = {}
        self._theirs: dict[int, int] = {}
        self._socket: socket.socket | None = None
        self._stdin = stdin
        if tty:
            import socket  # preloaded

            self._socket, self.console = socket.socketpair()
            return
        for number, name in ((1, "stdout"), (2, "stderr")):
            self._ours[name], self._theirs[number] = os.pipe()
        if stdin:
            self._theirs[0], self._ours["stdin"] = os.pipe()

    @classmethod
    def of(cls, passed: list[int], *, tty: bool) -> Stdio:
        """Take what another process made: the child's ends alone.

        Args:
            passed: the descriptors that its `to_pass` gave.
            tty: as there.
        """
        made = cls.__new__(cls)
        made._ours, made._theirs, made._socket, made.console = {}, {}, None, None
        if tty:
            import socket  # preloaded

            made.console = socket.socket(fileno=passed[0])
        else:
            made._theirs = dict(zip((1, 2, 0), passed, strict=False))
        return made

    def to_pass(self) -> list[int]:
        """List the child's ends, for another process that will fork the child."""
        return [self.console.fileno()] if self.console else list(self._theirs.values())

    def passed(self) -> None:
        """Keep no copy of them in this process, which has no streams itself."""
        with self.given():
            pass
        if self.console:
            self.console.close()
            self.console = None

    @contextmanager
    def given(self) -> Iterator[None]:
        """Let the child's ends be this process's own standard streams, meanwhile."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            for number in (0, 1, 2):
                os.dup2(self._theirs.get(number, null), number)
            for end in self._theirs.values():
                os.close(end)
            self._theirs.clear()
            yield
        finally:
            for number in (0, 1, 2):
                os.dup2(null, number)
            os.close(null)

    def taken(self) -> tuple[dict[str, int], int]:
        """Give what to read from, by stream, and where to write the standard input, or -1."""
        if self._socket is None:
            outputs = {name: end for name, end in self._ours.items() if name != "stdin"}
            return outputs, self._ours.get("stdin", -1)
        from minicontainer.kernel import terminal  # preloaded

        master = terminal.receive_descriptor(self._socket)
        self._socket.close()
        if self.console is not None:
            self.console.close()
        return {"stdout": master}, master if self._stdin else -1
