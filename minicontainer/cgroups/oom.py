"""Watch for a cgroup that runs out of memory.

v1 writes to an event descriptor when it looks for a process to kill; v2 counts the killed ones in
memory.events, and wakes processes that poll that file.

See: kernel cgroup-v1/memory.rst "OOM Control"; cgroup-v2.rst "memory.events"; eventfd(2).
"""

from __future__ import annotations

import os
import select

from minicontainer.cgroups.control_files import flat
from minicontainer.errors import KernelError
from minicontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class OomWatch(Protocol):
    """Reports each time that memory ran out.

    Attributes:
        fd: to be polled for *events*.
        directory: of the group.
    """

    fd: int
    events: int
    directory: str

    def happened(self) -> bool:
        """Report whether it happened since the last call."""

    def close(self) -> None:
        """Stop watching."""


class V1Watch:
    """Watch by an event descriptor.

    Args:
        directory: of the group, in the memory controller's hierarchy;  path: its name.
        fd: the descriptor of a watch that another process has begun.
    """

    events = select.POLLIN

    def __init__(self, directory: str, path: str = "", fd: int = -1) -> None:
        self.directory = directory
        self.fd = fd
        if fd < 0:
            self._begin(directory, path)

    def _begin(self, directory: str, path: str) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                files.write_file(
                    f"{directory}/cgroup.event_control", f"{self.fd} {control}",
                    object=f"cgroup:{path}/cgroup.event_control",
                )  # fmt: skip
            finally:
                os.close(control)
        except OSError as error:
            os.close(self.fd)
            raise KernelError(error.errno, error.strerror, f"watch {directory}") from None

    def happened(self) -> bool:
        """Report whether it happened; the removal of the group is reported in the same way."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return False
        return os.path.exists(self.directory)

    def close(self) -> None:
        """Stop watching: closing the descriptor is enough."""
        os.close(self.fd)


class V2Watch:
    """Watch by the number of killed processes.

    Args:
        directory: of the group.
        fd: the descriptor of a watch that another process has begun.
    """

    events = select.POLLPRI

    def __init__(self, directory: str, fd: int = -1) -> None:
        self.directory = directory
        path = f"{directory}/memory.events"
        try:
            self.fd = fd if fd >= 0 else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(error.errno, error.strerror, f"watch {path}") from None
        self._seen = self._count()

    def _count(self) -> int:
        try:
            # reading also resets the file for poll(2), which would report it again
            return flat(os.pread(self.fd, 4096, 0).decode()).get("oom_kill", 0)
        except OSError:  # the group is gone
            return self._seen

    def happened(self) -> bool:
        """Report whether it happened."""
        before, self._seen = self._seen, self._count()
        return self._seen > before

    def close(self) -> None:
        """Stop watching."""
        os.close(self.fd)


def taken_over(kind: str, directory: str, fd: int) -> OomWatch:
    """Give the watch that another process has begun, and passed its descriptor of.

    Args:
        kind: the name of its class.
    """
    return V1Watch(directory, fd=fd) if kind == V1Watch.__name__ else V2Watch(directory, fd)
