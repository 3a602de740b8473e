"""The table of limits: which field goes into which control file, on cgroup v1 and on v2.

A new limit is one row in `LIMITS`, and a field in limits.py. Both drivers write what `apply` reads
from here.
"""

from __future__ import annotations

import errno

from minicontainer.cgroups import refusals
from minicontainer.cgroups.limits import Resources
from minicontainer.errors import Conflict, InvalidArgument, KernelError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Now = Callable[[str], str]  # the present text of a control file, "" where there is none
    Text = Callable[[Any, Resources, Now], str | None]  # None: nothing is to be written
    Write = Callable[[str, str, str], None]

# ---- conversions: a field's value to the text of a control file -------------------------------


def as_is(value: object, *_: object) -> str:
    """Write the value as it stands."""
    return str(value)


def unless_0(value: int, *_: object) -> str | None:
    """Write a number; 0 stands for a field left out, as for runc and the engines that call it."""
    return str(value) if value else None


def or_max(value: int, *_: object) -> str | None:
    """Write a number; -1 is `max` in cgroup v2, 0 a field left out."""
    return "max" if value < 0 else unless_0(value)


def switch(value: bool, *_: object) -> str | None:
    """Write 1 for true; false asks for nothing."""
    return "1" if value else None


def memory_and_swap(swap: int, asked: Resources, now: Now) -> str | None:
    """Write v1's sum; where the kernel does not count swap, "no limit" needs no writing."""
    if swap == -1 and not now("memory.memsw.limit_in_bytes"):
        return None
    if swap > 0 and asked.memory and asked.memory.limit:
        _check_sum(swap, asked.memory.limit)
    return unless_0(swap)


def swap_alone(swap: int, asked: Resources, now: Now) -> str | None:
    """Take the memory out of memory-and-swap: v2 counts swap by itself.

    Raises:
        InvalidArgument: the sum is below the memory limit, or there is none to take out.
    """
    if swap == 0:
        return None
    if swap == -1:
        text = "max"
    else:
        memory = (asked.memory and asked.memory.limit) or _bytes(now("memory.max"))
        _check_sum(swap, memory)
        text = str(swap - memory)
    # a kernel without swap has no such file, and no swap to limit either
    return None if text in ("0", "max") and not now("memory.swap.max") else text


def _check_sum(swap: int, memory: int) -> None:
    if memory < 0 or swap < memory:
        limit = "there is none" if memory < 0 else f"that is {memory}"
        raise InvalidArgument(
            f"linux.resources.memory.swap: {swap} is memory and swap together, and so can't be "
            f"below the memory limit: {limit}"
        )


def weight_of_shares(shares: int, *_: object) -> str | None:
    """Map 2…262144 onto 1…10000 in a straight line.

    Only proportions among siblings count, and a line keeps them: half the shares, half the weight.
    Runtimes and Kubernetes had this one in common for years. (Newer ones bend it so that v1's
    default of 1024 becomes v2's of 100; here it is 39.)
    """
    if shares == 0:
        return None
    return str(1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142)


def period_and_quota(period: int, asked: Resources, now: Now) -> str | None:
    """Write both: v2's cpu.max takes "QUOTA PERIOD", or a quota alone."""
    if period == 0:
        return None
    quota = or_max(asked.cpu.quota) if asked.cpu and asked.cpu.quota is not None else None
    return f"{quota or now('cpu.max').partition(' ')[0] or 'max'} {period}"


def quota_alone(quota: int, asked: Resources, _: Now) -> str | None:
    """Write the quota, unless `period_and_quota` has done so; v2 then keeps the period."""
    return None if asked.cpu and asked.cpu.period else or_max(quota)


