"""`linux.resources`: a container's limits, in the OCI specification's form.

A missing field is None: the kernel's default, or in an update the present value. -1 means no limit.
Old fields are ignored, as by runc: `memory.kernel` (the kernel's own memory is part of `limit`
since Linux 5.16) and `memory.useHierarchy` (hierarchies always count their children since 5.11).
"""

from __future__ import annotations

from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Memory(Record, json={"kernel_tcp": "kernelTCP", "disable_oom_killer": "disableOOMKiller"}):
    """Limits of the memory controller, in bytes.

    Args:
        limit: the most that may be used; a process that needs more is killed.
        reservation: reclaimed last when the host runs short.
        swap: memory and swap together, as cgroup v1 counts it.
        kernel_tcp: buffers of TCP sockets; cgroup v1 only.
        swappiness: 0 to 100, how readily pages are swapped out; cgroup v1 only.
        disable_oom_killer: let processes over the limit hang, not die; cgroup v1 only.
        check_before_update: refuse a limit below the present use, at which the kernel would kill.
    See: runtime-spec config-linux.md "Memory".
    """

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = None
    check_before_update: bool | None = None


class Cpu(Record):
    """Processor time, and the set of processors.

    Args:
        shares: weight among siblings when processors are short, 2 to 262144; usually 1024.
        quota: microseconds of processor time in each period.
        period: microseconds.
        burst: microseconds that may be saved up from earlier periods.
        idle: 1 to run only when no other group wants to.
        realtime_runtime: microseconds for real-time tasks in each realtime_period; v1 only.
        realtime_period: microseconds.
        cpus: processors, as a list like 0-2,7;  mems: memory nodes, likewise.
    See: runtime-spec config-linux.md "CPU".
    """

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    burst: int | None = None
    idle: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str | None = None
    mems: str | None = None


class Pids(Record):
    """The number of tasks (processes and threads) at once; 0 allows only the first process."""

    limit: int | None = None


class DeviceRate(Record):
    """A throttle: bytes or operations a second on one block device."""

    major: int
    minor: int
    rate: int = 0


class DeviceWeight(Record):
    """A share among siblings of one block device's time, 10 to 1000.

    Args:
        leaf_weight: the share of the group's own processes, beside its subgroups. It belongs to the
            CFQ scheduler, which Linux 5.0 removed.
    """

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class BlockIO(
    Record,
    json={
        "throttle_read_iops_device": "throttleReadIOPSDevice",
        "throttle_write_iops_device": "throttleWriteIOPSDevice",
    },
):
    """Shares and throttles of block devices.

    See: runtime-spec config-linux.md "Block IO".
    """

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[DeviceWeight, ...] = ()
    throttle_read_bps_device: tuple[DeviceRate, ...] = ()
    throttle_write_bps_device: tuple[DeviceRate, ...] = ()
    throttle_read_iops_device: tuple[DeviceRate, ...] = ()
    throttle_write_iops_device: tuple[DeviceRate, ...] = ()


class HugepageLimit(Record):
    """Bytes of huge pages of one size (`2MB`, `1GB`)."""

    page_size: str
    limit: int


class InterfacePriority(Record):
    """The priority of packets that leave by one network interface."""

    name: str
    priority: int


class Network(Record, json={"class_id": "classID"}):
    """Marks on packets, for the host's traffic control; cgroup v1 only.

    See: runtime-spec config-linux.md "Network".
    """

    class_id: int | None = None
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(Record):
    """Handles and objects of one RDMA device."""

    hca_handles: int | None = None
    hca_objects: int | None = None


class DeviceRule(Record):
    """One line of the device list; later lines win.

    Args:
        allow: or deny.
        type: a (all), c (character) or b (block).
        major, minor: None or -1 for every number.
        access: letters of rwm: read, write, mknod(2).
    See: runtime-spec config-linux.md "Allowed Device list".
    """

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Resources(Record, json={"block_io": "blockIO"}):
    """All limits of a container.

    `devices` is not written with the limits: `Cgroup.allow_devices` does that. `unified` has the
    texts of cgroup v2's control files, by file name.
    """

    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] | None = None
    devices: tuple[DeviceRule, ...] = ()
    unified: dict[str, str] | None = None

    def as_of(self, oci_version: str) -> Resources:
        """Return the limits as that version of the specification means them.

        Before 1.3, a limit of 0 tasks was no limit, and engines of that time write it into every
        container.
        """
        version = [int(part) for part in oci_version.split(".")[:2] if part.isdecimal()]
        if self.pids and self.pids.limit == 0 and version < [1, 3]:
            return self.replace(pids=None)
        return self

    @classmethod
    def of_parts(cls, parts: dict[str, dict[str, object]]) -> Resources:
        """Make the limits from parts and fields: {"memory": {"limit": 4096}}."""
        made: dict[str, Any] = {part: _PARTS[part](**fields) for part, fields in parts.items()}
        return cls(**made)

    @classmethod
    def json_path(cls, field: str) -> str:
        """Return the name of *field* in config.json: block_io.weight,
        linux.resources.blockIO.weight.
        """
        names = []
        record: type[Record] | None = cls
        for name in field.split("."):
            if record is not None:
                names.append(record.json_names()[name])
            record = _PARTS.get(name)
        return ".".join(("linux.resources", *names))


_PARTS: dict[str, type[Record]] = {
    "memory": Memory,
    "cpu": Cpu,
    "pids": Pids,
    "block_io": BlockIO,
    "weight_device": DeviceWeight,
    "network": Network,
}
