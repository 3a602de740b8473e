"""A container's cgroup: one interface, whichever version of cgroups is mounted.

    cgroup = open_cgroup("/minicontainer/web")
    cgroup.create()
    cgroup.limit(Resources(memory=Memory(limit=64 << 20)))
    cgroup.add(pid)
    ...
    cgroup.kill()
    cgroup.remove()

See: cgroups(7); kernel admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

from minicontainer.cgroups import hierarchies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, Protocol

    from minicontainer.cgroups.hierarchies import View
    from minicontainer.cgroups.limits import DeviceRule, Resources
    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.cgroups.stats import Stats
    from minicontainer.cgroups.systemd import SystemdCgroup
    from minicontainer.cgroups.v1 import V1Cgroup
    from minicontainer.cgroups.v2 import V2Cgroup
else:
    Protocol = object


class Cgroup(Protocol):
    """The groups of one container, in every hierarchy.

    Expected errors are explained: not permitted, no such controller, a value that the kernel
    refuses.
    For all others, every method may raise a KernelError.
    """

    path: str  # below the mount points of the hierarchies; open_cgroup(path) finds it again
    version: Literal["v1", "hybrid", "v2"]

    def create(self) -> None:
        """Make the directories; on v2 have all controllers passed on to them.

        An existing group is used if it is empty, with the limits that it has.

        Raises:
            Conflict: it exists and has processes; or it is frozen: a process would never start
                there.
        """

    def add(self, pid: int) -> None:
        """Move a process into the group; its future children are in it too.

        On v1, the first such move after a pause waits 5 to 20 ms in write(2): do it while the
        container's process has other work.

        Raises:
            NotFound: the process has ended.
        """

    def give_to(self, uid: int, gid: int) -> None:
        """Let a user and a group of the host divide the cgroup, and move processes within it.

        Only on v2: on v1 it was never safe. See: cgroup-v2.rst "Delegation".
        """

    def limit(self, resources: Resources) -> None:
        """Set the limits that *resources* names; leave the others as they are.

        Raises:
            Unsupported: this kernel or version has no such limit, or no controller for it.
            InvalidArgument: a value that makes no sense, or that the kernel refuses.
            Conflict: more is in use already, and can't be reclaimed.
        """

    def planned(self, resources: Resources) -> list[tuple[str, str]]:
        """Give the writes by which `limit` would limit a new group: the file, and its text."""

    def allow_devices(self, rules: Iterable[DeviceRule]) -> None:
        """Let the group's processes use these devices and no others; later rules win.

        This replaces the earlier list; without rules nothing changes.

        Raises:
            InvalidArgument: a rule that makes no sense.
            Unsupported: v1 can't exclude one device from an allowed range.
        """

    def stats(self) -> Stats:
        """Read all counters.

        Raises:
            NotFound: the group does not exist.
        """

    def oom_kills(self) -> int:
        """Count the processes that were killed because a memory limit was reached."""

    def watch_oom(self) -> OomWatch:
        """Watch for memory that runs out, from now on.

        Raises:
            Unsupported: there is no memory controller.
        """

    def freeze(self) -> None:
        """Freeze all processes, and return when they are frozen.

        Raises:
            Conflict: some did not freeze in time; all are thawed then.
        """

    def thaw(self) -> None:
        """Thaw them."""

    def frozen(self) -> bool:
        """Report whether they are frozen."""

    def freezer(self) -> str:
        """Return the file that shows it: `freezer.is_frozen` reads it."""

    def processes(self) -> tuple[int, ...]:
        """List the processes, with those of groups below."""

    def kill(self, timeout_s: float = 10) -> None:
        """Kill every process by SIGKILL, frozen ones too, and return when none is left.

        Raises:
            Conflict: some did not die in time.
        """

    def remove(self, timeout_s: float = 5) -> None:
        """Remove the group and those below; do nothing if it is gone.

        Groups above are removed too if they are this project's (`minicontainer…`) and empty.

        Args:
            timeout_s: how long to wait for processes that are dying.
        Raises:
            Conflict: there are processes left.
        """

    def fd(self) -> int | None:
        """Open a descriptor for clone3(2)'s CLONE_INTO_CGROUP; None without a v2 hierarchy."""

    def unified_path(self) -> str:
        """Return the directory that `fd` opens; "" without a v2 hierarchy."""

    def tasks_paths(self) -> tuple[str, ...]:
        """Return the paths of the files that `tasks_files` opens, once the group exists."""

    def tasks_files(self) -> tuple[tuple[str, int], ...]:
        """Open the files by which a child joins v1's hierarchies; clone3(2) put it into `fd()`.

        Returns:
            The paths and descriptors of `tasks` files. A process with one thread moves itself in by
            writing 0 to each. To move another process, the kernel must wait for all processors
            (5 to 20 ms).
        """

    def mounts(self) -> tuple[View, ...]:
        """Return the directories that the container's /sys/fs/cgroup consists of."""


def open_cgroup(path: str, manager: str = "cgroupfs") -> Cgroup:
    """Return a cgroup, whether it exists yet or not.

    Args:
        manager: who makes it: cgroupfs, that is this project itself; or systemd, whose paths are
            slice:prefix:name, or an earlier `Cgroup.path`; or disabled: there is none.
        path: absolute: below the mount points of the hierarchies; or relative to this process's own
            cgroup, on v2 to the one above that. See runtime-spec config-linux.md, "Cgroups Path".
    Raises:
        InvalidArgument: the path is empty, or leaves its place by `..`.
        Unsupported: no hierarchy is mounted.
    """
    if manager == "systemd":
        return open_scope(path)
    if manager == "disabled":
        from minicontainer.cgroups.absent import AbsentCgroup  # few ask for it

        return AbsentCgroup(path)
    found = hierarchies.mounted()
    return _driver(found, found.resolve(path))


def open_scope(path: str) -> SystemdCgroup:
    """Return a cgroup that systemd makes: see `open_cgroup`."""
    from minicontainer.cgroups.systemd import SystemdCgroup, unit_of

    found = hierarchies.mounted()
    unit = unit_of(path)
    return SystemdCgroup(unit, _driver(found, found.resolve(unit.path)))


def _driver(found: hierarchies.Hierarchies, path: str) -> V1Cgroup | V2Cgroup:
    """Choose the driver for a group's files."""
    if found.version == "v2" and found.unified:
        from minicontainer.cgroups.v2 import V2Cgroup

        return V2Cgroup(found.unified, path)
    from minicontainer.cgroups.v1 import V1Cgroup  # only here: it imports cgroupspy

    return V1Cgroup(found, path)
