"""Faults on purpose: a test stops a process between two of its actions, and kills one meanwhile.

The engine and the spawner are started with MINICONTAINER_FAULTS=DIRECTORY, and what they fork
inherits it. Then each `steps.take` and `steps.reach` looks into that directory:

    point     the place at which to wait, such as `after mount-rootfs`, and on a second line the
              number of the visit that counts, from 1
    paused    is there while a process waits; when it is removed, the process goes on
    reached   where this file is, every process adds its name and the places that it comes by

The directory is open to everybody: a container's first process has the rights of its user.
See: tests/engine/faults.py.
"""

from __future__ import annotations

import os
import time

from minicontainer import steps
from minicontainer.contexts import suppress

VARIABLE = "MINICONTAINER_FAULTS"
_LOOK_S = 0.002


class _Chosen:
    """The directory of this process; "" for none."""

    directory = ""


def begin(directory: str) -> None:
    """Look into *directory* at every place from now on; "" for never."""
    if directory:
        _Chosen.directory = directory
        steps.tell_places_to(_Faults(directory).reached)


def directory() -> str:
    """Give the directory, for a process that this one starts; "" for none."""
    return _Chosen.directory


class _Faults:
    """The directory, by a descriptor: after pivot_root(2) its path leads elsewhere."""

    def __init__(self, directory: str) -> None:
        self._path = directory
        self._inode = os.stat(directory).st_ino
        self._fd = -1

    def reached(self, place: str) -> None:
        """Note the place; wait there, if it is the point."""
        directory = self._directory()
        with suppress(OSError):
            fd = os.open("reached", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, dir_fd=directory)
            os.write(fd, f"{_name()} {place}\n".encode())
            os.close(fd)
        with suppress(OSError):
            fd = os.open("point", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            point, _, visit = os.read(fd, 200).decode().partition("\n")
            os.close(fd)
            if point == place:
                self._visit(int(visit), place, directory)

    def _visit(self, visit: int, place: str, directory: int) -> None:
        if visit > 1:
            fd = os.open("point", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=directory)
            os.write(fd, f"{place}\n{visit - 1}".encode())
            os.close(fd)
            return
        os.rename("point", "paused", src_dir_fd=directory, dst_dir_fd=directory)
        while True:
            os.stat("paused", dir_fd=directory)  # until this fails
            time.sleep(_LOOK_S)

    def _directory(self) -> int:
        """Open the directory, again in a process that has closed what it inherited."""
        with suppress(OSError):
            if os.fstat(self._fd).st_ino == self._inode:
                return self._fd
        with suppress(OSError):
            self._fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd


def _name() -> str:
    """Give this process's name; a first process need not have a /proc."""
    if os.getpid() == 1:
        return "init"
    with open("/proc/self/comm", encoding="utf-8") as file:
        return file.read().strip().removeprefix("minic:")
