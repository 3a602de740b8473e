"""Cgroup v2: one tree, and its own control files.

See: kernel admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
import time

from minicontainer.cgroups import control_files, directories, refusals
from minicontainer.cgroups.control_files import flat
from minicontainer.cgroups.hierarchies import View
from minicontainer.errors import Conflict, KernelError, NotFound
from minicontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    from minicontainer.cgroups.hierarchies import Hierarchy
    from minicontainer.cgroups.limits import DeviceRule, Resources
    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.cgroups.stats import Stats

# The controllers that a container gets if the host has them: for its limits, and for `stats`.
CONTROLLERS = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma")
_FREEZE_TIMEOUT_S = 10
_DELEGATED = "/sys/kernel/cgroup/delegate"


class V2Cgroup:
    """A group of the v2 hierarchy.

    Args:
        hierarchy: where it is mounted.
        path: absolute, below the mount point.
    """

    version: Literal["v1", "hybrid", "v2"] = "v2"

    def __init__(self, hierarchy: Hierarchy, path: str) -> None:
        self.path = path
        self.directory = hierarchy.mount_point + path
        self.top = hierarchy.mount_point

    def _require_group(self) -> None:
        if not os.path.exists(self.directory):
            raise NotFound(f"cgroup {self.path} does not exist")

    # ---- making and removing

    def create(self) -> None:
        """Make the group, with every controller that this host has."""
        self.make_directory()
        self.complete()

    def complete(self) -> None:
        """Have all controllers passed on to the group."""
        try:
            self._pass_down(CONTROLLERS)
        except KernelError as error:
            # A missing controller only matters when a limit needs it.
            if error.errno == errno.EBUSY:
                return  # then no controller can be passed on
            for controller in CONTROLLERS:
                try:
                    self._pass_down((controller,))
                except KernelError:
                    continue

    def make_directory(self) -> None:
        """Make the group, without controllers.

        Raises:
            Conflict: it exists and has processes; or it is frozen.
        """
        new = directories.make(self.top, self.path)
        if not new and self.processes():
            raise directories.occupied(self.path)
        if self.frozen():
            if new:
                self.remove(timeout_s=0)
            raise directories.frozen(self.path)

    def remove(self, timeout_s: float = 5) -> None:
        """Remove the group, those below, and this project's empty ones above."""
        directories.remove(self.top, self.path, timeout_s)

    def _pass_down(self, wanted: tuple[str, ...]) -> None:
        """Enable controllers in all groups above, so that this one has them.

        If the group right above passes them on, so do all those above it: then one read is enough.

        Raises:
            KernelError: of a group that can't: EBUSY if it has processes.
        """
        above = self.path.split("/")[1:-1]
        parent = "/".join([self.top, *above])
        missing = set(wanted) - set(files.read_file(f"{parent}/cgroup.subtree_control").split())
        if not missing:
            return
        missing &= set(files.read_file(f"{self.top}/cgroup.controllers").split())
        for depth in range(len(above) + 1):
            level = "/" + "/".join(above[:depth])
            file = f"{self.top}{level.rstrip('/')}/cgroup.subtree_control"
            lacking = sorted(missing - set(files.read_file(file).split()))
            if lacking:
                self._enable(file, level, " ".join(f"+{name}" for name in lacking))

    def _enable(self, file: str, level: str, text: str) -> None:
        """Have the group *level* pass controllers on, unless it has processes.

        The kernel forbids that for most controllers. For cpu, cpuset and pids it does not, but
        makes the groups below threaded, and those take no process: so check first.
        """
        at_top = level == "/"
        if not at_top or self._top_is_a_group():
            if at_top:
                self._empty_top()
            elif files.read_file(file.replace("subtree_control", "procs")):
                raise KernelError(errno.EBUSY, os.strerror(errno.EBUSY), f"write({file}, {text})")
        files.write_file(file, text, object=f"cgroup:{level.rstrip('/')}/cgroup.subtree_control")

    def _top_is_a_group(self) -> bool:
        """Report whether the mount shows a part of the host's tree: the real root has no
        cgroup.type.
        """
        return os.path.exists(f"{self.top}/cgroup.type")

    def _empty_top(self) -> None:
        """Move the processes at the top into a leaf, /init: only leaves may have processes.

        It is the top of the container that this runs in, so these are our own processes. Docker's
        own image for Docker in Docker does this, with the same name.
        """
        for _ in range(10):  # they may fork meanwhile
            pids = files.read_file(f"{self.top}/cgroup.procs").split()
            # 0: a process of another PID namespace, which has no number here
            if not pids or "0" in pids:
                return
            directories.make(self.top, "/init")
            for pid in pids:
                try:
                    files.write_file(
                        f"{self.top}/init/cgroup.procs", pid, object="cgroup:/init/cgroup.procs"
                    )
                except KernelError as error:
                    if error.errno != errno.ESRCH:
                        raise

    # ---- processes

    def add(self, pid: int) -> None:
        """Move a process into the group."""
        try:
            self.write("cgroup.procs", str(pid))
        except KernelError as error:
            raise refusals.of_process(error, self.path, pid) from None

    def give_to(self, uid: int, gid: int) -> None:
        """Let a user divide the group: give it the directory, and the files that the kernel lists.

        If their group id is not mapped in the container's user namespace, no capability inside
        would be enough to write to them, so `exec` could not either.
        """
        names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
        if os.path.exists(_DELEGATED):  # since Linux 4.15
            names = files.read_file(_DELEGATED).split()
        there = set(os.listdir(self.directory))
        for path in (self.directory, *(f"{self.directory}/{n}" for n in names if n in there)):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                files.change_owner_of(fd, uid, gid, where=path)
            finally:
                os.close(fd)

    def fd(self) -> int:
        """Open a descriptor for CLONE_INTO_CGROUP."""
        try:
            return os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"cgroup {self.path}: {error.strerror}") from None

    def unified_path(self) -> str:
        """Return the group's directory."""
        return self.directory

    def tasks_paths(self) -> tuple[str, ...]:
        """Return nothing: v2 has one hierarchy."""
        return ()

    def tasks_files(self) -> tuple[tuple[str, int], ...]:
        """Return nothing: clone3(2) put the child into the one hierarchy that there is."""
        return ()

    def processes(self) -> tuple[int, ...]:
        """List the processes, with those of groups below."""
        return directories.processes(self.directory)

    def kill(self, timeout_s: float = 10) -> None:
        """Kill every process."""
        if self.kill_at_once():
            directories.wait_until_empty(self.directory, self.path, timeout_s)
            return

        def kill_the_rest() -> None:
            directories.kill_one_by_one(self.directory)

        kill_the_rest()
        directories.wait_until_empty(self.directory, self.path, timeout_s, kill_the_rest)

    def kill_at_once(self) -> bool:
        """Send SIGKILL to the whole tree at once; return False before Linux 5.14, which can't."""
        try:
            self.write("cgroup.kill", "1")
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            # there is no such group, or no such file
            return not os.path.exists(self.directory)
        return True

    def freeze(self) -> None:
        """Freeze all processes, and return when they are frozen."""
        import select

        self._require_group()
        self.write("cgroup.freeze", "1")
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        events = os.open(f"{self.directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(events, select.POLLPRI)  # a change of the file wakes us
            while not flat(os.pread(events, 4096, 0).decode())["frozen"]:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    self.thaw()
                    raise Conflict(f"cgroup {self.path}: its processes did not freeze in time")
                poll.poll(left_s * 1000)
        finally:
            os.close(events)

    def thaw(self) -> None:
        """Thaw them."""
        self._require_group()
        self.write("cgroup.freeze", "0")

    def frozen(self) -> bool:
        """Report whether they are frozen."""
        return flat(self.read("cgroup.events")).get("frozen") == 1

    def freezer(self) -> str:
        """Return the file that shows it."""
        return f"{self.directory}/cgroup.freeze"

    # ---- limits

    def limit(self, resources: Resources, agree: Callable[[], None] | None = None) -> None:
        """Set the limits that are named; *agree* as in `control_files.apply`."""
        control_files.check_use(resources, self.read("memory.current"))
        control_files.apply(
            resources, self.path, lambda row: True, self.write_limit, self.read, agree
        )

    def planned(self, resources: Resources) -> list[tuple[str, str]]:
        """Give the writes by which `limit` would limit a new group: the file, and its text."""
        found: list[tuple[str, str]] = []

        def keep(_: str, file: str, text: str) -> None:
            found.append((f"{self.directory}/{file}", text))

        control_files.apply(resources, self.path, lambda row: True, keep, self.read)
        return found

    def has(self, controller: str) -> bool:
        """Report whether this hierarchy has a controller at all."""
        return controller in files.read_file(f"{self.top}/cgroup.controllers").split()

    def write_limit(self, where: str, file: str, text: str) -> None:
        """Write a limit; if its file is missing, first have the controller passed on to this group.

        Args:
            where: the limit in config.json, for messages.
        Raises:
            KernelError: of write(2).
            Unsupported, Conflict: the controller is not available.
        """
        try:
            self.write(file, text)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            self._require(file.partition(".")[0], where)
            self.write(file, text)

    def _require(self, controller: str, where: str) -> None:
        """Get a controller for this group, or explain why that is not possible."""
        self._require_group()
        if not self.has(controller):
            available = files.read_file(f"{self.top}/cgroup.controllers").strip()
            raise refusals.of_missing_controller(controller, where, available)
        try:
            self._pass_down((controller,))
        except KernelError as error:
            level = (error.filename or "").removeprefix("write(").partition("/cgroup.subtree")[0]
            level = level.removeprefix(self.top) or "/"
            raise refusals.of_enabling(error, controller, where, level) from None

    def allow_devices(self, rules: Iterable[DeviceRule]) -> None:
        """Let these devices be used and no others."""
        from minicontainer.cgroups.device_filter import Rules, program
        from minicontainer.kernel import bpf

        listed = list(rules)
        if not listed:
            return
        group = self.fd()
        try:
            # All programs must allow a device. The new one is attached before the old one is
            # removed, so at no moment is more allowed than by either.
            before = bpf.device_programs(group)
            loaded = bpf.load_device_program(program(Rules(listed)))
            try:
                bpf.attach_device_program(group, loaded, self.path)
            finally:
                os.close(loaded)
            for identity in before:
                bpf.detach_device_program(group, identity, self.path)
        finally:
            os.close(group)

    # ---- files

    def write(self, file: str, text: str) -> None:
        """Write a control file of this group."""
        files.write_file(f"{self.directory}/{file}", text, object=f"cgroup:{self.path}/{file}")

    def read(self, file: str) -> str:
        """Read a control file of this group, without its last line break; "" if there is none."""
        try:
            return files.read_file(f"{self.directory}/{file}").rstrip("\n")
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                return ""
            raise

    def mounts(self) -> tuple[View, ...]:
        """Return the parts of the container's /sys/fs/cgroup: this group."""
        return (View(name="", source=self.directory, filesystem="cgroup2", hierarchy=self.top),)

    # ---- counters

    def oom_kills(self) -> int:
        """Count the processes that were killed because a memory limit was reached."""
        return flat(self.read("memory.events")).get("oom_kill", 0)

    def watch_oom(self) -> OomWatch:
        """Watch for memory that runs out, from now on."""
        from minicontainer.cgroups.oom import V2Watch

        self._require_group()
        if not self.read("memory.events"):
            self._require("memory", "oom")
        return V2Watch(self.directory)

    def stats(self) -> Stats:
        """Read all counters."""
        from minicontainer.cgroups import v2_stats  # not at a start

        self._require_group()
        return v2_stats.read(self)
