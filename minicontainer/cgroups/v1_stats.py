"""The counters of a group of cgroup v1, through cgroupspy's controllers.

See: kernel admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from minicontainer.cgroups import directories, v2_stats
from minicontainer.cgroups.stats import (
    Counter,
    CpusetUse,
    CpuUse,
    DeviceUse,
    HugepageUse,
    MemoryUse,
    PidsUse,
    Stats,
    limited,
    nested,
)
from minicontainer.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.cgroups.v1 import V1Cgroup

# Files of the cpuset controller, beside the two lists.
_SWITCHES = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
    "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip


def read(group: V1Cgroup) -> Stats:
    """Read all counters of a group; only v2 counts pressure."""
    rdma = group.controller("rdma")
    return Stats(
        memory=_memory(group),
        cpu=_cpu(group),
        cpuset=_cpuset(group),
        pids=_pids(group),
        devices=_devices(group),
        hugepages=_hugepages(group),
        rdma=nested(rdma.known("current", "")) if rdma else {},
        pressure=v2_stats.pressures(group.unified) if group.unified else {},
    )


def _memory(group: V1Cgroup) -> MemoryUse:
    memory = group.controller("memory")
    if not memory:
        return MemoryUse(detail={})
    usage, both = memory.usage_in_bytes, _counter(memory, "memory.memsw")
    return MemoryUse(
        usage=usage,
        peak=memory.max_usage_in_bytes,
        limit=limited(memory.limit_in_bytes),
        swap=max(0, both.usage - usage) if both else None,
        swap_limit=both.limit if both else None,
        # if both limits are equal, the kernel reaches that of the sum first
        failures=memory.failcnt + (both.failures if both else 0),
        oom_kills=group.oom_kills(),
        detail=memory.stat,
        both=both,
        kernel=_counter(memory, "memory.kmem"),
        kernel_tcp=_counter(memory, "memory.kmem.tcp"),
    )


def _counter(memory: Any, kind: str) -> Counter | None:
    """Read the files of one kind of memory; return None if the kernel does not count it apart."""
    try:
        numbers = [
            int(memory.get_property(f"{kind}.{name}"))
            for name in ("usage_in_bytes", "max_usage_in_bytes", "limit_in_bytes", "failcnt")
        ]
    except KernelError:
        return None
    usage, peak, limit, failures = numbers
    return Counter(usage=usage, peak=peak, limit=limited(limit), failures=failures)


def _cpu(group: V1Cgroup) -> CpuUse:
    cpu, account = group.controller("cpu"), group.controller("cpuacct")
    told = cpu.known("stat", {}) if cpu else {}
    return CpuUse(
        usage_ns=account.usage if account else 0,
        user_ns=account.known("usage_user", 0) if account else 0,
        system_ns=account.known("usage_sys", 0) if account else 0,
        per_cpu_ns=tuple(account.usage_percpu) if account else (),
        per_cpu_user_ns=account.by_processor("user") if account else (),
        per_cpu_system_ns=account.by_processor("sys") if account else (),
        periods=told.get("nr_periods", 0),
        throttled_periods=told.get("nr_throttled", 0),
        throttled_ns=told.get("throttled_time", 0),
    )


def _cpuset(group: V1Cgroup) -> CpusetUse:
    cpuset = group.controller("cpuset")
    if not cpuset:
        return CpusetUse()
    return CpusetUse(
        cpus=cpuset.get_property("cpuset.cpus"),
        mems=cpuset.get_property("cpuset.mems"),
        switches={name: int(cpuset.get_property(f"cpuset.{name}")) for name in _SWITCHES},
    )


def _pids(group: V1Cgroup) -> PidsUse:
    pids = group.controller("pids")
    if not pids:
        return PidsUse()
    limit = pids.known("max", "max")  # the root group has no such file
    return PidsUse(current=pids.known("current", 0), limit=None if limit == "max" else int(limit))


def _devices(group: V1Cgroup) -> tuple[DeviceUse, ...]:
    blkio = group.controller("blkio")
    if not blkio:
        return ()
    # BFQ counts everything; without it, only traffic during a throttle is counted
    moved = by_device(blkio.known("bfq_bytes", "")) or by_device(blkio.known("bytes", ""))
    done = by_device(blkio.known("bfq_operations", "")) or by_device(blkio.known("operations", ""))
    return tuple(
        DeviceUse(
            device=device,
            read_bytes=told.get("Read", 0),
            written_bytes=told.get("Write", 0),
            reads=done.get(device, {}).get("Read", 0),
            writes=done.get(device, {}).get("Write", 0),
        )
        for device, told in moved.items()
    )


def _hugepages(group: V1Cgroup) -> dict[str, HugepageUse]:
    hugetlb = group.controller("hugetlb")
    if not hugetlb:
        return v2_stats.hugepages(group.unified) if group.unified else {}
    return {
        size: HugepageUse(
            usage=int(hugetlb.get_property(f"hugetlb.{size}.usage_in_bytes")),
            peak=int(hugetlb.get_property(f"hugetlb.{size}.max_usage_in_bytes")),
            limit=limited(int(hugetlb.get_property(f"hugetlb.{size}.limit_in_bytes"))),
            failures=int(hugetlb.get_property(f"hugetlb.{size}.failcnt")),
        )
        for size in directories.hugepage_sizes(hugetlb.node.full_path, ".usage_in_bytes")
    }


def by_device(text: str) -> dict[str, dict[str, int]]:
    """Parse lines of "MAJOR:MINOR OPERATION NUMBER"; the last one, "Total NUMBER", is not one."""
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        device, *told = line.split()
        if len(told) == 2:
            found.setdefault(device, {})[told[0]] = int(told[1])
    return found
