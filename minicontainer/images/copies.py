"""Where the kernel refuses overlay: a container gets a plain copy of its image's files.

So it is with a data root on a filesystem that can be no upper directory (another overlay, some
network filesystems), and in user namespaces before Linux 5.11. The copy costs the time and the
space that overlay spares, and no layer is shared; all else works.

See: overlayfs.rst "Upper and lower filesystems".
"""

from __future__ import annotations

import os
import tempfile

from minicontainer.contexts import ExitStack, suppress
from minicontainer.errors import Error, KernelError
from minicontainer.images import directories
from minicontainer.images.changes import write_tree
from minicontainer.images.confinement import Child
from minicontainer.kernel import files, mounts, namespaces, overlay, trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_LIMIT = 1 << 62
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def why_no_overlay(data_root: str) -> str:
    """Say why a container's files can't be an overlay here; "" if they can.

    Args:
        data_root: where the layers and the writable directories are.
    """
    with tempfile.TemporaryDirectory(prefix="overlay-", dir=data_root) as base:
        try:
            return trial.in_child(lambda: _try_overlay(base))
        except (Error, OSError) as error:
            return f"{data_root}: {error}"


def _try_overlay(base: str) -> str:
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{base}/{name}")
    try:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    except KernelError:
        return ""  # nothing can be mounted at all: a start says so
    asked = overlay.Overlay(lowers=(f"{base}/lower",), upper=f"{base}/upper", work=f"{base}/work")
    with files.opened(os.open(f"{base}/merged", os.O_PATH | os.O_DIRECTORY)) as place:
        os.close(overlay.mount(asked, place, where=f"{base}/merged"))
    os.mkdir(f"{base}/merged/written")
    return "" if os.listdir(f"{base}/upper") else "an overlay mounts here, and joins nothing"


def copy_layers(lowers: Sequence[str], target: str) -> None:
    """Copy what layers show as one tree into an empty directory.

    Args:
        lowers: the layers, the uppermost first.
    Raises:
        KernelError: ENOSPC and what else the kernel says.
    """
    with ExitStack() as stack:
        fd = os.open(target, _DIRECTORY)
        stack.callback(os.close, fd)
        child = Child("minicontainer.images.unpack", fd, (_NO_LIMIT, _NO_LIMIT, 0))
        stack.callback(child.end)
        with suppress(BrokenPipeError):  # it has ended, and says why
            write_tree(lowers, _Input(child.stdin))
        child.close_stdin()
        directories.finish(child, ())
        with files.opened(os.open(lowers[0], _DIRECTORY)) as source:
            directories.copy_attributes(source, fd)


class _Input:
    """The input of a process, as a file that takes all of what is written."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes, /) -> None:
        """Write all of *data*."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