def bfq_to_io_weight(weight: int, *_: object) -> str | None:
    """Map 10…1000 onto 1…10000 in a straight line, as crun and runc do."""
    return str(1 + (weight - 10) * 9999 // 990) if weight else None


def per_device(text: Text, field: str = "weight") -> Text:
    """Write "MAJOR:MINOR VALUE", the value by *text* of the device's *field*."""

    def line(device: Any, asked: Resources, now: Now) -> str | None:
        value = getattr(device, field)
        told = None if value is None else text(value, asked, now)
        return None if told is None else f"{device.major}:{device.minor} {told}"

    return line


def throttle(key: str) -> Text:
    """Write v2's "MAJOR:MINOR KEY=RATE"; a rate of 0 ends the throttle, as on v1."""
    return lambda device, *_: f"{device.major}:{device.minor} {key}={device.rate or 'max'}"


device_weight = per_device(unless_0)
device_io_weight = per_device(bfq_to_io_weight)
device_rate = per_device(as_is, "rate")


def size_limit(huge: Any, *_: object) -> str:
    """Write the bytes of one page size; the size itself is in the file's name."""
    return str(huge.limit)


def handles_and_objects(item: Any, *_: object) -> str:
    """Write "DEVICE hca_handle=N hca_object=N"."""
    device, rdma = item
    counts = (("hca_handle", rdma.hca_handles), ("hca_object", rdma.hca_objects))
    return " ".join([device, *(f"{key}={count}" for key, count in counts if count is not None)])


def interface_priority(item: Any, *_: object) -> str:
    """Write "INTERFACE PRIORITY"."""
    return f"{item.name} {item.priority}"


# ---- the table --------------------------------------------------------------------------------


class Limit:
    """One row: a field of `linux.resources`, and the control file for it on each version.

    A file's controller is its name up to the first point. {page_size} in a name is the item's.
    Where a field has several rows, the first whose file this kernel has is written.
    """

    __slots__ = ("field", "v1", "v1_text", "v2", "v2_text")

    def __init__(
        self, field: str, v1: str, v1_text: Text, v2: str | None = None, v2_text: Text = as_is
    ) -> None:
        self.field = field
        self.v1, self.v1_text = v1, v1_text
        self.v2, self.v2_text = v2, v2_text


# The order is that of writing: real-time period before runtime, shares before idle (an idle group
# takes none), devices' weights after the group's own.
LIMITS = (
    #     linux.resources               cgroup v1: file                   text
    #                                   cgroup v2: file                   text
    Limit("memory.limit",               "memory.limit_in_bytes",          unless_0,
                                        "memory.max",                     or_max),
    Limit("memory.reservation",         "memory.soft_limit_in_bytes",     unless_0,
                                        "memory.low",                     or_max),
    Limit("memory.swap",                "memory.memsw.limit_in_bytes",    memory_and_swap,
                                        "memory.swap.max",                swap_alone),
    Limit("memory.kernel_tcp",          "memory.kmem.tcp.limit_in_bytes", unless_0),
    Limit("memory.swappiness",          "memory.swappiness",              as_is),
    Limit("memory.disable_oom_killer",  "memory.oom_control",             switch),
    Limit("cpu.shares",                 "cpu.shares",                     unless_0,
                                        "cpu.weight",                     weight_of_shares),
    Limit("cpu.period",                 "cpu.cfs_period_us",              unless_0,
                                        "cpu.max",                        period_and_quota),
    Limit("cpu.quota",                  "cpu.cfs_quota_us",               unless_0,
                                        "cpu.max",                        quota_alone),
    Limit("cpu.burst",                  "cpu.cfs_burst_us",               as_is,
                                        "cpu.max.burst",                  as_is),
    Limit("cpu.idle",                   "cpu.idle",                       as_is,
                                        "cpu.idle",                       as_is),
    Limit("cpu.realtime_period",        "cpu.rt_period_us",               unless_0),
    Limit("cpu.realtime_runtime",       "cpu.rt_runtime_us",              unless_0),
    Limit("cpu.cpus",                   "cpuset.cpus",                    as_is,
                                        "cpuset.cpus",                    as_is),
    Limit("cpu.mems",                   "cpuset.mems",                    as_is,
                                        "cpuset.mems",                    as_is),
    Limit("pids.limit",                 "pids.max",                       or_max,
                                        "pids.max",                       or_max),
    Limit("block_io.weight",            "blkio.weight",                   unless_0,
                                        "io.bfq.weight",                  unless_0),
    Limit("block_io.weight",            "blkio.bfq.weight",               unless_0,
                                        "io.weight",                      bfq_to_io_weight),
    Limit("block_io.leaf_weight",       "blkio.leaf_weight",              unless_0),
    Limit("block_io.weight_device",     "blkio.weight_device",            device_weight,
                                        "io.bfq.weight",                  device_weight),
    Limit("block_io.weight_device",     "blkio.bfq.weight_device",        device_weight,
                                        "io.weight",                      device_io_weight),
    Limit("block_io.throttle_read_bps_device", "blkio.throttle.read_bps_device", device_rate,
                                        "io.max",                         throttle("rbps")),
    Limit("block_io.throttle_write_bps_device", "blkio.throttle.write_bps_device", device_rate,
                                        "io.max",                         throttle("wbps")),
    Limit("block_io.throttle_read_iops_device", "blkio.throttle.read_iops_device", device_rate,
                                        "io.max",                         throttle("riops")),
    Limit("block_io.throttle_write_iops_device", "blkio.throttle.write_iops_device", device_rate,
                                        "io.max",                         throttle("wiops")),
    Limit("hugepage_limits",            "hugetlb.{page_size}.limit_in_bytes", size_limit,
                                        "hugetlb.{page_size}.max",            size_limit),
    Limit("network.class_id",           "net_cls.classid",                as_is),
    Limit("network.priorities",         "net_prio.ifpriomap",             interface_priority),
    Limit("rdma",                       "rdma.max",                       handles_and_objects,
                                        "rdma.max",                       handles_and_objects),
)  # fmt: skip


def flat(text: str) -> dict[str, int]:
    """Read a control file of lines "KEY NUMBER", like memory.events."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {key: int(value) for key, _, value in pairs}


def asked_for(resources: Resources) -> Iterator[tuple[list[Limit], Any]]:
    """Yield each value that is asked for, with the rows of its field; lists item by item."""
    rows: dict[str, list[Limit]] = {}
    for row in LIMITS:
        rows.setdefault(row.field, []).append(row)
    for field, alternatives in rows.items():
        value: Any = resources
        for name in field.split("."):
            value = value if value is None else getattr(value, name)
        if isinstance(value, dict):
            value = tuple(value.items())
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None:
                yield alternatives, item


def apply(
    resources: Resources, path: str, is_v2: Callable[[Limit], bool], write: Write, now: Now
) -> None:
    """Write all limits that are asked for; `devices` and `unified` are not among them.

    Limits bound each other: memory ≤ memory and swap, burst ≤ quota, runtime ≤ period. Which must
    be written first depends on what they are now, so what the kernel refuses is tried once more
    after the rest.

    Args:
        path: of the cgroup, for messages.
        is_v2: says which column of a row this host wants.
        write: (the limit's name in config.json, file, text) writes, or raises what the kernel did.
        now: reads a control file.
    Raises:
        Unsupported: this kernel or version has no such limit.
        InvalidArgument: values that contradict each other, or that the kernel does not take.
        Conflict: more is in use.
    """
    refused: list[tuple[str, str, str]] = []
    for alternatives, item in asked_for(_completed(resources)):
        for row in alternatives:
            file, text = _file_and_text(row, item, resources, is_v2(row), now)
            if text is None:
                break
            where = Resources.json_path(row.field)
            try:
                write(where, file, text)
            except KernelError as error:
                if error.errno == errno.ENOENT and row is not alternatives[-1]:
                    continue
                if error.errno != errno.EINVAL:
                    raise refusals.of_limit(error, where, path, file, text, now) from None
                refused.append((where, file, text))
            break
    for where, file, text in refused:
        try:
            write(where, file, text)
        except KernelError as error:
            raise refusals.of_limit(error, where, path, file, text, now) from None


def check_use(resources: Resources, used: str) -> None:
    """Refuse a memory limit below what is in use, if `checkBeforeUpdate` asks for that.

    Without it v2 kills processes until the rest fits.

    Args:
        used: bytes, as the control file tells; "" where there is none.
    Raises:
        Conflict: more is in use.
    """
    memory = resources.memory
    if not (memory and memory.limit and memory.check_before_update and used.isdecimal()):
        return
    if 0 < memory.limit < int(used):
        raise Conflict(
            f"linux.resources.memory.limit: {memory.limit}: {used} bytes are in use: raise the "
            "limit, or leave checkBeforeUpdate out"
        )


def _file_and_text(
    row: Limit, item: Any, resources: Resources, is_v2: bool, now: Now
) -> tuple[str, str | None]:
    """Find what to write into which file for one value."""
    file, convert = (row.v2, row.v2_text) if is_v2 else (row.v1, row.v1_text)
    if file is None:
        if not item:  # 0 and false ask for nothing
            return "", None
        raise Unsupported(
            f"{Resources.json_path(row.field)}: cgroup v2 has no such limit: leave it out"
        )
    if "{" in file:
        file = file.format(page_size=_page_size(item.page_size))
    return file, convert(item, resources, now)


def _page_size(size: str) -> str:
    """Check a size of huge pages: it becomes part of a file's name."""
    if size[-2:] not in ("KB", "MB", "GB") or not size[:-2].isdecimal():
        raise InvalidArgument(
            f"linux.resources.hugepageLimits: page size {size!r}: expected one like 2MB or 1GB"
        )
    return size


def _completed(resources: Resources) -> Resources:
    """Lift the limit of memory and swap with that of memory: no sum can be below its part."""
    memory = resources.memory
    if memory and memory.limit == -1 and not memory.swap:
        return resources.replace(memory=memory.replace(swap=-1))
    return resources


def _bytes(text: str) -> int:
    """Read a limit of cgroup v2; -1 for `max`."""
    return int(text) if text.isdecimal() else -1
