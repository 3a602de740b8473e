"""Paths of a layer, from its root: names of an archive in one form, and steps along long ones.

The process that uses them has the layer's directory as its root. A path may be longer than the
4096 bytes that one system call takes: then it is gone in several steps.

See: path_resolution(7).
"""

from __future__ import annotations

import os

from minicontainer.errors import InvalidArgument, printable, shortened

LONGEST_STEP = 4000  # bytes of a path that go into one call


def clean(name: bytes) -> bytes:
    """Give a name of an archive in its one form: no slash at the ends, no `.` and `..`.

    Raises:
        InvalidArgument: it leads out of the archive's root.
    """
    if name[:2] == b"./":
        name = name[2:]
    name = name.strip(b"/")
    if b"/." not in name and b"//" not in name and name[:1] != b".":
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidArgument(f"{shown(name)}: the path leads out of the layer")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def change_directory(path: bytes) -> None:
    """chdir(2) below the root, in several steps if the path is longer than the kernel takes."""
    if len(path) < LONGEST_STEP:
        os.chdir(b"/" + path)
        return
    os.chdir("/")
    step: list[bytes] = []
    length = 0
    for part in path.split(b"/"):
        if length + len(part) > LONGEST_STEP:
            os.chdir(b"/".join(step))
            step, length = [], 0
        step.append(part)
        length += len(part) + 1
    os.chdir(b"/".join(step))


class opened_parent:  # noqa: N801  # a context manager, named as a function
    """The directory of a path below the root, and the path's last part; the cwd stays."""

    def __init__(self, path: bytes) -> None:
        self._parent, _, self._base = path.rpartition(b"/")
        self._fd = -1

    def __enter__(self) -> tuple[int, bytes]:
        if len(self._parent) < LONGEST_STEP:
            self._fd = os.open(b"/" + self._parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            return self._fd, self._base
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            change_directory(self._parent)
            self._fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.fchdir(here)
            os.close(here)
        return self._fd, self._base

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def open_real_directory(path: bytes) -> int:
    """Open a directory below the root; not by a link at the path's end.

    Raises:
        NotADirectoryError: it is something else by now.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with opened_parent(path) as (at, base):
        return os.open(base or b"/", flags, dir_fd=at)


def shown(name: bytes) -> str:
    """Write a name of an archive for a message."""
    return shortened(printable(os.fsdecode(name).encode("utf-8", "backslashreplace").decode()))
