"""What the parent and the container's first process say to each other.

    parent                                     init
      │ clone3 ─────────────────────────────────► │  waits
      │ writes its id maps                        │
      │ Go ─────────────────────────────────────► │  sets itself up
      │ ◄──────────────────────────── Happened …  │  an event, when the parent listens
      │ ◄───────────────────────────────── Ready  │  waits before the program
      │ connects its network                      │
      │ Start ──────────────────────────────────► │
      │ ◄───────────────────────────── (closed)   │  execve: the channel is close-on-exec
      │                                           │
      │ ◄──────────────────────────────── Failed  │  or at any point: step, call, errno, text

Where namespaces must be joined first, a joiner stands between the two (`lifecycle.fork_init`): it
forks init as the parent's own child, says Forked, and ends.

Two pipes carry one JSON object a line. They need no import, and a pipe whose writers are gone
reads as closed: that is how each side sees the other end, also by SIGKILL.
"""

from __future__ import annotations

import os

from minicontainer import jsontext
from minicontainer.errors import InitError
from minicontainer.record import Record
from minicontainer.steps import Event


class Go(Record):
    """To init: the maps are written, begin."""


class Forked(Record):
    """From the joiner: init is this process, in the parent's PID namespace."""

    pid: int


class Happened(Record):
    """From init: an event, for the parent's listener."""

    event: Event


class Ready(Record):
    """From init: all is set up; only the program is missing."""


class Start(Record):
    """To init: become the program."""


class Failed(Record):
    """From init: what went wrong; it ends with that.

    Args:
        message: the line for the user.
        step, call: where; errno: the kernel's number, 0 where no call failed.
    """

    message: str
    step: str = ""
    call: str = ""
    errno: int = 0

    def error(self) -> InitError:
        """Make the error that the parent raises."""
        return InitError(self.message, self.step, self.call, self.errno)


_TYPES: dict[str, type[Record]] = {
    kind.__name__: kind for kind in (Go, Forked, Happened, Ready, Start, Failed)
}


class Channel:
    """One end of the conversation.

    Args:
        reads, writes: pipe ends, close-on-exec.
    """

    def __init__(self, reads: int, writes: int) -> None:
        self.reads = reads
        self.writes = writes
        self._rest = b""

    def send(self, message: Record) -> None:
        """Send a message whole.

        Raises:
            BrokenPipeError: the other side is gone.
        """
        line = jsontext.dump([type(message).__name__, message.to_json()]) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(self.writes, data) :]

    def receive(self) -> Record | None:
        """Wait for the next message; None when the other side has closed."""
        while b"\n" not in self._rest:
            part = os.read(self.reads, 65536)
            if not part:
                return None
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        kind, content = jsontext.parse(line.decode())
        return _TYPES[kind].from_json(content, kind)

    def close(self) -> None:
        """Close both pipe ends; twice is once."""
        for fd in (self.reads, self.writes):
            if fd >= 0:
                os.close(fd)
        self.reads = self.writes = -1


def channel_pair() -> tuple[Channel, Channel]:
    """Make both ends: the parent's and init's."""
    from_init, to_parent = os.pipe()
    from_parent, to_init = os.pipe()
    return Channel(from_init, to_init), Channel(from_parent, to_parent)
