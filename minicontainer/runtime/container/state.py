"""Containers on disk: a directory for each container, with its state and a lock.

The directory has the container's name, so making it claims the name: mkdir(2) succeeds once. The
process that creates a container holds an exclusive lock on its directory. A process that then stays
with the program holds that lock shared, as do processes that check it for a moment. The kernel
releases the lock when the process ends, however it ends, so that a dead container is never taken
for a running one. A second lock, the file `lock`, makes commands on an existing container wait for
one another. A specification may hold secrets: all files are readable by their owner alone, whatever
the caller's umask.

See: runtime-spec runtime.md "State"; flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import posix

from minicontainer import jsontext
from minicontainer.contexts import contextmanager, suppress
from minicontainer.errors import Conflict, InvalidArgument, KernelError, NotFound, Unsupported
from minicontainer.kernel import files
from minicontainer.record import NO_ENTRIES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.runtime.config.spec import Spec

OCI_VERSION = "1.3.0"  # of the specification
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-")
_LONGEST_NAME = 255  # the longest path component
_LOCK = "lock"
# Of this process or the host; they say nothing about a file.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
_DESCRIPTORS = 24  # that making a container takes at most, on v1 with its many hierarchies
_PLENTY = 256  # numbers: so many are never all in use but for a few


class State(Record):
    """What is known of a container.

    Args:
        id: its name.
        pid: the number of its first process on the host; 0 before there is one.
        pid_started: when that process began, in clock ticks since boot: a later process with the
            same number began at another time.
        bundle: the bundle's directory;  rootfs: its root file system.
        cgroup: its cgroup's path;  cgroup_manager: who makes it: `open_cgroup`.
        freezer: the file that says whether it is frozen.
        tasks: the files to which a process writes 0 to join its v1 cgroups;  unified: its cgroup
            v2 directory, "" without one.
        created: when, by the wall clock: 2026-01-31T12:00:00.123456789Z.
        annotations: those of its specification;  has_hooks: whether that has hooks.
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
        """Return the state as the specification describes it.

        Args:
            status: the container's status now.
            pid: the first process, as the reader sees it; 0 when it has ended.
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
    """Return the cgroup of a container whose specification names none.

    Args:
        manager: who makes it: `open_cgroup`.
    """
    return f":minicontainer:{name}" if manager == "systemd" else f"/minicontainer-{name}"


def unknown(name: str) -> NotFound:
    """Return the error for a missing container; engines look for these words."""
    return NotFound(f"container {name} does not exist")


def check_name(name: str) -> None:
    """Refuse a name that is not one path component, or that begins as the store's own hidden files
    do.

    Raises:
        InvalidArgument: it says what a name may consist of.
    """
    if not 0 < len(name) <= _LONGEST_NAME or name[0] == "." or set(name) - _NAME_CHARACTERS:
        raise InvalidArgument(
            f"invalid container name {name!r}: use letters, digits and _ + . -, at most 255 of "
            "them, and not a dot first"
        )


class Store:
    """The containers below one directory.

    Args:
        root: the directory; made if it is missing.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def directory(self, name: str) -> str:
        """Return the directory of a container."""
        return f"{self.root}/{name}"

    def has(self, name: str) -> bool:
        """Report whether a container, or what is left of one, has a directory here."""
        # the slash makes it fail for anything but a directory
        return _exists(self.directory(name) + "/")

    def reserve(self, name: str) -> int:
        """Claim a name: make its directory, and hold the directory's lock.

        Returns:
            The lock's descriptor; closing it releases the lock.
        Raises:
            Conflict: the name is taken.
            Unsupported: the directory can't be written.
        """
        check_name(name)
        _check_descriptors()
        directory = self.directory(name)
        import os  # here: only a command that makes a container needs it

        try:
            mask = posix.umask(0o022)  # for the parent directories, whose mode is not given
            try:
                os.makedirs(self.root, mode=0o711, exist_ok=True)
            finally:
                posix.umask(mask)
            # so that no process finds the directory unlocked, and takes its maker for dead
            with _held(self.root):
                return _make_locked(directory)
        except OSError as error:
            if error.errno == errno.EEXIST and self.has(name):
                raise Conflict(
                    f"container {name} exists already: choose another name, or remove it first"
                ) from None
            raise Unsupported(f"can't keep state in {self.root}: {error.strerror}") from None

    def save(self, state: State) -> State:
        """Write the state; a reader finds the old file or the new one, never a part."""
        self.write(state.id, "state.json", jsontext.dump(state.to_json()) + "\n")
        return state

    def write(self, name: str, file_name: str, text: str) -> None:
        """Write a file of a container's directory; a reader finds the old one or the new one.

        Raises:
            KernelError: ENOSPC, EROFS, …
        """
        path = f"{self.directory(name)}/{file_name}"
        draft = path + ".new"
        try:
            with files.opened(for_its_owner(draft, _NEW)) as fd:
                rest = text.encode()
                while rest:
                    rest = rest[posix.write(fd, rest) :]
            posix.rename(draft, path)
        except OSError as error:
            raise KernelError(error.errno, error.strerror, f"write {path}") from None

    def load(self, name: str) -> State | None:
        """Read a container's state; return None if it is missing or incomplete.

        Raises:
            KernelError: EMFILE, …: nobody knows what it says.
        """
        path = f"{self.directory(name)}/state.json"
        try:
            with open(path, encoding="utf-8") as file:
                return State.from_json(jsontext.parse(file.read()))
        except OSError as error:
            if error.errno in _SHORTAGES:
                raise KernelError(error.errno, error.strerror, f"read {path}") from None
            return None
        except (ValueError, RecursionError, InvalidArgument):
            return None

    def load_config(self, name: str, parse: Callable[[str], Spec] | None = None) -> Spec:
        """Read the specification that the container was made from; its bundle may have changed
        since.

        Args:
            parse: makes it of the text, where the caller knows more of that than JSON.
        Raises:
            Conflict: it can't be read.
        """
        path = self._config(name)
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            if parse is not None:
                return parse(text)
            from minicontainer.runtime.config.spec import Spec  # few commands read it: 2 ms

            return Spec.from_json(jsontext.parse(text))
        except (OSError, ValueError, RecursionError, InvalidArgument) as error:
            raise Conflict(f"container {name}: {path} can't be read: {error}") from None

    def _config(self, name: str) -> str:
        return f"{self.directory(name)}/config.json"

    def has_config(self, name: str) -> bool:
        """Report whether config.json is there: it is written once the cgroup is the container's
        own.
        """
        return _exists(self._config(name))

    def names(self) -> list[str]:
        """List the containers by name."""
        try:
            found = posix.listdir(self.root)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if name[0] != ".")  # hidden ones are the store's own

    def forget(self, name: str) -> None:
        """Remove a container's directory; do nothing if it is gone."""
        _remove(self.directory(name))

    @contextmanager
    def operating(self, name: str) -> Iterator[None]:
        """Wait for the lock by which commands on this container take turns, and hold it.

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
        """Report whether the container has the file `lock`, which comes with `reserve`."""
        return _exists(f"{self.directory(name)}/{_LOCK}")

    def settle(self, claim: int) -> None:
        """Let the container count as made from now on, and keep holding its lock, shared.

        Args:
            claim: the descriptor from `reserve`.
        """
        # flock(2) releases the exclusive lock before it takes the shared one; nobody who looks may
        # get in between.
        with _held(self.root):
            fcntl.flock(claim, fcntl.LOCK_SH)

    def is_being_created(self, name: str) -> bool:
        """Report whether a process holds the claim from `reserve`, not settled yet."""
        try:
            # shared: two processes that check at the same moment must not take each other for the
            # creator
            posix.close(_lock(self.directory(name), fcntl.LOCK_SH | fcntl.LOCK_NB))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def wait_for_claims(self) -> None:
        """Wait until each directory's maker has locked it; `is_being_created` is then sure."""
        with _held(self.root):
            pass


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
    """Remove everything in a directory, and close its descriptor.

    A privileged program can put anything where it finds its notify socket. So no path is used,
    which a link could lead elsewhere. Each directory's contents are moved up before it is removed,
    so that the depth does not matter.
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
        # The lock last: a process that waits for it then sees that the container is gone.
        with suppress(FileNotFoundError):
            posix.unlink(_LOCK, dir_fd=fd)
    finally:
        posix.close(fd)


def _lift(above: int, name: str, number: int) -> int:
    """Move the contents of the directory *name* to the one above, under numbers, and remove it."""
    fd = _open(name, posix.O_NOFOLLOW, at=above)
    try:
        for inside in posix.listdir(fd):
            number += 1
            posix.rename(inside, f".{posix.getpid()}-{number}", src_dir_fd=fd, dst_dir_fd=above)
    finally:
        posix.close(fd)
    posix.rmdir(name, dir_fd=above)
    return number


def _check_descriptors() -> None:
    """Check that this process can open the files that making a container, or its undoing, needs.

    Raises:
        Unsupported: naming the limit.
    """
    fds: list[int] = []
    try:
        fds.append(posix.open("/", posix.O_PATH | posix.O_CLOEXEC))
        with suppress(OSError):  # EINVAL: the limit is lower, so count
            fds.append(fcntl.fcntl(fds[0], fcntl.F_DUPFD_CLOEXEC, _PLENTY))
            return
        while len(fds) < _DESCRIPTORS:
            fds.append(posix.dup(fds[0]))
    except OSError as error:
        raise Unsupported(
            f"making a container needs {_DESCRIPTORS} more open files: {error.strerror}: "
            "raise the limit (ulimit -n)"
        ) from None
    finally:
        for fd in fds:
            posix.close(fd)


def _make_locked(directory: str) -> int:
    """Make a directory and lock it; if that fails, there is no directory."""
    posix.mkdir(directory, 0o711)
    try:
        posix.chmod(directory, 0o711)  # whatever the caller's umask
        # This waits, since another process may be checking the lock. It comes before the file
        # `lock`: a command that finds that file then sees that the container is being created.
        claim = _lock(directory, fcntl.LOCK_EX)
        posix.close(for_its_owner(f"{directory}/{_LOCK}", posix.O_CREAT | posix.O_CLOEXEC))
        return claim
    except OSError:
        _remove(directory)
        raise


@contextmanager
def _held(directory: str) -> Iterator[None]:
    """Hold the lock of the directory of all containers for a moment; wait for it if necessary."""
    fd = _open(directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        posix.close(fd)


def _lock(directory: str, how: int) -> int:
    """Lock a container's directory.

    Args:
        how: the operation of flock(2).
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
    """Open a file; a new one is readable by its owner alone."""
    return posix.open(path, flags, 0o600)


def _open(directory: str, flags: int = 0, at: int | None = None) -> int:
    flags |= posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
    return posix.open(directory, flags, dir_fd=at)
