"""Directories that are gone for everybody, and whose files are still to be removed.

A container can have written a million files. To remove it, its directory is moved here, which is
one rename(2); a thread then removes the files. What a killed engine left, the next one removes.
"""

from __future__ import annotations

import collections
import errno
import os
import queue
import threading

from minicontainer import steps
from minicontainer.contexts import suppress
from minicontainer.errors import KernelError
from minicontainer.kernel import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Trash:
    """The directory, and the thread that empties it.

    Args:
        data_root: on the same file system as what is thrown away.
        warn: hears of what can't be removed; the next engine tries again.
    """

    def __init__(self, data_root: str, warn: Callable[[str], None]) -> None:
        self._directory = os.path.join(data_root, "trash")
        self._warn = warn
        self._thrown: collections.deque[str] = collections.deque()
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        for name in os.listdir(self._directory):
            self._waiting.put(os.path.join(self._directory, name))
        self._thread = threading.Thread(target=self._empty, name="trash", daemon=True)
        self._thread.start()

    def throw(self, directory: str) -> None:
        """Take a directory away at once, until `empty`; nothing happens when it is gone.

        Raises:
            KernelError: EBUSY, EIO, …
        """
        place = os.path.join(self._directory, os.path.basename(directory))
        steps.reach("before throw-directory")
        try:
            steps.noted(
                "rename", (directory, place), lambda: os.rename(directory, place),
                object=f"file:{directory}", shell=f"mv {directory} {place}",
            )  # fmt: skip
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return
            raise KernelError(error.errno, error.strerror, f"remove {directory}") from None
        steps.reach("after throw-directory")
        self._thrown.append(place)

    def empty(self) -> None:
        """Have the thread remove the files of what was thrown away."""
        with suppress(IndexError):  # no more is there
            while True:
                self._waiting.put(self._thrown.popleft())

    def _empty(self) -> None:
        while place := self._waiting.get():
            steps.reach("before empty-trash")
            try:
                trees.remove_tree(place)
            except OSError as error:
                self._warn(f"{place} can't be removed: {error.strerror}")

    def close(self) -> None:
        """Remove what is here, and end the thread."""
        self.empty()
        self._waiting.put("")
        self._thread.join()
