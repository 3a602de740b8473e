"""Containers on disk: one directory a container, with its state and a lock.

The directory's name is the container's, so making it claims the name: mkdir(2) succeeds once. Who
creates a container holds its directory locked, alone; who then stays with its program shares that
lock with those who look. The kernel frees it when the process ends, however it ends, and so nobody
mistakes a dead container for a running one. Commands on a container that exists follow one another
by a second lock, the file `lock`. What a specification holds is not for everyone: all files are
their owner's alone, whatever the caller's umask.

See: runtime-spec runtime.md "State"; flock(2).
"""

from __future__ import annotations

import fcntl
import posix

from minicontainer import jsontext
from minicontainer.contexts import contextmanager, suppress
from minicontainer.errors import Conflict, InvalidArgument, KernelError, NotFound, Unsupported
from minicontainer.record import NO_ENTRIES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.runtime.config.spec import Spec

OCI_VERSION = "1.3.0"  # of the specification
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-")
_LONGEST_NAME = 255  # of a file: path components have no more
_LOCK = "lock"


class State(Record):
    """What is known of a container.

    Args:
        id: its name.
        pid: of its first process, on the host; 0 before there is one.
        pid_started: when that one began, in clock ticks since boot: it tells it from a later
            process with the same pid.
        bundle: the bundle's directory;  rootfs: its root file system.
        cgroup: its cgroup's path;  cgroup_manager: who makes it: `open_cgroup`.
        freezer: the file that says whether it is frozen.
        tasks: what a process writes 0 to in order to join its v1 cgroups;  unified: its cgroup
            v2 directory, "" without one.
        created: when, by the wall clock: 2026-01-31T12:00:00.123456789Z.
        annotations: as its specification has them;  has_hooks: whether that has hooks.
        new_keyring: whether its programs leave their caller's session keyring.
    """

    oci_version: str = OCI_VERSION
    id: str
    pid: int = 0
    pid_started: int = 0
    bundle: str
    rootfs: str = ""
    cgroup: str
    cgroup_manager: str = "cgroupfs"
    freezer: str = ""
    tasks: tuple[str, ...] = ()
    unified: str = ""
    created: str = ""
    annotations: dict[str, str] = NO_ENTRIES
    has_hooks: bool = False
    new_keyring: bool = True

    def as_oci(self, status: str, pid: int) -> dict[str, object]:
        """Give what the specification says that a state holds.

        Args:
            status: that it has now.
            pid: of the first process, as whoever is told sees it; 0 when that has ended.
        """
        return {
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            **({"pid": pid} if pid else {}),
            "bundle": self.bundle,
            "annotations": dict(self.annotations),
        }


def default_cgroup(name: str, manager: str) -> str:
    """Name the cgroup of a container whose specification names none.

    Args:
        manager: who makes it: `open_cgroup`.
    """
    return f":minicontainer:{name}" if manager == "systemd" else f"/minicontainer-{name}"


