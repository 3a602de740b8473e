"""exit.json: how a container's last start ended. Its monitor writes it, and any engine reads it.

The engine may be down when the program ends, and the monitor is gone when the next engine comes.
"""

from __future__ import annotations

import os
import time

from minicontainer import jsontext
from minicontainer.contexts import ExitStack, suppress
from minicontainer.engine import protocol
from minicontainer.errors import Error, KernelError
from minicontainer.kernel import files, trees

KILLED = 137
LOST = 255  # as with Docker after a power cut: nobody knows how it ended
_FILE = "exit.json"
_SIZE = 512  # with spaces at the end


def reserve_exit(directory: str) -> None:
    """Take the room on the disk that `write_exit` will need: the disk may be full by then.

    Raises:
        KernelError: ENOSPC: it is full now.
    """
    path = f"{directory}/{_FILE}"
    try:
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with files.opened(fd):
            os.write(fd, b" " * _SIZE)
        with suppress(FileNotFoundError):  # of the last start
            os.unlink(path)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"write {path}") from None


def write_exit(directory: str, exited: protocol.Exited, *, durable: bool) -> None:
    """Write exit.json so that a reader finds all of it or nothing.

    Args:
        durable: it is on the disk before anybody is told: what a client has read stays true after
            a power cut. That takes 0.4 ms on an SSD, and up to some 20 ms on a rotating disk. A
            container with `--rm` is gone after a power cut, and so does without.
    """
    path = f"{directory}/{_FILE}"
    with suppress(OSError), ExitStack() as stack:  # the directory is gone: nobody will read it
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, fd)
        os.write(fd, jsontext.dump(exited.to_json()).encode().ljust(_SIZE))
        if durable:
            os.fsync(fd)
        os.rename(f"{path}.new", path)
        if durable:
            trees.sync_directory(directory)


def read_exit(directory: str) -> protocol.Exited | None:
    """Read exit.json; None when there is none."""
    try:
        with open(f"{directory}/{_FILE}", encoding="utf-8") as file:
            return protocol.Exited.from_json(jsontext.parse(file.read()))
    except (OSError, ValueError, Error):
        return None


def end_of(directory: str, started_ns: int, otherwise: int = KILLED) -> protocol.Exited:
    """Say how a container ended that ran: its monitor wrote that down, or was killed with it.

    Args:
        started_ns: which of its starts it was.
        otherwise: the exit status if nothing is written.
    """
    exited = read_exit(directory)
    # after a power cut, an earlier start's may be there again
    if exited is None or exited.started_ns not in (0, started_ns):
        return protocol.Exited(status=otherwise, at_ns=time.time_ns())
    return exited
