"""Cgroups that systemd makes: a transient scope around a container's first process.

systemd expects to be the only program that makes groups in its tree. So it is asked for a unit,
whose properties are the limits that it knows. It makes the group in the named slice, and delegates
it. The control files are then written as by the other drivers, which have more limits, and finer
ones.

A scope is made around existing processes: `create` only prepares it, and `adopt` makes it.

See: systemd.scope(5), systemd.resource-control(5); systemd's docs/CGROUP_DELEGATION.md.
"""

from __future__ import annotations

from minicontainer.cgroups.systemd_properties import annotated, device_properties, properties
from minicontainer.contexts import suppress
from minicontainer.errors import Conflict, Error, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from minicontainer.cgroups.limits import DeviceRule, Resources
    from minicontainer.cgroups.systemd_bus import SystemdBus
    from minicontainer.cgroups.systemd_properties import Property
    from minicontainer.cgroups.v1 import V1Cgroup
    from minicontainer.cgroups.v2 import V2Cgroup

_DEFAULT_SLICE, _ROOT_SLICE = "system.slice", "-.slice"
_UNIT_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@"
)  # systemd.unit(5)
_LONGEST_UNIT = 255


class Unit:
    """A unit's name, and the place of its cgroup.

    Args:
        name: docker-0123.scope;  slice: the slice that it is in.
    """

    def __init__(self, name: str, slice: str) -> None:
        self.name = name
        self.slice = slice

    @property
    def path(self) -> str:
        """The group's path: a-b.slice is in a.slice."""
        if self.slice == _ROOT_SLICE:
            return f"/{self.name}"
        parts = self.slice.removesuffix(".slice").split("-")
        above = "".join(f"/{'-'.join(parts[: i + 1])}.slice" for i in range(len(parts)))
        return f"{above}/{self.name}"


def unit_of(path: str) -> Unit:
    """Parse cgroupsPath, `slice:prefix:name`; or `Unit.path`, as a state has it.

    Raises:
        InvalidArgument: it is neither, or not a possible name for systemd.
    """
    if path.startswith("/") and path.endswith(".scope"):
        above, _, name = path.rpartition("/")
        unit = Unit(name, above.rpartition("/")[2] or _ROOT_SLICE)
    else:
        parts = path.split(":")
        if len(parts) != 3 or not parts[2]:
            raise InvalidArgument(
                f"linux.cgroupsPath: expected slice:prefix:name for systemd, got {path!r}"
            )
        slice, prefix, name = parts
        slice = {"": _DEFAULT_SLICE, "-": _ROOT_SLICE}.get(slice, slice)
        # a container's name may have a plus sign, which systemd writes this way
        scope = "-".join(filter(None, (prefix, name))).replace("+", "\\x2b")
        unit = Unit(f"{scope}.scope", slice)
    _check(unit)
    return unit


def _check(unit: Unit) -> None:
    if unit.name.endswith(".slice.scope"):
        raise InvalidArgument(
            "linux.cgroupsPath: the name is a slice's, and a container needs a scope"
        )
    inner = unit.slice.removesuffix(".slice")
    if inner == unit.slice or not (inner == "-" or all(inner.split("-"))):
        raise InvalidArgument(
            f"linux.cgroupsPath: {unit.slice!r} is not a slice: expected a name such as "
            "machine.slice or user-1000.slice"
        )
    for word in (unit.slice, unit.name):
        if set(word) - _UNIT_CHARACTERS or len(word) > _LONGEST_UNIT:
            raise InvalidArgument(
                f"linux.cgroupsPath: systemd takes no unit {word!r}: use letters, digits and "
                f"- _ . @, at most {_LONGEST_UNIT} of them"
            )


