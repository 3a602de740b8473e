"""What the parent does to directories of a layer, by descriptors that the unpacking child sends.

The child may set no trusted.* attribute, and does not see the layers below. So it sends those
directories that are opaque, and those that the archive has no entry for but files in: these get
what they have in the layers below, or a layer with one new file would change their owner.
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.contexts import suppress
from minicontainer.errors import KernelError
from minicontainer.kernel import files, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minicontainer.images.confinement import Child

# For mounts of the host's root, and for those of a user namespace, which may not read the former.
OPAQUE_XATTRS = ("trusted.overlay.opaque", "user.overlay.opaque")


def finish(child: Child, below: Sequence[str]) -> dict[str, Any]:
    """Treat the directories that the child sends, until it is done.

    Args:
        below: the directories of the layers below, the uppermost first.
    Returns:
        What the child counted; `opaque`: whether the layer's root hides all below it.
    Raises:
        Error: the child's, whatever went wrong there.
    """
    opaque = False
    while True:
        message, fd = child.receive()
        if fd < 0:
            return {"size": message["size"], "entries": message["entries"], "opaque": opaque}
        with files.opened(fd):
            if message["what"] == "opaque":
                make_opaque(fd)
                opaque = opaque or message["path"] == ""
            else:
                inherit(fd, message["path"], below)


def make_opaque(fd: int) -> None:
    """Have overlay hide what is below a directory.

    Raises:
        KernelError: no attribute of the two could be set.
    """
    failed: OSError | None = None
    done = False
    for name in OPAQUE_XATTRS:
        try:
            os.setxattr(fd, name, b"y")
            done = True
        except OSError as error:
            failed = error
    if failed and not done:
        raise KernelError(failed.errno, failed.strerror, "set trusted.overlay.opaque")


def inherit(fd: int, path: str, below: Sequence[str]) -> None:
    """Give a directory what the one at *path* in the layers below has.

    Args:
        path: from the layer's root.
    """
    for lower in below:
        with files.opened(os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
            try:
                found = paths.open_in_root(root, path or ".", os.O_PATH | os.O_NOFOLLOW)
            except KernelError as error:
                if error.errno == errno.ENOENT:
                    continue
                return
        with files.opened(found):
            status = os.fstat(found)
            if not stat.S_ISDIR(status.st_mode):
                return  # this layer has put a directory in its place
            with files.opened(os.open(f"/proc/self/fd/{found}", os.O_RDONLY)) as source:
                copy_attributes(source, fd)
        return


def copy_attributes(source: int, target: int) -> None:
    """Give a directory another's owner, mode, extended attributes and times."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    with suppress(OSError):
        for name in os.listxattr(source):
            if not name.startswith(("trusted.overlay.", "user.overlay.")):
                with suppress(OSError):
                    os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
