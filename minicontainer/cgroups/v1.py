"""Cgroup v1: a tree for each controller, with a group of the same path in all of them.

On a hybrid host the v2 hierarchy is joined too; a controller that only v2 has is used there.
See: kernel admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import errno
import os
import time

from minicontainer.cgroups import control_files, directories, refusals
from minicontainer.cgroups.freezer import is_frozen
from minicontainer.cgroups.hierarchies import View
from minicontainer.cgroups.v1_controllers import CONTROLLERS, OurController, Place
from minicontainer.cgroups.v2 import V2Cgroup
from minicontainer.contexts import ExitStack, suppress
from minicontainer.errors import Conflict, KernelError, NotFound, Unsupported
from minicontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from minicontainer.cgroups.control_files import Limit
    from minicontainer.cgroups.hierarchies import Hierarchies
    from minicontainer.cgroups.limits import DeviceRule, Resources
    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.cgroups.stats import Stats

_FREEZE_TIMEOUT_S = 10


def _controller_of(file: str) -> str:
    """Name the controller of a control file: `memory` of memory.max."""
    return file.partition(".")[0]


class V1Cgroup:
    """A group of the same path in every v1 hierarchy, and in that of v2 if it is mounted too.

    Args:
        hierarchies: all that are mounted.
        path: absolute, below each mount point.
    """

    def __init__(self, hierarchies: Hierarchies, path: str) -> None:
        self.path = path
        self.version = hierarchies.version
        self._hierarchies = hierarchies.v1
        self.unified = V2Cgroup(hierarchies.unified, path) if hierarchies.unified else None
        self._mount_points = {
            name: hierarchy.mount_point
            for hierarchy in hierarchies.v1
            for name in hierarchy.controllers
        }
        # Processes are listed in one hierarchy, which no program inside has a use for.
        counted = self._mount_points.get("freezer", hierarchies.v1[0].mount_point)
        self._counted = counted + path

    def controller(self, name: str, path: str | None = None) -> Any:
        """Return a controller's files in this group, or another; None if it is not mounted.

        The result has no type, since cgroupspy's attributes have none.
        """
        if name not in self._mount_points:
            return None
        path = self.path if path is None else path
        return CONTROLLERS.get(name, OurController)(Place(self._mount_points[name] + path, path))

    def _require_group(self) -> None:
        if not os.path.exists(self._counted):
            raise NotFound(f"cgroup {self.path} does not exist")

    # ---- making and removing

    def create(self) -> None:
        """Make the group in every hierarchy."""
        with ExitStack() as undo:
            for hierarchy in self._hierarchies:
                if directories.make(hierarchy.mount_point, self.path):
                    undo.callback(directories.remove, hierarchy.mount_point, self.path, 0)
                elif directories.processes(hierarchy.mount_point + self.path):
                    raise directories.occupied(self.path)
                if "cpuset" in hierarchy.controllers:
                    self._inherit_cpuset(self.path)
            if is_frozen(self.freezer()):
                raise directories.frozen(self.path)
            if self.unified:
                # without controllers: except perhaps for hugetlb, all are in v1
                self.unified.make_directory()
            undo.pop_all()

    def complete(self) -> None:
        """Make the missing groups, after systemd has made some and put a process in."""
        for hierarchy in self._hierarchies:
            directories.make(hierarchy.mount_point, self.path)
            if "cpuset" in hierarchy.controllers:
                self._inherit_cpuset(self.path)
        if self.unified:
            directories.make(self.unified.top, self.path)

    def _inherit_cpuset(self, path: str) -> None:
        """Copy processors and memory nodes from above if a group has none: it could have no task.

        The group above may be new too, made by another process that has not copied them yet.
        """
        cpuset = self.controller("cpuset", path)
        above_path = path.rpartition("/")[0]
        for name in ("cpus", "mems"):
            if not getattr(cpuset, name):
                if above_path:
                    self._inherit_cpuset(above_path)
                setattr(cpuset, name, getattr(self.controller("cpuset", above_path), name))

    def remove(self, timeout_s: float = 5) -> None:
        """Remove the group from every hierarchy."""
        for hierarchy in self._hierarchies:
            directories.remove(hierarchy.mount_point, self.path, timeout_s)
        if self.unified:
            self.unified.remove(timeout_s)

    # ---- processes

    def add(self, pid: int) -> None:
        """Move a process into the group of every hierarchy.

        One move directly after the other: before the first one the kernel waits until all
        processors have passed a quiet state, but not before those that follow at once.
        """
        try:
            for hierarchy in self._hierarchies:
                place = Place(hierarchy.mount_point + self.path, self.path)
                OurController(place).procs = [pid]
        except KernelError as error:
            raise refusals.of_process(error, self.path, pid) from None
        if self.unified:
            self.unified.add(pid)

    def give_to(self, uid: int, gid: int) -> None:
        """Do nothing: a user who can write to a group of v1 can harm the host."""

    def fd(self) -> int | None:
        """Open the v2 group of a hybrid host for clone3(2), which only knows v2."""
        return self.unified.fd() if self.unified else None

    def unified_path(self) -> str:
        """Return the v2 directory of a hybrid host."""
        return self.unified.directory if self.unified else ""

    def tasks_paths(self) -> tuple[str, ...]:
        """Return the `tasks` file of every v1 hierarchy."""
        return tuple(f"{h.mount_point}{self.path}/tasks" for h in self._hierarchies)

    def tasks_files(self) -> tuple[tuple[str, int], ...]:
        """Open the `tasks` file of every v1 hierarchy, for a process that moves itself in."""
        return tuple((path, files.open_for_writing(path)) for path in self.tasks_paths())

    def processes(self) -> tuple[int, ...]:
        """List the processes, with those of groups below."""
        return directories.processes(self._counted)

    def kill(self, timeout_s: float = 10) -> None:
        """Kill every process: all at once if v2 is mounted too, otherwise one by one.

        A frozen process dies when it thaws. Processes are frozen while the signals are sent, so
        that no child is missed. Without a freezer, the next round of signals reaches those
        children.
        """
        if not os.path.exists(self._counted):
            return
        at_once = self.unified is not None and self.unified.kill_at_once()
        # NotFound, ENOENT, ENODEV: another command has removed the group
        with suppress(NotFound, KernelError):
            if not at_once and not self.frozen() and self.freezer():
                self._set_frozen(True)
        directories.kill_one_by_one(self._counted)  # at_once: those moved out of the v2 group
        with suppress(NotFound, KernelError):
            self.thaw()

        def kill_the_rest() -> None:
            directories.kill_one_by_one(self._counted)

        directories.wait_until_empty(self._counted, self.path, timeout_s, kill_the_rest)

    def _set_frozen(self, frozen: bool) -> None:
        freezer = self.controller("freezer")
        if freezer:
            freezer.state = "FROZEN" if frozen else "THAWED"
        elif frozen:
            raise Unsupported(
                f"cgroup {self.path}: no freezer controller is mounted: "
                "mount -t cgroup -o freezer none /sys/fs/cgroup/freezer"
            )

    def freeze(self) -> None:
        """Freeze all processes, and return when they are frozen.

        While new processes are made, it may not succeed until it is requested again.
        """
        self._require_group()
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        self._set_frozen(True)
        while not self.frozen():
            if time.monotonic() > deadline:
                self.thaw()
                raise Conflict(f"cgroup {self.path}: its processes did not freeze in time")
            time.sleep(0.001)
            self._set_frozen(True)

    def thaw(self) -> None:
        """Thaw them."""
        self._require_group()
        self._set_frozen(False)

    def frozen(self) -> bool:
        """Report whether they are frozen."""
        freezer = self.controller("freezer")
        return bool(freezer and freezer.known("state", "") == "FROZEN")

    def freezer(self) -> str:
        """Return the file that shows it."""
        freezer = self.controller("freezer")
        return str(freezer.filepath("freezer.state")) if freezer else ""

    # ---- limits

    def limit(self, resources: Resources, agree: Callable[[], None] | None = None) -> None:
        """Set the limits that are named; *agree* as in `control_files.apply`."""
        self._require_group()
        if resources.unified:
            raise Unsupported(
                "linux.resources.unified: this host has cgroup v1: use the other fields"
            )
        control_files.check_use(resources, self.read("memory.usage_in_bytes"))
        control_files.apply(resources, self.path, self._is_v2, self._write_limit, self.read, agree)

    def planned(self, resources: Resources) -> list[tuple[str, str]]:
        """Give the writes by which `limit` would limit a new group: the file, and its text."""
        found: list[tuple[str, str]] = []

        def keep(_: str, file: str, text: str) -> None:
            controller = self.controller(_controller_of(file))
            directory = self.unified_path() if controller is None else controller.node.full_path
            found.append((f"{directory}/{file}", text))

        control_files.apply(resources, self.path, self._is_v2, keep, self.read)
        return found

    def _is_v2(self, row: Limit) -> bool:
        """Report whether only the v2 hierarchy has a row's controller, as hugetlb on some hosts."""
        if any(_controller_of(file) in self._mount_points for file, _ in row.v1):
            return False
        unified = self.unified
        return unified is not None and any(unified.has(_controller_of(file)) for file, _ in row.v2)

    def _write_limit(self, where: str, file: str, text: str) -> None:
        name = file.partition(".")[0]
        controller = self.controller(name)
        if controller:
            controller.set_property(file, text)
        elif self.unified and self.unified.has(name):
            self.unified.write_limit(where, file, text)
        else:
            raise refusals.of_missing_controller(name, where, " ".join(self._mount_points))

    def read(self, file: str) -> str:
        """Read a control file; with ../ one of the group above. "" if there is none."""
        controller = self.controller(file.removeprefix("../").partition(".")[0])
        if not controller:
            return self.unified.read(file) if self.unified else ""
        try:
            return str(controller.get_property(file))
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                return ""
            raise

    def allow_devices(self, rules: Iterable[DeviceRule]) -> None:
        """Let these devices be used and no others."""
        from minicontainer.cgroups.device_filter import Rules, for_v1

        listed = list(rules)
        if not listed:
            return
        self._require_group()
        wanted = Rules(listed)
        exceptions = for_v1(wanted)
        devices = self.controller("devices")
        if not devices:
            raise refusals.of_missing_controller(
                "devices", "linux.resources.devices", " ".join(self._mount_points)
            )
        try:
            # this also empties the list of exceptions
            if wanted.default:
                devices.allow = "a *:* rwm"
            else:
                devices.deny = "a *:* rwm"
            for device, access in exceptions:
                if wanted.default:
                    devices.deny = f"{device} {access}"
                else:
                    devices.allow = f"{device} {access}"
        except KernelError as error:
            raise refusals.of_devices(error, self.path) from None

    def mounts(self) -> tuple[View, ...]:
        """Return the parts of the container's /sys/fs/cgroup: a directory for each hierarchy."""
        views = []
        for hierarchy in self._hierarchies:
            name = hierarchy.mount_point.rpartition("/")[2]
            views.append(
                View(
                    name=name,
                    source=hierarchy.mount_point + self.path,
                    filesystem="cgroup",
                    links=tuple(c for c in hierarchy.controllers if c != name and "=" not in c),
                )
            )
        if self.unified:
            views.append(self.unified.mounts()[0].replace(name="unified"))
        return tuple(views)

    # ---- counters

    def oom_kills(self) -> int:
        """Count the processes that were killed because a memory limit was reached."""
        memory = self.controller("memory")
        return int(memory.known("oom_control", {}).get("oom_kill", 0)) if memory else 0

    def watch_oom(self) -> OomWatch:
        """Watch for memory that runs out, from now on."""
        from minicontainer.cgroups.oom import V1Watch

        self._require_group()
        memory = self.controller("memory")
        if not memory:
            raise refusals.of_missing_controller("memory", "oom", " ".join(self._mount_points))
        return V1Watch(memory.node.full_path, self.path)

    def stats(self) -> Stats:
        """Read all counters."""
        from minicontainer.cgroups import v1_stats  # not at a start

        self._require_group()
        return v1_stats.read(self)
