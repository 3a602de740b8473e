"""The gate at which a created container waits for `start`: two named pipes in its directory.

See: `sync`, which draws what is said there.
"""

from __future__ import annotations

import errno
import posix

from minicontainer.errors import KernelError
from minicontainer.runtime.sync import Channel

_GATE = ("start", "started")  # the names of the pipes: to init, and from init


def make_gate(directory: str) -> Channel:
    """Make the gate at which a created container waits; return init's end of it.

    Both pipes are opened for reading and writing. So open(2) never waits for the other side, and a
    `start` that is killed does not look like the end of the input.
    """
    ends = []
    for name in _GATE:
        path = f"{directory}/{name}"
        posix.mkfifo(path, 0o600)
        ends.append(posix.open(path, posix.O_RDWR | posix.O_CLOEXEC))
    return Channel(*ends)


def open_gate(directory: str) -> Channel | None:
    """Open the gate from outside; return None if no process waits there (it was started, or has
    ended).

    The waiting init holds the pipes open, and execve(2) closes them. A pipe without a reader can't
    be opened for writing, so the kernel itself says whether init waits. No file could be stale.
    """
    start, started = (f"{directory}/{name}" for name in _GATE)
    writes = -1
    try:
        writes = posix.open(start, posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        # not waiting for a writer: execve(2) may close both pipes at this moment
        reads = posix.open(started, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        posix.set_blocking(reads, True)
        return Channel(reads, writes)
    except OSError as error:
        if writes >= 0:
            posix.close(writes)
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return None
        raise KernelError(error.errno, error.strerror, f"open {error.filename}") from None
