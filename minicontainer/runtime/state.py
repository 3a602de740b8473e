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
from minicontainer.record import NO_ENTRIES, Record
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
        status: creating, or created: from then on init is there.
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
    annotations: dict[str, str] = NO_ENTRIES


def check_name(name: str) -> None:
    """Refuse a name that is no single path component, or one of the store's own: those are hidden.

    Raises:
        InvalidArgument: saying what a name may consist of.
    """
    if not 0 < len(name) <= _LONGEST_NAME or name[0] == "." or set(name) - _NAME_CHARACTERS:
        raise InvalidArgument(
            f"invalid container name {name!r}: use letters, digits and _ + . -, at most 255 of "
            "them, and not a dot first"
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
        try:
            os.makedirs(self.root, mode=0o711, exist_ok=True)
            # so that nobody finds it there without its holder, and takes it for abandoned
            with _held(self.root):
                return _make_locked(directory)
        except OSError as error:
            if os.path.isdir(directory):
                raise Conflict(
                    f"container {name} exists already: choose another name, or remove it first"
                ) from None
            raise Unsupported(f"can't keep state in {self.root}: {error.strerror}") from None

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
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            if name.startswith("."):
                continue  # not a container's: `check_name`
            try:
                with _held(self.root):
                    lock = _lock(self.directory(name))
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


def _make_locked(directory: str) -> int:
    """Make a directory and lock it; there is none if that fails."""
    os.mkdir(directory, 0o711)
    try:
        return _lock(directory)
    except OSError:
        os.rmdir(directory)
        raise


@contextlib.contextmanager
def _held(directory: str) -> Iterator[None]:
    """Hold the lock of the directory of all containers, for a moment; wait for it if need be."""
    fd = _open(directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _lock(directory: str) -> int:
    """Lock a container's directory.

    Raises:
        BlockingIOError: another process holds it.
    """
    fd = _open(directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _open(directory: str) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
