"""Scheduling: policies for processors, priorities at disks, and the set of processors.

See: sched(7), sched_setattr(2), sched_setaffinity(2), ioprio_set(2).
"""

from __future__ import annotations

import ctypes
import os

from minicontainer import steps
from minicontainer.errors import InvalidArgument
from minicontainer.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,  # reserved: no kernel has it
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13


class _SchedAttr(ctypes.Structure):
    """Struct sched_attr of linux/sched/types.h, without its utilization clamps."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


def set_scheduler(
    policy: str,
    *,
    nice: int = 0,
    priority: int = 0,
    flags: Iterable[str] = (),
    runtime: int = 0,
    deadline: int = 0,
    period: int = 0,
) -> None:
    """sched_setattr(2), for this process and its future children.

    Args:
        policy, flags: of POLICIES and FLAGS.
        nice: -20 (most) to 19.
        priority: 1 to 99 for SCHED_FIFO and SCHED_RR, otherwise 0.
        runtime, deadline, period: nanoseconds, for SCHED_DEADLINE.
    Raises:
        KernelError: EPERM without CAP_SYS_NICE, and for real-time policies in a cgroup that gives
            them no time; EINVAL; EBUSY for a deadline that the processors can't keep.
    """
    attr = _SchedAttr(
        size=ctypes.sizeof(_SchedAttr),
        sched_policy=POLICIES[policy],
        sched_flags=sum(FLAGS[flag] for flag in set(flags)),
        sched_nice=nice,
        sched_priority=priority,
        sched_runtime=runtime,
        sched_deadline=deadline,
        sched_period=period,
    )
    libc.call("sched_setattr", 0, attr, 0, object="process:scheduler", after=lambda: policy)


def set_io_priority(io_class: str, priority: int) -> None:
    """ioprio_set(2), for this process and its future children.

    Args:
        io_class: of IO_CLASSES.
        priority: 0 (first) to 7.
    Raises:
        KernelError: EPERM for IOPRIO_CLASS_RT without CAP_SYS_ADMIN or CAP_SYS_NICE.
    """
    number = IO_CLASSES[io_class]
    libc.call(
        "ioprio_set", _IOPRIO_WHO_PROCESS, 0, number << _IOPRIO_CLASS_SHIFT | priority,
        object="process:ioprio", after=lambda: f"{io_class}:{priority}",
        shell=f"ionice -p $$ -c {number} -n {priority}",
    )  # fmt: skip


def set_affinity(cpus: frozenset[int]) -> None:
    """sched_setaffinity(2): run this process and its future children on these processors alone.

    Raises:
        KernelError: EINVAL if none of them exists, or the cgroup allows none.
    """
    listed = ",".join(map(str, sorted(cpus)))
    steps.noted(
        "sched_setaffinity", (0, listed), lambda: os.sched_setaffinity(0, cpus),
        object="process:affinity", after=listed, shell=f"taskset -pc {listed} $$",
    )  # fmt: skip


def parse_list(text: str, highest: int) -> frozenset[int]:
    """Parse a list of processors or memory nodes as the kernel writes them: 0-3,7.

    Args:
        highest: the highest number allowed.
    Raises:
        InvalidArgument: it is not such a list; the message says what is wrong.
    See: cpuset(7) "List format".
    """
    found: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        ends = [first.strip(), last.strip() if dash else first.strip()]
        if not all(end.isascii() and end.isdecimal() and len(end) <= 10 for end in ends):
            raise InvalidArgument(f"expected a list like 0-3,7, got {text!r}")
        low, high = map(int, ends)
        if not low <= high <= highest:
            raise InvalidArgument(f"expected numbers of 0 to {highest}, rising, got {part.strip()}")
        found.update(range(low, high + 1))
    return frozenset(found)