def unknown(name: str) -> NotFound:
    """Make the error for a container that is not there; engines look for these words."""
    return NotFound(f"container {name} does not exist")


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
        return f"{self.root}/{name}"

    def has(self, name: str) -> bool:
        """Say whether a container, or what is left of one, has a directory here."""
        return _exists(self.directory(name) + "/")  # with the slash: nothing but a directory

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
        import os  # here: only who makes a container needs it

        try:
            mask = posix.umask(0o022)  # for the directories above, which get no mode of their own
            try:
                os.makedirs(self.root, mode=0o711, exist_ok=True)
            finally:
                posix.umask(mask)
            # so that nobody finds it there without its holder, and takes it for abandoned
            with _held(self.root):
                return _make_locked(directory)
        except OSError as error:
            if self.has(name):
                raise Conflict(
                    f"container {name} exists already: choose another name, or remove it first"
                ) from None
            raise Unsupported(f"can't keep state in {self.root}: {error.strerror}") from None

    def save(self, state: State) -> State:
        """Write the state so that a reader finds the old or the new one, whole."""
        self.write(state.id, "state.json", jsontext.dump(state.to_json()) + "\n")
        return state

    def write(self, name: str, file_name: str, text: str) -> None:
        """Write a file of a container's directory so that a reader finds the old or the new one.

        Raises:
            KernelError: ENOSPC, EROFS, …
        """
        path = f"{self.directory(name)}/{file_name}"
        draft = path + ".new"
        try:
            with open(draft, "w", encoding="utf-8", opener=for_its_owner) as file:
                file.write(text)
            posix.rename(draft, path)
        except OSError as error:
            raise KernelError(error.errno, error.strerror, f"write {path}") from None

    def load(self, name: str) -> State | None:
        """Read a container's state; None while there is none, or it is not whole."""
        try:
            with open(f"{self.directory(name)}/state.json", encoding="utf-8") as file:
                return State.from_json(jsontext.parse(file.read()))
        except (OSError, ValueError, RecursionError, InvalidArgument):
            return None

    def load_config(self, name: str) -> Spec:
        """Read the specification that a container was made from, whatever became of its bundle.

        Raises:
            Conflict: it can't be read.
        """
        from minicontainer.runtime.config.spec import Spec  # few commands look at it: 2 ms

        path = f"{self.directory(name)}/config.json"
        try:
            with open(path, encoding="utf-8") as file:
                return Spec.from_json(jsontext.parse(file.read()))
        except (OSError, ValueError, RecursionError, InvalidArgument) as error:
            raise Conflict(f"container {name}: {path} can't be read: {error}") from None

    def has_config(self, name: str) -> bool:
        """Say whether it is there: it is written once the container's cgroup is its own."""
        return _exists(f"{self.directory(name)}/config.json")

    def names(self) -> list[str]:
        """List the containers, by name."""
        try:
            found = posix.listdir(self.root)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if name[0] != ".")  # those are not a container's

    def forget(self, name: str) -> None:
        """Remove a container's directory; nothing happens if it is gone."""
        _remove(self.directory(name))

    @contextmanager
    def operating(self, name: str) -> Iterator[None]:
        """Hold what makes commands that change a container follow one another; wait for it.

        Raises:
            NotFound: there is no such container, or another command removed it meanwhile.
        """
        check_name(name)
        try:
            fd = posix.open(f"{self.directory(name)}/{_LOCK}", posix.O_RDWR | posix.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise unknown(name) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if posix.fstat(fd).st_nlink == 0:
                raise unknown(name)
            yield
        finally:
            posix.close(fd)

    def has_lock(self, name: str) -> bool:
        """Say whether commands on a container can follow one another: not before it is reserved."""
        return _exists(f"{self.directory(name)}/{_LOCK}")

    def settle(self, claim: int) -> None:
        """Let the container count as made from now on, and go on holding it.

        Args:
            claim: what `reserve` gave.
        """
        # flock(2) gives the one lock up before it takes the other, and a sweeper must not get in.
        with _held(self.root):
            fcntl.flock(claim, fcntl.LOCK_SH)

    def is_being_created(self, name: str) -> bool:
        """Say whether a process has what `reserve` gave it, and did not `settle` it yet."""
        try:
            # shared: two who look at the same moment must not take each other for a creator
            posix.close(_lock(self.directory(name), fcntl.LOCK_SH | fcntl.LOCK_NB))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def wait_for_claims(self) -> None:
        """Wait until no directory is made but not yet locked: `is_being_created` is sure then."""
        with _held(self.root):
            pass

    def abandoned(self) -> Iterator[str]:
        """Yield the containers whose holder is gone, each with its lock held meanwhile."""
        for name in self.names():
            try:
                with _held(self.root):
                    lock = _lock(self.directory(name), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, NotADirectoryError, FileNotFoundError):
                continue
            try:
                yield name
            finally:
                posix.close(lock)


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _remove(directory: str) -> None:
    """Remove a container's directory."""
    with suppress(FileNotFoundError):
        _empty(_open(directory))
        posix.rmdir(directory)


def _empty(fd: int) -> None:
    """Remove what is in a directory, and close its descriptor.

    A privileged program can put anything where it finds its notify socket. So nothing is reached by
    a path, where links could lead away; and what is in a directory is moved up before that goes,
    however deep it is.
    """
    lifted = 0
    try:
        while names := [name for name in posix.listdir(fd) if name != _LOCK]:
            for name in names:
                with suppress(FileNotFoundError):  # another command removes it too
                    try:
                        posix.unlink(name, dir_fd=fd)
                    except IsADirectoryError:
                        lifted = _lift(fd, name, lifted)
        # The lock last: whoever waits for it then sees that the container is gone.
        with suppress(FileNotFoundError):
            posix.unlink(_LOCK, dir_fd=fd)
    finally:
        posix.close(fd)


def _lift(above: int, name: str, number: int) -> int:
    """Move what is in the directory *name* to the one above, under numbers, and remove it."""
    fd = _open(name, posix.O_NOFOLLOW, at=above)
    try:
        for inside in posix.listdir(fd):
            number += 1
            posix.rename(inside, f".{posix.getpid()}-{number}", src_dir_fd=fd, dst_dir_fd=above)
    finally:
        posix.close(fd)
    posix.rmdir(name, dir_fd=above)
    return number


def _make_locked(directory: str) -> int:
    """Make a directory and lock it; there is none if that fails."""
    posix.mkdir(directory, 0o711)
    try:
        # Waited for: somebody may be looking. And before there is a file that commands can lock:
        # they find then that it is being created.
        claim = _lock(directory, fcntl.LOCK_EX)
        posix.close(for_its_owner(f"{directory}/{_LOCK}", posix.O_CREAT | posix.O_CLOEXEC))
        return claim
    except OSError:
        _remove(directory)
        raise


@contextmanager
def _held(directory: str) -> Iterator[None]:
    """Hold the lock of the directory of all containers, for a moment; wait for it if need be."""
    fd = _open(directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        posix.close(fd)


def _lock(directory: str, how: int) -> int:
    """Lock a container's directory.

    Args:
        how: of flock(2).
    Raises:
        BlockingIOError: another process holds it.
    """
    fd = _open(directory)
    try:
        fcntl.flock(fd, how)
    except OSError:
        posix.close(fd)
        raise
    return fd


def for_its_owner(path: str, flags: int) -> int:
    """Open a file that, if it is new, is its owner's alone: as the *opener* of open()."""
    return posix.open(path, flags, 0o600)


def _open(directory: str, flags: int = 0, at: int | None = None) -> int:
    flags |= posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
    return posix.open(directory, flags, dir_fd=at)
