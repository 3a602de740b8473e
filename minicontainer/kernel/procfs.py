"""Files of /proc: those of a process, to be read; attributes, labels and sysctls, to be written.

To write them, this process mounts a procfs of its own.

Anything may be mounted at /proc: a container's may be a tmpfs, or have a file of its image over
`attr/exec`, and a write then has no effect, or changes a file that an attacker chose. A new
instance that was never attached anywhere has nothing mounted in it.

See: proc(5), fsopen(2), openat2(2); CVE-2019-16884, CVE-2019-19921, CVE-2025-52881.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from minicontainer.contexts import contextmanager
from minicontainer.errors import KernelError, Unsupported
from minicontainer.kernel import files, libc, mounts, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC_SUPER_MAGIC = 0x9FA0
_ROOT_INODE = 1
_STATFS_SIZE = 256  # more than struct statfs has; its first field, a long, is the type
_STAY = (
    paths.RESOLVE_BENEATH
    | paths.RESOLVE_NO_XDEV
    | paths.RESOLVE_NO_MAGICLINKS
    | paths.RESOLVE_NO_SYMLINKS
)


def read_of(pid: int, name: str) -> str:
    """Read a file about a process: /proc/PID/NAME. What is not UTF-8 in it is replaced.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended;  PermissionError.
    """
    path = f"/proc/{pid}/{name}"
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        return file.read()


def lines_of(pid: int, name: str) -> list[str]:
    """Read the lines of such a file: a newline ends each, and nothing else does.

    A process may have any other character in its name, or in the path of a mount.

    Raises:
        OSError: as of `read_of`.
    """
    return read_of(pid, name).split("\n")[:-1]


def status_of(pid: int) -> dict[str, str]:
    """Read the fields of /proc/PID/status.

    Raises:
        OSError: as of `read_of`.
    """
    pairs = (line.partition(":") for line in lines_of(pid, "status"))
    return {name: value.strip() for name, _, value in pairs}


@contextmanager
def opened() -> Iterator[int]:
    """Open the root directory of a new procfs, for the PID namespace that this process is in.

    If that is not permitted (in a user namespace that does not see all of the host's), use /proc.
    It must then be a procfs, and `write` crosses no mount in it.

    Raises:
        Unsupported: /proc is no procfs.
    """
    proc_fd = _open()
    try:
        yield proc_fd
    finally:
        os.close(proc_fd)


def _open() -> int:
    try:
        return mounts.new_filesystem("proc", "proc")
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
    proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if filesystem_of(proc_fd) == _PROC_SUPER_MAGIC and os.fstat(proc_fd).st_ino == _ROOT_INODE:
        return proc_fd
    os.close(proc_fd)
    raise Unsupported("/proc is not a procfs: mount one there")


def filesystem_of(fd: int) -> int:
    """Return the type of the filesystem that a file is on, a magic number: fstatfs(2)."""
    found = ctypes.create_string_buffer(_STATFS_SIZE)
    libc.quiet_call("fstatfs", fd, found)
    return int.from_bytes(found.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)


def write(
    proc_fd: int, path: str, text: str, *, object: str | None = None, shell: str | None = None
) -> None:
    """Write to a file of a procfs, with no mount over it and no link on the way.

    Args:
        path: below its root: self/oom_score_adj, sys/net/ipv4/ip_forward.
        object, shell: for the event; see `event.Event`.
    Raises:
        KernelError: ENOENT, EACCES, EINVAL, …; EXDEV if another mount covers it.
    """
    first, slash, rest = path.partition("/")
    # `self` is a link to this process's number in that PID namespace
    real = f"{os.readlink(first, dir_fd=proc_fd)}{slash}{rest}" if first == "self" else path
    fd = paths.openat2(proc_fd, real, os.O_WRONLY, _STAY)
    try:
        files.write_open_file(fd, f"/proc/{path}", text, object=object, shell=shell)
    finally:
        os.close(fd)