class SystemdCgroup:
    """The cgroup of a scope; the driver of its files does what systemd does not.

    Args:
        unit: the scope.
        files: the driver for `unit.path`.
    """

    def __init__(self, unit: Unit, files: V1Cgroup | V2Cgroup) -> None:
        self._unit = unit
        self._files = files
        # from `create` until the call to systemd: nothing belongs to this container yet
        self._awaited = False
        self._resources: Resources | None = None
        self._rules: list[DeviceRule] = []
        self.path, self.version = files.path, files.version
        self.add, self.give_to, self.processes = files.add, files.give_to, files.processes
        self.freeze, self.thaw, self.frozen = files.freeze, files.thaw, files.frozen
        self.freezer, self.unified_path = files.freezer, files.unified_path
        self.stats, self.oom_kills, self.watch_oom = files.stats, files.oom_kills, files.watch_oom
        self.tasks_paths, self.mounts = files.tasks_paths, files.mounts

    def _bus(self) -> SystemdBus:
        from minicontainer.cgroups.systemd_bus import SystemdBus  # 10 ms: jeepney, sockets

        return SystemdBus()

    def create(self) -> None:
        """Prepare the scope; limits set from here on are part of it.

        Raises:
            Unsupported: systemd does not run here.
            Conflict: the group exists and has processes.
        """
        from minicontainer.cgroups.systemd_bus import require_systemd

        require_systemd()
        if self._files.processes():
            raise Conflict(f"unit {self._unit.name} exists and has processes: use another name")
        self._awaited = True

    def limit(self, resources: Resources) -> None:
        """Set the limits: as properties, and in the files."""
        if self._awaited:
            self._resources = resources
            return
        changed = properties(resources, self._files.version, self._files.read)
        if not changed:
            self._files.limit(resources)
            return
        # The files first: the kernel refuses what makes no sense before anything has changed; and
        # if systemd refuses something, the files are restored.
        self._files.limit(resources, lambda: self._tell(changed))
        self._files.limit(resources)  # systemd has written them again, less precisely

    def _tell(self, changed: list[Property]) -> None:
        with self._bus() as bus:
            bus.call(
                "SetUnitProperties", "sba(sv)", self._unit.name, True, changed,
                shell=f"systemctl set-property --runtime {self._unit.name} …",
            )  # fmt: skip

    def planned(self, resources: Resources) -> list[tuple[str, str]]:
        """Give the writes by which `limit` would limit a new group: the file, and its text."""
        return self._files.planned(resources)

    def allow_devices(self, rules: Iterable[DeviceRule]) -> None:
        """Let these devices be used and no others."""
        if self._awaited:
            self._rules = list(rules)
        else:
            self._files.allow_devices(rules)

    def fd(self) -> int | None:
        """Open a descriptor for clone3(2); None while systemd has not made the group."""
        return None if self._awaited else self._files.fd()

    def tasks_files(self) -> tuple[tuple[str, int], ...]:
        """Open v1's `tasks` files; none while systemd has not made the groups."""
        return () if self._awaited else self._files.tasks_files()

    def adopt(self, pid: int, annotations: Mapping[str, str]) -> None:
        """Let systemd make the scope around a process, and set the limits.

        Args:
            annotations: of the container: some name further properties.
        Raises:
            Conflict: there is such a unit already, or systemd could not make it.
            InvalidArgument, Unsupported: a limit or a property is not available.
        """
        with self._bus() as bus:
            self._start(bus, pid, annotated(annotations))
        # For hierarchies without systemd's groups (v1's freezer, cpuset …), and controllers that it
        # does not pass on.
        self._files.complete()
        self._files.add(pid)
        if self._resources:
            self._files.limit(self._resources)
        self._files.allow_devices(self._rules)

    def _start(self, bus: SystemdBus, pid: int, further: list[Property]) -> None:
        v2 = self._files.version == "v2"
        wanted: list[Property] = [
            ("Description", ("s", f"container {self._unit.name}")),
            ("Slice", ("s", self._unit.slice)),
            ("Delegate", ("b", True)),
            ("PIDs", ("au", [pid])),
            ("DefaultDependencies", ("b", False)),
            ("MemoryAccounting", ("b", True)),
            ("CPUAccounting", ("b", True)),
            ("IOAccounting" if v2 else "BlockIOAccounting", ("b", True)),
            ("TasksAccounting", ("b", True)),
        ]
        if not v2:
            # systemd writes v1's list of devices at every reload. On v2 our program is attached
            # beside systemd's own, and stays.
            wanted += device_properties(self._rules)
        if self._resources:
            wanted += properties(self._resources, self._files.version, self._files.read)
        named = {name for name, _ in further}
        self._run_start(bus, [*(one for one in wanted if one[0] not in named), *further])

    def _run_start(self, bus: SystemdBus, wanted: list[Property]) -> None:
        from minicontainer.cgroups.systemd_bus import RefusedError

        def ask() -> None:
            bus.run_job(
                "StartTransientUnit", "ssa(sv)a(sa(sv))", self._unit.name, "replace", wanted, [],
                shell=f"systemd-run --scope --slice={self._unit.slice} --unit={self._unit.name} …",
            )  # fmt: skip

        try:
            try:
                ask()
            except RefusedError as error:
                if not error.name.endswith(".UnitExists"):
                    raise
                with suppress(RefusedError):  # remove the rest of a failed unit of that name
                    bus.call("ResetFailedUnit", "s", self._unit.name)
                ask()
        except RefusedError as error:
            raise _explained(error, self._unit) from None
        except Conflict:
            self._awaited = False  # the call was made, so there may be something to stop
            raise
        self._awaited = False

    def kill(self, timeout_s: float = 10) -> None:
        """Kill every process; none before systemd has made the scope: they would be another's."""
        if not self._awaited:
            self._files.kill(timeout_s)

    def remove(self, timeout_s: float = 5) -> None:
        """Stop the scope, and remove the group and those below; do nothing if it is gone.

        A scope that this object did not make is left alone, and so is one of that name in another
        slice: it belongs to another program, and systemd would kill all its processes.
        """
        if self._awaited:
            self._awaited = False
            return
        with self._bus() as bus:
            if bus.slice_of(self._unit.name) == self._unit.slice:
                self._stop(bus)
        self._files.remove(timeout_s)

    def _stop(self, bus: SystemdBus) -> None:
        from minicontainer.cgroups.systemd_bus import RefusedError

        # Refused: it ended with its last process. A conflict: its end was faster than the job, or
        # takes long; the files show whether processes are left.
        with suppress(RefusedError, Conflict):
            bus.run_job(
                "StopUnit", "ss", self._unit.name, "replace",
                shell=f"systemctl stop {self._unit.name}",
            )  # fmt: skip
        with suppress(RefusedError):
            bus.call("ResetFailedUnit", "s", self._unit.name)


def _explained(error: Error, unit: Unit) -> Error:
    """Explain why systemd refuses a scope."""
    name = str(getattr(error, "name", ""))
    if name.endswith(".UnitExists"):
        return Conflict(f"unit {unit.name} exists already: remove it, or use another name")
    if name.endswith((".InvalidArgs", ".PropertyReadOnly")):
        return InvalidArgument(f"systemd refuses {unit.name}: {error}")
    return error
