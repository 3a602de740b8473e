"""Find the file that a program's name means, as execvp(3) does.

It is looked up in the container's own PATH and files, so when the root is the container's.
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.errors import InitError, KernelError
from minicontainer.kernel import paths
from minicontainer.runtime import accounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_UID, _HOME = 2, 5  # fields of a line of passwd(5)


def find(name: str, path: str) -> str:
    """Find a program.

    Args:
        name: a path, if it has a slash; otherwise a name to look for in *path*.
        path: directories, separated by colons.
    Raises:
        KernelError: ENOENT; EACCES for a directory, or for a file that may not be executed.
        InitError: no directory has it.
    """
    if "/" in name:
        _check_executable(name)
        return name
    refused: KernelError | None = None
    for directory in path.split(":") if name else ():
        candidate = os.path.join(directory or ".", name)
        try:
            _check_executable(candidate)
        except KernelError as error:
            refused = error if error.errno == errno.EACCES else refused
        else:
            return candidate
    if refused:
        raise refused
    raise InitError(f"exec: {name!r}: executable file not found in $PATH", errno=errno.ENOENT)


def environment(settings: Iterable[str]) -> dict[str, str]:
    """Turn NAME=value settings into an environment; a later setting of a name wins."""
    pairs = (setting.partition("=") for setting in settings)
    return {name: value for name, equals, value in pairs if equals and name}


def home_of(uid: int, root_fd: int) -> str:
    """Find a user's home directory; "/" if /etc/passwd does not name one.

    Args:
        root_fd: the root whose /etc/passwd is read.
    """
    for _, entry in accounts.lines(paths.read_in_root(root_fd, "etc/passwd"), _HOME + 1):
        if accounts.to_id(entry[_UID]) == uid:
            return entry[_HOME] or "/"
    return "/"


def _check_executable(path: str) -> None:
    try:
        found = os.stat(path)
    except OSError as error:
        raise KernelError(error.errno, _lower(error.strerror or ""), f"exec: {path!r}") from None
    if stat.S_ISDIR(found.st_mode):
        raise KernelError(errno.EACCES, "is a directory: permission denied", f"exec: {path!r}")
    if not os.access(path, os.X_OK):
        raise KernelError(errno.EACCES, "permission denied", f"exec: {path!r}")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
