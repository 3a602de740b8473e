"""The program's standard streams: none is a file of the host that the program could change.

See: runtime-spec config.md "Process"; CVE-2026-88265.
"""

from __future__ import annotations

import errno
import os

from minicontainer.contexts import suppress
from minicontainer.errors import KernelError
from minicontainer.kernel import files, paths
from minicontainer.runtime.child import devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_STREAMS = (0, 1, 2)


def has_null() -> bool:
    """Report whether one of this process's standard streams is a null device."""
    return any(map(_is_null, _STREAMS))


def replace_null(root_fd: int, spare: Callable[[], int]) -> None:
    """Replace each stream that is the host's null device by the container's.

    Through the descriptor, root in a container could change the mode of the host's /dev/null.

    Args:
        root_fd: the container's root, whose /dev/null is checked before it is used.
        spare: opens another one, for a container that has none; see `open_spare`.
    """
    found = [fd for fd in _STREAMS if _is_null(fd)]
    if found:
        fd = _open_null(root_fd)
        with files.opened(spare() if fd is None else fd) as null:
            for stream in found:
                os.dup2(null, stream)


def _is_null(fd: int) -> bool:
    try:
        return paths.is_device(fd, *devices.NULL)
    except OSError:
        return False  # not open


def _open_null(root_fd: int) -> int | None:
    try:
        return paths.open_device(root_fd, "/dev/null", *devices.NULL)
    except KernelError:
        return None  # it is missing, or can't be opened


def open_spare() -> int:
    """Open the host's null device on a mount of its own, where nobody can change its owner and
    mode.

    Raises:
        KernelError: EPERM: a cgroup denies it.
    """
    with files.opened(devices.open_null()) as null:
        try:
            return os.open(f"/proc/self/fd/{null}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            why = error.strerror
            if error.errno == errno.EPERM:  # not by our own rules, which allow it
                why = "a cgroup above the container's denies it: see its device rules"
            raise KernelError(error.errno, why, "open /dev/null for a standard stream") from None


def give_pipes(uid: int, pipes: int) -> None:
    """Give the pipes among the streams to the program's user, who may want to open /dev/stdout.

    Only pipes that have no name in a file system; every other stream may belong to somebody else.

    Args:
        pipes: the device number of the pipes' file system, as fstat(2) of one returns it.
    """
    for stream in _STREAMS:
        with suppress(OSError):  # not open; or its owner is not mapped in this user namespace
            found = os.fstat(stream)
            if found.st_dev == pipes and found.st_uid != uid:
                files.change_owner_of(stream, uid, -1, where=f"/proc/self/fd/{stream}")
