"""Keep the interpreter's file out of the container's reach.

Until its program runs, the container's first process is this interpreter, and the container can
reach that file as /proc/PID/exe. On a writable mount, root in the container could open it there and
overwrite the host's Python: CVE-2019-5736. But an open file stays on the mount through which it was
opened, and a container can't change a mount of another mount namespace. So the interpreter is
started from a read-only mount, and every start checks that it was.
"""

from __future__ import annotations

import errno
import fcntl
import os

from minicontainer.contexts import ExitStack
from minicontainer.errors import KernelError, Unsupported
from minicontainer.kernel import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The installation makes this copy for the purpose, below its prefix. Only the copy gets a mount
# that stays: a read-only mount on a system's own python3 would stop its package manager.
PRIVATE_COPY = "/libexec/minicontainer/python3"
_EXE = "/proc/self/exe"


def is_protected() -> bool:
    """Report whether this process's executable is on a read-only mount: one statvfs(2)."""
    return bool(os.statvfs(_EXE).f_flag & os.ST_RDONLY)


def protect(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Start this command again from a read-only mount, unless it was started from one.

    The private copy is bind-mounted over itself once per boot; later commands find it protected,
    and pay nothing. Any other interpreter is started from a detached mount that only this process
    has: each command then starts the interpreter twice (6 ms).

    Args:
        argv: the interpreter's own command line, `sys.orig_argv`.
        environ: its environment.
    Raises:
        Unsupported: not permitted to mount.
    """
    if is_protected() or os.geteuid() != 0:
        return  # an ordinary user's container is in a user namespace, and can't write to the file
    path = os.readlink(_EXE)
    if path.endswith(PRIVATE_COPY):
        _mount_over_itself(path)
        os.execve(path, list(argv), environ)
    with ExitStack() as stack:
        tree = _readonly_mount(path)
        stack.callback(os.close, tree)
        os.execve(tree, list(argv), environ)


def _readonly_mount(path: str) -> int:
    try:
        tree = mounts.open_tree(path)
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        raise Unsupported(
            "not permitted to mount: this needs CAP_SYS_ADMIN, also for root: in a container, "
            "start that one privileged (`minicontainer check` tells what is missing)"
        ) from None
    mounts.mount_setattr(tree, mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY))
    return tree


def _mount_over_itself(path: str) -> None:
    """Bind the file read-only over itself; if several commands come first at once, one of them does
    it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return
        tree, place = _readonly_mount(path), os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            mounts.move_mount(tree, place, where=path)
        except KernelError as error:
            raise KernelError(
                error.errno, error.strerror, f"protect the interpreter {path}"
            ) from None
        finally:
            os.close(tree)
            os.close(place)
    finally:
        os.close(fd)
