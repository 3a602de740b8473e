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
    def held(cls, passed: list[int], *, tty: bool, stdin: bool) -> Stdio:
        """Take what another process made, without the child's ends.

        Args:
            passed: the descriptors that its `to_hold` gave.
            tty, stdin: as there.
        """
        made = cls.__new__(cls)
        made._ours, made._theirs, made._socket, made.console = {}, {}, None, None
        made._stdin = stdin
        if tty:
            import socket  # preloaded

            made._socket = socket.socket(fileno=passed[0])
        else:
            made._ours = dict(zip(("stdout", "stderr", "stdin"), passed, strict=False))
        with made.given():  # nothing: it leaves /dev/null in the place of this process's own
            pass
        return made

    @staticmethod
    def count_held(*, tty: bool, stdin: bool) -> int:
        """Say how many descriptors `to_hold` gives."""
        return 1 if tty else 2 + stdin

    def to_hold(self) -> list[int]:
        """List all but the child's ends, for another process that will hold the streams."""
        return [self._socket.fileno()] if self._socket else list(self._ours.values())

    def held_elsewhere(self) -> None:
        """Keep none of those in this process, which only forks the child."""
        for end in self._ours.values():
            os.close(end)
        self._ours.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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
