"""The resource use of a container: the counters of both cgroup versions, as values.

A counter that this kernel, or this cgroup version, does not have is None.
"""

from __future__ import annotations

from minicontainer.record import NO_ENTRIES, Record


class Counter(Record):
    """Bytes of one kind of memory: now, the most ever, the limit, and how often it was reached."""

    usage: int = 0
    peak: int | None = None
    limit: int | None = None
    failures: int = 0


class MemoryUse(Record):
    """Bytes, as the memory controller counts them.

    Args:
        usage: now, with the page cache;  peak: the most it ever was.
        limit: None for no limit.
        swap: swapped out now;  swap_limit: of memory and swap together.
        failures: how often the limit was reached, and pages had to be reclaimed.
        oom_kills: processes killed because no more could be reclaimed.
        detail: every line of memory.stat.
        both: memory and swap together;  kernel: the kernel's part of the memory;  kernel_tcp:
            buffers of TCP sockets. Only cgroup v1 counts these apart.
    """

    usage: int = 0
    peak: int | None = None
    limit: int | None = None
    swap: int | None = None
    swap_limit: int | None = None
    failures: int = 0
    oom_kills: int = 0
    detail: dict[str, int]
    both: Counter | None = None
    kernel: Counter | None = None
    kernel_tcp: Counter | None = None


class CpuUse(Record):
    """Processor time.

    Args:
        usage_ns: the sum;  user_ns, system_ns: its two parts.
        per_cpu_ns, per_cpu_user_ns, per_cpu_system_ns: the same by processor; cgroup v1 only.
        periods: of the quota that have passed;  throttled_periods: the number of periods in which
            it was used up;  throttled_ns: how long processes then had to wait.
    """

    usage_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()
    per_cpu_user_ns: tuple[int, ...] = ()
    per_cpu_system_ns: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


class CpusetUse(Record):
    """Where processes may run.

    Args:
        cpus, mems: processors and memory nodes, as lists like 0-2,7.
        switches: cgroup v1's other files, by name: cpu_exclusive.
    """

    cpus: str = ""
    mems: str = ""
    switches: dict[str, int] = NO_ENTRIES


class PidsUse(Record):
    """Tasks, every thread counted; the limit is None for no limit."""

    current: int = 0
    limit: int | None = None


class DeviceUse(Record):
    """Traffic between the container and one block device ("MAJOR:MINOR")."""

    device: str
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


class HugepageUse(Record):
    """Bytes in huge pages of one size; failures is how often the limit was reached."""

    usage: int = 0
    peak: int | None = None
    limit: int | None = None
    failures: int = 0


class Stall(Record):
    """How long processes had to wait: percent of the last 10, 60, 300 s, and µs in total."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total_us: int = 0


class Pressure(Record):
    """Time in which some processes, or all at once, waited for a resource.

    See: kernel accounting/psi.rst.
    """

    some: Stall | None = None
    full: Stall | None = None


class Stats(Record):
    """All counters of a cgroup at one moment.

    Args:
        hugepages: by page size, `2MB`.
        rdma: handles and objects by device.
        pressure: by resource: cpu, memory, io; where the v2 hierarchy is mounted.
    """

    memory: MemoryUse
    cpu: CpuUse
    cpuset: CpusetUse = CpusetUse()
    pids: PidsUse
    devices: tuple[DeviceUse, ...]
    hugepages: dict[str, HugepageUse]
    rdma: dict[str, dict[str, int]]
    pressure: dict[str, Pressure]


def limited(number: int | None) -> int | None:
    """Parse a limit; None for the largest number of whole pages, v1's "no limit"."""
    return None if number is None or number >= 1 << 62 else number


def nested(text: str) -> dict[str, dict[str, int]]:
    """Parse lines of "NAME KEY=NUMBER …", as in io.stat and rdma.current; `max` is left out."""
    found = {}
    for line in text.splitlines():
        name, *pairs = line.split()
        told = (pair.partition("=") for pair in pairs)
        found[name] = {key: int(value) for key, _, value in told if value.isdecimal()}
    return found


def pressure(text: str) -> Pressure:
    """Parse a file of pressure stall information: "some avg10=0.00 … total=0", "full …"."""
    stalls = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        told = dict(pair.split("=") for pair in pairs)
        stalls[kind] = Stall(
            avg10=float(told["avg10"]), avg60=float(told["avg60"]),
            avg300=float(told["avg300"]), total_us=int(told["total"]),
        )  # fmt: skip
    return Pressure(some=stalls.get("some"), full=stalls.get("full"))
