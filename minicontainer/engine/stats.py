"""What a container uses, as `docker stats` shows it: samples of its counters, one a second.

See: Docker Engine API, ContainerStats; proc_stat(5); proc_pid_net(5).
"""

from __future__ import annotations

import os
import threading
import time

from minicontainer.engine import host_facts
from minicontainer.engine.container import NEVER, moment
from minicontainer.errors import Error
from minicontainer.kernel import files
from minicontainer.runtime.container import operations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minicontainer.cgroups.stats import CpuUse, DeviceUse, MemoryUse
    from minicontainer.engine.container import Container
    from minicontainer.runtime.container.state import Store

    Json = dict[str, Any]

_PERIOD_S = 1.0
# Columns of /proc/PID/net/dev after the interface's name, by Docker's name.
_COUNTERS = {
    "rx_bytes": 0, "rx_packets": 1, "rx_errors": 2, "rx_dropped": 3,
    "tx_bytes": 8, "tx_packets": 9, "tx_errors": 10, "tx_dropped": 11,
}  # fmt: skip
_NO_CPU: Json = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_NO_BLKIO: Json = {
    f"{name}_recursive": None
    for name in (
        "io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time",
        "io_merged", "io_time",
    )
} | {"sectors_recursive": None}  # fmt: skip


class StatsStream:
    """The samples of a container; an iterator that any thread can close.

    Args:
        container: a stopped one gives samples without counters.
        states: the runtime's.
        stream: go on until the container is removed; otherwise give one sample.
        one_shot: without the second that a single sample is otherwise compared over.
    """

    def __init__(self, container: Container, states: Store, stream: bool, one_shot: bool) -> None:
        self._container = container
        self._states = states
        self._stream = stream
        self._compared = stream or not one_shot
        self._closed = threading.Event()
        self._last: Json | None = None
        self._next_s = 0.0
        self._is_over = False

    def __iter__(self) -> Iterator[Json]:
        return self

    def __next__(self) -> Json:
        if self._is_over or self._closed.is_set() or self._container.removed:
            raise StopIteration
        if not self._stream:
            self._is_over = True
            if self._compared and self._container.state.is_running():
                self._last = self._sample()
                self._next_s = time.monotonic() + _PERIOD_S
        if self._closed.wait(max(self._next_s - time.monotonic(), 0)) or self._container.removed:
            raise StopIteration
        self._next_s = time.monotonic() + _PERIOD_S
        found = self._sample()
        last = self._last or {"read": NEVER, "cpu_stats": _NO_CPU}
        self._last = found
        return {**found, "preread": last["read"], "precpu_stats": last["cpu_stats"]}

    def close(self) -> None:
        """End the iteration, also while another thread waits in it."""
        self._closed.set()

    def _sample(self) -> Json:
        """Read the counters; a container that does not run has none."""
        container = self._container
        found: Json = {
            "name": f"/{container.name}",
            "id": container.id,
            "read": NEVER,
            "num_procs": 0,
            "pids_stats": {},
            "cpu_stats": _NO_CPU,
            "memory_stats": {},
            "blkio_stats": _NO_BLKIO,
            "storage_stats": {},
        }
        if container.state.is_running():
            try:
                found |= self._counters()
            except (Error, OSError):
                return found  # it has just ended
        return found

    def _counters(self) -> Json:
        container = self._container
        state = operations.load(self._states, container.id)
        stats = operations.cgroup_of(state).stats()
        pids: Json = {"current": stats.pids.current}
        if stats.pids.limit is not None:
            pids["limit"] = stats.pids.limit
        found = {
            "read": moment(time.time_ns()),
            "pids_stats": pids,
            "cpu_stats": _cpu(stats.cpu),
            "memory_stats": _memory(stats.memory),
            "blkio_stats": _blkio(stats.devices),
        }
        if networks := interfaces(container.state.pid):
            found["networks"] = networks
        return found


def _cpu(use: CpuUse) -> Json:
    usage: Json = {
        "total_usage": use.usage_ns,
        "usage_in_kernelmode": use.system_ns,
        "usage_in_usermode": use.user_ns,
    }
    if use.per_cpu_ns:
        usage["percpu_usage"] = list(use.per_cpu_ns)
    return {
        "cpu_usage": usage,
        "system_cpu_usage": host_cpu_ns(),
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": use.periods,
            "throttled_periods": use.throttled_periods,
            "throttled_time": use.throttled_ns,
        },
    }


def host_cpu_ns() -> int:
    """Count the time of all processors since boot, idle or not."""
    first = files.read_file("/proc/stat").split("\n", 1)[0].split()
    # Without the time of guests, which is part of the user's.
    return sum(map(int, first[1:9])) * (10**9 // os.sysconf("SC_CLK_TCK"))


def _memory(use: MemoryUse) -> Json:
    total = host_facts.memory()
    found: Json = {
        "usage": use.usage,
        "stats": dict(use.detail),
        "limit": min(use.limit or total, total),
    }
    if use.peak is not None:
        found["max_usage"] = use.peak
    if use.failures:
        found["failcnt"] = use.failures
    return found


def _blkio(devices: tuple[DeviceUse, ...]) -> Json:
    sizes: list[Json] = []
    counts: list[Json] = []
    for device in devices:
        major, _, minor = device.device.partition(":")
        place = {"major": int(major), "minor": int(minor)}
        sizes += [
            {**place, "op": "read", "value": device.read_bytes},
            {**place, "op": "write", "value": device.written_bytes},
        ]
        counts += [
            {**place, "op": "read", "value": device.reads},
            {**place, "op": "write", "value": device.writes},
        ]
    return {
        **_NO_BLKIO,
        "io_service_bytes_recursive": sizes,
        "io_serviced_recursive": counts,
    }


def interfaces(pid: int) -> Json:
    """Count what passed through the interfaces of a process's network namespace, but loopback."""
    found = {}
    for line in files.read_file(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        columns = rest.split()
        if name.strip() != "lo":
            found[name.strip()] = {key: int(columns[place]) for key, place in _COUNTERS.items()}
    return found
