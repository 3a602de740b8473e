"""What both cgroup versions share: a group is a directory, and has processes."""

from __future__ import annotations

import errno
import posix
import time

from minicontainer.cgroups import refusals
from minicontainer.errors import Conflict, KernelError
from minicontainer.kernel import files, pidfds, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# A group of this name, or below one, is this project's: it is removed when the last group in it is.
# Other programs made the groups above, perhaps with limits in them: those stay, as with runc.
_OURS = "minicontainer"


def make(mount_point: str, path: str) -> bool:
    """Make the group *path*, and missing ones above it; report whether it is new.

    The removal of another container may remove an empty group above at any moment: it is then made
    again. Each such repetition means that another process has made progress, so this ends.

    Raises:
        Error: of mkdir(2), explained.
    """
    while True:
        try:
            files.make_dir(mount_point + path, object=f"cgroup:{path}")
            return True
        except KernelError as error:
            if error.errno == errno.EEXIST:
                return False
            above = path.rpartition("/")[0]
            # ENODEV: the group above is being removed
            if error.errno not in (errno.ENOENT, errno.ENODEV) or not above:
                raise refusals.of_directory(error, path) from None
        make(mount_point, above)


def occupied(path: str) -> Conflict:
    """Return the error for a group that has processes and so can't be made."""
    return Conflict(f"cgroup {path} exists and has processes: end them, or use another path")


def frozen(path: str) -> Conflict:
    """Return the error for a frozen group: a process that enters it stops."""
    return Conflict(f"cgroup {path} is frozen, or one above it: thaw it, or use another path")


def remove(mount_point: str, path: str, timeout_s: float) -> None:
    """Remove the group *path* and those in it, then those above that are this project's.

    Args:
        timeout_s: how long to wait for processes that are dying.
    Raises:
        Conflict: processes are left.
    """
    _remove_tree(mount_point, path, time.monotonic() + timeout_s)
    above = path.rpartition("/")[0]
    while _OURS in above and not _has_groups(mount_point + above):
        try:
            files.remove_dir(mount_point + above, object=f"cgroup:{above}")
        except KernelError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return  # another container's group is in it
            if error.errno != errno.ENOENT:
                raise refusals.of_directory(error, above) from None
        above = above.rpartition("/")[0]


def _has_groups(directory: str) -> bool:
    """Report whether other groups are in one: each of them counts as a link, beside its own two."""
    try:
        return posix.stat(directory).st_nlink > 2  # "." and the name
    except OSError:
        return False


def remove_empty(mount_points: Iterable[str], path: str) -> bool:
    """Remove the group *path* from hierarchies, if it has no process; report whether it is gone."""
    try:
        for mount_point in mount_points:
            remove(mount_point, path, timeout_s=0)
    except Conflict:
        return False
    return True


def _remove_tree(mount_point: str, path: str, deadline: float) -> None:
    """Try rmdir(2) first, and look for groups inside only if that fails: most groups are empty."""
    pause_s = 0.001
    while True:
        try:
            return files.remove_dir(mount_point + path, object=f"cgroup:{path}")
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise refusals.of_directory(error, path) from None
        for name in sub_groups(mount_point + path):
            _remove_tree(mount_point, f"{path}/{name}", deadline)
        pids = processes(mount_point + path)
        if time.monotonic() > deadline:
            left = ", ".join(map(str, pids)) or "some that /proc does not show"
            raise Conflict(f"cgroup {path} still has processes ({left}): end them first")
        # A process leaves its group a moment before it has ended. And threads of a process whose
        # first thread has ended are listed nowhere, so only time can be waited for.
        if not pids or not _wait_for_an_end(pids, deadline):
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)


def sub_groups(directory: str) -> list[str]:
    """Return the names of the groups directly below one; none if it is gone."""
    try:
        with posix.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def tree(directory: str) -> Iterator[str]:
    """Yield the directory of a group and of all below it, the deepest last."""
    yield directory
    for name in sub_groups(directory):
        yield from tree(f"{directory}/{name}")


def hugepage_sizes(directory: str, suffix: str) -> list[str]:
    """Return the sizes of huge pages that a group has files for: 2MB, from hugetlb.2MB SUFFIX."""
    names = [
        name.removeprefix("hugetlb.") for name in posix.listdir(directory) if "hugetlb." in name
    ]
    sizes = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    return sorted(size for size in sizes if "." not in size)  # 2MB.rsvd counts reservations


def processes(directory: str) -> tuple[int, ...]:
    """List the processes in a group and all below it; () if it is gone."""
    found: list[int] = []
    for group in tree(directory):
        try:
            found += map(int, files.read_file(f"{group}/cgroup.procs").split())
        except KernelError as error:
            # removed meanwhile; or threaded, and its processes are listed in the group above
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    # 0: a process of a PID namespace that this process does not see
    return tuple(pid for pid in found if pid)


def kill_one_by_one(directory: str) -> None:
    """Send SIGKILL once to every process of a group and the groups below.

    A number may be another process's by the time of the signal. So the process is opened first,
    then its number is looked up again in the group.
    """
    held = {pid: fd for pid in processes(directory) if (fd := _hold(pid)) is not None}
    try:
        for pid in held.keys() & set(processes(directory)):
            try:
                pidfds.pidfd_send_signal(held[pid], signals.SIGKILL, pid)
            except KernelError as error:
                if error.errno != errno.ESRCH:
                    raise
    finally:
        for fd in held.values():
            posix.close(fd)


def wait_until_empty(
    directory: str, path: str, timeout_s: float, again: Callable[[], None] | None = None
) -> None:
    """Wait until a group and all below have no process.

    Args:
        timeout_s: seconds.
        again: called each time that some are left, to kill new ones.
    Raises:
        Conflict: some are left at the timeout.
    """
    deadline = time.monotonic() + timeout_s
    while pids := processes(directory):
        if time.monotonic() > deadline:
            raise Conflict(
                f"cgroup {path}: processes {', '.join(map(str, pids))} do not die: they may hang "
                "in the kernel (state D in ps)"
            )
        if not _wait_for_an_end(pids, deadline):
            time.sleep(0.001)
        if again:
            again()


def _wait_for_an_end(pids: tuple[int, ...], deadline: float) -> bool:
    """Wait until one of *pids* ends, a tenth of a second at most.

    Returns:
        Whether it waited. It did not if a process had ended, and only its group still listed it.
    """
    import select  # few containers have a process left to wait for

    held = [fd for pid in pids if (fd := _hold(pid)) is not None]
    try:
        poll = select.poll()
        for fd in held:
            poll.register(fd, select.POLLIN)
        if len(held) < len(pids) or poll.poll(0):
            return False
        poll.poll(max(0, min(100, (deadline - time.monotonic()) * 1000)))
        return True
    finally:
        for fd in held:
            posix.close(fd)


def _hold(pid: int) -> int | None:
    """Open a descriptor of a process; return None if it has ended."""
    try:
        return posix.pidfd_open(pid)
    except OSError:
        return None
