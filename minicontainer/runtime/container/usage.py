"""What a container has used, in the form in which runc prints it.

Counters that are 0 are left out where runc leaves them out. No limit is printed as the largest
number of the kernel's type.

See: runc-events(8).
"""

from __future__ import annotations

import os

from minicontainer.cgroups.stats import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.cgroups.stats import CpuUse, DeviceUse, MemoryUse, Pressure, Stats

_V2_UNLIMITED = 2**64 - 1


def as_runc(stats: Stats, version: str) -> dict[str, Any]:
    """Return all counters as the `data` of an event.

    Args:
        version: of cgroups: v1, hybrid or v2.
    """
    pressure = {name: _pressure(told) for name, told in stats.pressure.items()}
    return {
        "cpu": _cpu(stats.cpu) | _if_any(psi=pressure.get("cpu")),
        "cpuset": _cpuset(stats),
        "memory": _memory(stats.memory, version) | _if_any(psi=pressure.get("memory")),
        "pids": _if_any(current=stats.pids.current, limit=stats.pids.limit),
        "blkio": _blkio(stats.devices) | _if_any(psi=pressure.get("io")),
        "hugetlb": {
            size: _if_any(usage=use.usage, max=use.peak) | {"failcnt": use.failures}
            for size, use in stats.hugepages.items()
        },
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _if_any(**values: Any) -> dict[str, Any]:
    """Leave out values that are 0, empty or unknown."""
    return {name: value for name, value in values.items() if value}


def _cpu(use: CpuUse) -> dict[str, Any]:
    by_processor = _if_any(
        percpu=list(use.per_cpu_ns),
        percpu_kernel=list(use.per_cpu_system_ns),
        percpu_user=list(use.per_cpu_user_ns),
    )
    return {
        "usage": {
            **_if_any(total=use.usage_ns), **by_processor,
            "kernel": use.system_ns, "user": use.user_ns,
        },
        "throttling": _if_any(
            periods=use.periods,
            throttledPeriods=use.throttled_periods,
            throttledTime=use.throttled_ns,
        ),
    }  # fmt: skip


# cgroup v1's switches, in runc's order.
_SWITCHES = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
    "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip


def _cpuset(stats: Stats) -> dict[str, Any]:
    lists = _if_any(cpus=numbers(stats.cpuset.cpus), mems=numbers(stats.cpuset.mems))
    return lists | {name: stats.cpuset.switches.get(name, 0) for name in _SWITCHES}


def numbers(text: str) -> list[int]:
    """Read a list such as 0-2,7."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            found += range(int(first), int(last or first) + 1)
    return found


def _memory(use: MemoryUse, version: str) -> dict[str, Any]:
    unlimited = _V2_UNLIMITED
    if version != "v2":
        page = os.sysconf("SC_PAGE_SIZE")
        unlimited = (2**63 - 1) // page * page

    def entry(counter: Counter | None) -> dict[str, int]:
        if counter is None:
            return {"limit": 0, "failcnt": 0}
        limit = unlimited if counter.limit is None else counter.limit
        some = _if_any(usage=counter.usage, max=counter.peak)
        return {"limit": limit, **some, "failcnt": counter.failures}

    both = use.both or _sum(use)
    own_failures = use.failures - (use.both.failures if use.both else 0)
    own = Counter(usage=use.usage, peak=use.peak, limit=use.limit, failures=own_failures)
    cache = use.detail.get("file" if version == "v2" else "cache", 0)
    return {
        **_if_any(cache=cache),
        "usage": entry(own),
        "swap": entry(both),
        "kernel": entry(use.kernel),
        "kernelTCP": entry(use.kernel_tcp),
        "raw": dict(sorted(use.detail.items())),
    }


def _sum(use: MemoryUse) -> Counter:
    """Add memory and swap, which v2 counts separately; without swap the sum is the memory."""
    limit = use.limit if use.swap is None else use.swap_limit
    return Counter(usage=use.usage + (use.swap or 0), limit=limit)


def _blkio(devices: tuple[DeviceUse, ...]) -> dict[str, Any]:
    rows = [
        (*map(int, use.device.split(":")), operation, moved, done)
        for use in devices
        for operation, moved, done in (
            ("Read", use.read_bytes, use.reads), ("Write", use.written_bytes, use.writes)
        )
    ]  # fmt: skip
    return _if_any(
        ioServiceBytesRecursive=[
            _if_any(major=major, minor=minor, op=operation, value=moved)
            for major, minor, operation, moved, _ in rows
        ],
        ioServicedRecursive=[
            _if_any(major=major, minor=minor, op=operation, value=done)
            for major, minor, operation, _, done in rows
        ],
    )


def _pressure(told: Pressure) -> dict[str, Any]:
    return {
        name: {
            "avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300,
            "total": stall.total_us,
        }
        for name, stall in (("some", told.some), ("full", told.full))
        if stall
    }  # fmt: skip
