"""Whole file trees: remove one, however deep, or write it to disk.

See: unlinkat(2), syncfs(2), fsync(2).
"""

from __future__ import annotations

import os

from minicontainer.contexts import suppress
from minicontainer.errors import KernelError
from minicontainer.kernel import libc

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | bytes) -> None:
    """Remove a directory with everything in it; no link is followed.

    It uses no recursion and no growing path, since the maker of the tree chose its depth. A
    directory found in one of the top's is moved up to the top itself, until none is left; so no
    more than two are open at a time.

    Raises:
        OSError: ENOENT, ENOTDIR; EBUSY for a mount point in it.
    """
    top = os.open(path, _DIRECTORY)
    try:
        used = set(map(os.fsencode, os.listdir(top)))
        number = 0
        for name in list(used):
            if not _unlinked(name, top):
                waiting = [name]
                while waiting:
                    number = _lift(top, waiting.pop(), waiting, used, number)
    finally:
        os.close(top)
    os.rmdir(path)


def remove_if_there(path: str) -> None:
    """Remove a directory with everything in it; nothing happens when it is gone.

    Raises:
        KernelError: EBUSY, EIO, …
    """
    try:
        remove_tree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"remove {path}") from None


def _lift(top: int, name: bytes, waiting: list[bytes], used: set[bytes], number: int) -> int:
    """Remove a directory of *top*; the directories in it move to *top* and *waiting*."""
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for each in map(os.fsencode, os.listdir(directory)):
            if _unlinked(each, directory):
                continue
            try:
                os.rmdir(each, dir_fd=directory)  # most are empty by now
            except OSError:
                number += 1
                while b"%d" % number in used:
                    number += 1
                os.rename(each, b"%d" % number, src_dir_fd=directory, dst_dir_fd=top)
                waiting.append(b"%d" % number)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)
    return number


def _unlinked(name: bytes, directory: int) -> bool:
    """Unlink a file and return True; return False for a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True


def sync_filesystem(path: str) -> None:
    """Write all changes of the filesystem that *path* is on to its disk: syncfs(2).

    Raises:
        KernelError: EIO, ENOSPC: something could not be written.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.call("syncfs", fd, shell=f"sync --file-system {path}")
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Write a directory's entries to disk, so that its new names survive a crash."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with suppress(OSError):  # some filesystems have no fsync for directories
        os.fsync(fd)
    os.close(fd)
