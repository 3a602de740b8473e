"""Counters in runc's form."""

from __future__ import annotations

import pytest

from minicontainer.cgroups.stats import (
    Counter,
    CpusetUse,
    CpuUse,
    DeviceUse,
    HugepageUse,
    MemoryUse,
    PidsUse,
    Pressure,
    Stall,
    Stats,
)
from minicontainer.runtime.container.usage import as_runc, numbers

NOTHING = Stats(
    memory=MemoryUse(detail={}), cpu=CpuUse(), pids=PidsUse(), devices=(), hugepages={}, rdma={},
    pressure={},
)  # fmt: skip


def test_what_is_0_is_left_out_where_runc_leaves_it_out() -> None:
    """Names and order are those that `runc events --stats` prints of an idle group."""
    told = as_runc(NOTHING, "v2")
    assert list(told) == [
        "cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces",
    ]  # fmt: skip
    assert told["cpu"] == {"usage": {"kernel": 0, "user": 0}, "throttling": {}}
    assert told["cpuset"] == dict.fromkeys(
        ("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
         "memory_spread_slab", "memory_pressure", "sched_load_balance",
         "sched_relax_domain_level"), 0,
    )  # fmt: skip
    assert told["memory"]["usage"] == {"limit": 2**64 - 1, "failcnt": 0}
    assert told["memory"]["kernel"] == {"limit": 0, "failcnt": 0}
    assert (told["pids"], told["blkio"], told["hugetlb"]) == ({}, {}, {})
    assert told["network_interfaces"] is None


def test_each_counter_has_its_place() -> None:
    """v1 counts memory and swap together, and by processor."""
    stats = NOTHING.replace(
        cpu=CpuUse(usage_ns=3, user_ns=1, system_ns=2, per_cpu_ns=(1, 2), periods=4,
                   throttled_periods=5, throttled_ns=6),
        cpuset=CpusetUse(cpus="0-1,3", mems="0", switches={"sched_load_balance": 1}),
        memory=MemoryUse(usage=7, peak=8, limit=None, failures=9, detail={"cache": 10, "a": 1},
                         both=Counter(usage=11, peak=12, limit=13, failures=4)),
        pids=PidsUse(current=1, limit=5),
        devices=(DeviceUse(device="8:0", read_bytes=1, reads=2, written_bytes=3),),
        hugepages={"2MB": HugepageUse(usage=4, peak=5, failures=6)},
        pressure={"io": Pressure(some=Stall(avg10=1.5, total_us=7))},
    )  # fmt: skip
    told = as_runc(stats, "v1")
    assert told["cpu"] == {
        "usage": {"total": 3, "percpu": [1, 2], "kernel": 2, "user": 1},
        "throttling": {"periods": 4, "throttledPeriods": 5, "throttledTime": 6},
    }
    assert told["cpuset"]["cpus"] == [0, 1, 3]
    assert told["cpuset"]["sched_load_balance"] == 1
    memory = told["memory"]
    assert memory["cache"] == 10
    assert memory["usage"] == {"limit": 9223372036854771712, "usage": 7, "max": 8, "failcnt": 5}
    assert memory["swap"] == {"limit": 13, "usage": 11, "max": 12, "failcnt": 4}
    assert list(memory["raw"]) == ["a", "cache"]
    assert told["pids"] == {"current": 1, "limit": 5}
    assert told["blkio"] == {
        "ioServiceBytesRecursive": [
            {"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write", "value": 3},
        ],
        "ioServicedRecursive": [
            {"major": 8, "op": "Read", "value": 2}, {"major": 8, "op": "Write"},
        ],
        "psi": {"some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 7}},
    }  # fmt: skip
    assert told["hugetlb"] == {"2MB": {"usage": 4, "max": 5, "failcnt": 6}}


@pytest.mark.parametrize(
    ("swap", "swap_limit", "told"),
    [(None, None, (5, 9)), (2, None, (7, 2**64 - 1)), (2, 12, (7, 12))],
)
def test_v2_adds_memory_and_swap_up(
    swap: int | None, swap_limit: int | None, told: tuple[int, int]
) -> None:
    """A kernel without swap counts the memory alone."""
    use = MemoryUse(usage=5, limit=9, swap=swap, swap_limit=swap_limit, detail={})
    entry = as_runc(NOTHING.replace(memory=use), "v2")["memory"]["swap"]
    assert (entry["usage"], entry["limit"]) == told


def test_lists_of_processors_are_read() -> None:
    """As the kernel writes them."""
    assert numbers("") == []
    assert numbers("3") == [3]
    assert numbers("0-2,7,9-10") == [0, 1, 2, 7, 9, 10]
