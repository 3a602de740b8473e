"""Containers on disk: one directory a container, with its state and a lock.

The directory's name is the container's, so making it claims the name: mkdir(2) succeeds once. Who
runs a container in the foreground holds its lock; the kernel frees that when the process ends,
however it ends, and so nobody mistakes a dead container for a running one.

See: runtime-spec runtime.md "State"; flock(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from minicontainer import jsontext
from minicontainer.errors import Conflict, InvalidArgument, KernelError, Unsupported
from minicontainer.record import Record
from minicontainer.runtime.spec import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-")
_LONGEST_NAME = 255  # of a file: path components have no more


class State(Record):
    """What is known of a container.

    Args:
        id: its name.
        status: creating, created, running or stopped.
        pid: of its first process, on the host; 0 before there is one.
        bundle: the bundle's directory.
        cgroup: its cgroup's path.
    """

    oci_version: str = OCI_VERSION
    id: str
    status: str = "creating"
    pid: int = 0
    bundle: str
    cgroup: str
    annotations: dict[str, str] = {}


def check_name(name: str) -> None:
    """Refuse a name that is no single path component, or would be one that moves.

    Raises:
        InvalidArgument: saying what a name may consist of.
    """
    if not name or len(name) > _LONGEST_NAME or name in (".", "..") or set(name) - _NAME_CHARACTERS:
        raise InvalidArgument(
            f"invalid container name {name!r}: use letters, digits and _ + . -, at most 255 of them"
        )


class Store:
    """The containers below one directory.

    Args:
        root: the directory; made when it is missing.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def directory(self, name: str) -> str:
        """Give the directory of a container."""
        return os.path.join(self.root, name)

    def reserve(self, name: str) -> int:
        """Claim a name: make its directory, and hold its lock.

        Returns:
            The lock's descriptor; closing it gives the lock up.
        Raises:
            Conflict: the name is taken.
            Unsupported: the directory can't be written.
        """
        check_name(name)
        directory = self.directory(name)
        draft = os.path.join(self.root, f".{name}.{os.getpid()}")
        try:
            os.makedirs(self.root, mode=0o711, exist_ok=True)
            # The lock exists before the directory has its final name: no moment at which another
            # process finds a container that nobody holds.
            os.mkdir(draft, 0o711)
            lock = _lock(draft)
            os.rename(draft, directory)
        except OSError as error:
            _remove(draft)
            if os.path.isdir(directory):
                raise Conflict(
                    f"container {name} exists already: choose another name, or remove it first"
                ) from None
            raise Unsupported(f"can't keep state in {self.root}: {error.strerror}") from None
        return lock

    def save(self, state: State) -> State:
        """Write the state so that a reader finds the old or the new one, whole."""
        path = os.path.join(self.directory(state.id), "state.json")
        draft = path + ".new"
        try:
            with open(draft, "w", encoding="utf-8") as file:
                file.write(jsontext.dump(state.to_json()) + "\n")
            os.rename(draft, path)
        except OSError as error:
            raise KernelError(error.errno, error.strerror, f"write {path}") from None
        return state

    def load(self, name: str) -> State | None:
        """Read a container's state; None while there is none, or it is not whole."""
        try:
            with open(os.path.join(self.directory(name), "state.json"), encoding="utf-8") as file:
                return State.from_json(jsontext.parse(file.read()))
        except (OSError, ValueError, InvalidArgument):
            return None

    def forget(self, name: str) -> None:
        """Remove a container's directory; nothing happens if it is gone."""
        _remove(self.directory(name))

    def abandoned(self) -> Iterator[str]:
        """Yield the containers whose holder is gone, each with its lock held meanwhile."""
        try:
            names = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return
        for name in names:
            directory = self.directory(name)
            try:
                lock = _lock(directory)
            except (BlockingIOError, NotADirectoryError, FileNotFoundError):
                continue
            try:
                yield name
            finally:
                os.close(lock)


def _remove(directory: str) -> None:
    """Remove a container's directory, which holds nothing but plain files."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)


def _lock(directory: str) -> int:
    """Lock a container's directory.

    Raises:
        BlockingIOError: another process holds it.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
