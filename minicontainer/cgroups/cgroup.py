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

    Every method may raise a KernelError for what nobody foresaw; what is foreseen is explained:
    not permitted, no such controller, a value that the kernel does not take.
    """

    path: str  # counted from where the hierarchies are mounted; open_cgroup(path) finds it again
    version: Literal["v1", "hybrid", "v2"]

    def create(self) -> None:
        """Make the directories, and on v2 have all controllers passed on to them.

        One that exists is used if it is empty, its limits with it.

        Raises:
            Conflict: it exists, and has processes; or it is frozen: one would never start there.
        """

    def add(self, pid: int) -> None:
        """Move a process in; the children that it makes from then on are in it too.

        On v1 the first such move after a quiet spell waits 5 to 20 ms for the kernel, inside
        write(2): do it while the container's process has other work.

        Raises:
            NotFound: the process has ended.
        """

    def give_to(self, uid: int, gid: int) -> None:
        """Let a user and a group of the host divide the cgroup, and move processes within it.

        On v2 alone: v1 was never safe to give away. See: cgroup-v2.rst "Delegation".
        """

    def limit(self, resources: Resources) -> None:
        """Set the limits that *resources* names; leave the others as they are.

        Raises:
            Unsupported: this kernel or version has no such limit, or no controller for it.
            InvalidArgument: a value that makes no sense, or that the kernel does not take.
            Conflict: more is in use already, where that can't be taken back.
        """

    def allow_devices(self, rules: Iterable[DeviceRule]) -> None:
        """Let the group's processes use these devices and no others; later rules win.

        It replaces what was allowed before; without rules nothing changes.

        Raises:
            InvalidArgument: a rule that makes no sense.
            Unsupported: v1 can't take one device out of an allowed range.
        """

    def stats(self) -> Stats:
        """Read all counters.

        Raises:
            NotFound: the group does not exist.
        """

    def oom_kills(self) -> int:
        """Count the processes that were killed because a memory limit was met."""

    def watch_oom(self) -> OomWatch:
        """Be told of each time from now on that the memory was not enough.

        Raises:
            Unsupported: there is no memory controller.
        """

    def freeze(self) -> None:
        """Stop all processes where they are, and return when they stand.

        Raises:
            Conflict: some would not stop in time; they all run on then.
        """

    def thaw(self) -> None:
        """Let them run on."""

    def frozen(self) -> bool:
        """Say whether they stand."""

    def freezer(self) -> str:
        """Name the file whose content says so: `freezer.is_frozen` reads it."""

    def processes(self) -> tuple[int, ...]:
        """List the processes, those of groups below among them."""

    def kill(self, timeout_s: float = 10) -> None:
        """End every process by SIGKILL, frozen ones too, and return when none is left.

        Raises:
            Conflict: some did not die in time.
        """

    def remove(self, timeout_s: float = 5) -> None:
        """Remove the group and those below; nothing happens if it is gone.

        Groups above go too if they are this project's (`minicontainer…`) and empty.

        Args:
            timeout_s: how long to wait for processes that are dying.
        Raises:
            Conflict: there are processes left.
        """

    def fd(self) -> int | None:
        """Open a descriptor for clone3(2)'s CLONE_INTO_CGROUP; None without a v2 hierarchy."""

    def unified_path(self) -> str:
        """Name the directory that `fd` opens; "" without a v2 hierarchy."""

    def tasks_paths(self) -> tuple[str, ...]:
        """Name the files that `tasks_files` opens, once the group is there."""

    def tasks_files(self) -> tuple[tuple[str, int], ...]:
        """Open what is left to join for a child that clone3(2) put into `fd()`: v1's hierarchies.

        Returns:
            The paths and descriptors of `tasks` files. A process with one thread moves itself in
            by writing 0 to each: the kernel then need not wait for all processors, as it must
            (5 to 20 ms) before one process may move another.
        """

    def mounts(self) -> tuple[View, ...]:
        """Say what the container's /sys/fs/cgroup consists of."""


def open_cgroup(path: str, manager: str = "cgroupfs") -> Cgroup:
    """Take hold of a cgroup, whether it exists yet or not.

    Args:
        manager: who makes it: cgroupfs, that is this project itself; or systemd, whose paths are
            slice:prefix:name, or what `Cgroup.path` then was.
        path: absolute: counted from where the hierarchies are mounted; or relative to this
            process's own cgroup, on v2 to the one above that. See runtime-spec config-linux.md,
            "Cgroups Path".
    Raises:
        InvalidArgument: the path is empty or leaves its place by `..`.
        Unsupported: no hierarchy is mounted.
    """
    if manager == "systemd":
        return open_scope(path)
    found = hierarchies.mounted()
    return _driver(found, found.resolve(path))


def open_scope(path: str) -> SystemdCgroup:
    """Take hold of a cgroup that systemd makes: see `open_cgroup`."""
    from minicontainer.cgroups.systemd import SystemdCgroup, unit_of

    found = hierarchies.mounted()
    unit = unit_of(path)
    return SystemdCgroup(unit, _driver(found, found.resolve(unit.path)))


def _driver(found: hierarchies.Hierarchies, path: str) -> V1Cgroup | V2Cgroup:
    """Choose the driver for a group's files."""
    if found.version == "v2" and found.unified:
        from minicontainer.cgroups.v2 import V2Cgroup

        return V2Cgroup(found.unified, path)
    from minicontainer.cgroups.v1 import V1Cgroup  # only here: it brings cgroupspy with it

    return V1Cgroup(found, path)
