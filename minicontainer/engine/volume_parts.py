"""A part of a volume: what `volume-subpath` names.

See: Docker's "Mount a volume subdirectory"; openat2(2) RESOLVE_BENEATH.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from minicontainer.engine.volume_contents import fill
from minicontainer.errors import InvalidArgument, KernelError, NotFound
from minicontainer.kernel import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def _opened(directory: str, subpath: str) -> Iterator[int]:
    """Open a part of a volume, without being led out by a link.

    Raises:
        NotFound, InvalidArgument: in Docker's words.
    """
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_MAGICLINKS
        fd = paths.openat2(root, subpath, os.O_PATH, how)
    except KernelError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise InvalidArgument(
                f"path concatenation escapes the base directory, base: {directory}, "
                f"subpath: {subpath}"
            ) from None
        raise NotFound(f"cannot access path {directory}/{subpath}: {error.strerror}") from None
    finally:
        os.close(root)
    try:
        yield fd
    finally:
        os.close(fd)


def find(directory: str, subpath: str) -> str:
    """Find a part of a volume, without being led out by a link."""
    with _opened(directory, subpath) as fd:
        return os.readlink(f"/proc/self/fd/{fd}")


def fill_part(directory: str, subpath: str, lowers: tuple[str, ...], target: str) -> None:
    """Fill a part of a volume, if it is an empty directory; one that is not there fails the start.

    By its descriptor: another container that has the volume could put a link in its place.
    """
    with contextlib.suppress(NotFound, InvalidArgument), _opened(directory, subpath) as fd:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            fill(f"/proc/self/fd/{fd}", lowers, target)
