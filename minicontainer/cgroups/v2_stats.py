"""The counters of a group of cgroup v2.

See: kernel admin-guide/cgroup-v2.rst, "Controllers".
"""

from __future__ import annotations

from minicontainer.cgroups import directories
from minicontainer.cgroups.control_files import flat
from minicontainer.cgroups.stats import (
    CpusetUse,
    CpuUse,
    DeviceUse,
    HugepageUse,
    MemoryUse,
    PidsUse,
    Pressure,
    Stats,
    limited,
    nested,
    pressure,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroups.v2 import V2Cgroup


def read(group: V2Cgroup) -> Stats:
    """Read all counters of a group."""
    return Stats(
        memory=_memory(group),
        cpu=_cpu(group),
        cpuset=CpusetUse(
            cpus=group.read("cpuset.cpus.effective"), mems=group.read("cpuset.mems.effective")
        ),
        pids=PidsUse(current=_number(group, "pids.current") or 0, limit=_number(group, "pids.max")),
        devices=_devices(group),
        hugepages=hugepages(group),
        rdma=nested(group.read("rdma.current")),
        pressure=pressures(group),
    )


def _number(group: V2Cgroup, file: str) -> int | None:
    """Read a number; None for `max`, and if there is no such file."""
    text = group.read(file)
    return int(text) if text.isdecimal() else None


def _memory(group: V2Cgroup) -> MemoryUse:
    events = flat(group.read("memory.events"))
    limit, swap_limit = _number(group, "memory.max"), _number(group, "memory.swap.max")
    return MemoryUse(
        usage=_number(group, "memory.current") or 0,
        peak=_number(group, "memory.peak"),  # since Linux 5.19
        limit=limit,
        swap=_number(group, "memory.swap.current"),
        swap_limit=None if limit is None or swap_limit is None else limit + swap_limit,
        failures=events.get("max", 0),
        oom_kills=events.get("oom_kill", 0),
        detail=flat(group.read("memory.stat")),
    )


def _cpu(group: V2Cgroup) -> CpuUse:
    told = flat(group.read("cpu.stat"))
    return CpuUse(
        usage_ns=told.get("usage_usec", 0) * 1000,
        user_ns=told.get("user_usec", 0) * 1000,
        system_ns=told.get("system_usec", 0) * 1000,
        periods=told.get("nr_periods", 0),
        throttled_periods=told.get("nr_throttled", 0),
        throttled_ns=told.get("throttled_usec", 0) * 1000,
    )


def _devices(group: V2Cgroup) -> tuple[DeviceUse, ...]:
    return tuple(
        DeviceUse(
            device=device,
            read_bytes=told.get("rbytes", 0),
            written_bytes=told.get("wbytes", 0),
            reads=told.get("rios", 0),
            writes=told.get("wios", 0),
        )
        for device, told in nested(group.read("io.stat")).items()
    )


def hugepages(group: V2Cgroup) -> dict[str, HugepageUse]:
    """Read the counters of huge pages, by page size."""
    return {
        size: HugepageUse(
            usage=_number(group, f"hugetlb.{size}.current") or 0,
            limit=limited(_number(group, f"hugetlb.{size}.max")),
            failures=flat(group.read(f"hugetlb.{size}.events")).get("max", 0),
        )
        for size in directories.hugepage_sizes(group.directory, ".current")
    }


def pressures(group: V2Cgroup) -> dict[str, Pressure]:
    """Read how long processes waited, by resource."""
    texts = {name: group.read(f"{name}.pressure") for name in ("cpu", "memory", "io")}
    return {name: pressure(text) for name, text in texts.items() if text}
