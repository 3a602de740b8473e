"""Convert a limit's value in config.json to the text of a control file.

The table in control_files.py names these functions. Each gets the value, all of `linux.resources`,
and a function that reads the group's control files. None means that there is nothing to write.
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicontainer.cgroups.limits import Resources

    Now = Callable[[str], str]  # the present text of a control file, "" if there is none
    Text = Callable[[Any, Resources, Now], str | None]

# How "unset" arrives in fields that JSON can't leave empty: -1, or the kernel's 64 bits of it.
_UNSET = (-1, 2**64 - 1)


def as_is(value: object, *_: object) -> str:
    """Write the value as it is."""
    return str(value)


def unless_0(value: int, *_: object) -> str | None:
    """Write a number; 0 stands for a missing field, as for runc and the engines that call it."""
    return str(value) if value else None


def if_any(value: str, *_: object) -> str | None:
    """Write a text; an empty one stands for a missing field."""
    return value or None


def or_max(value: int, *_: object) -> str | None:
    """Write a number; -1 becomes `max` of cgroup v2, and 0 stands for a missing field."""
    return "max" if value < 0 else unless_0(value)


def switch(value: bool, *_: object) -> str | None:
    """Write 1 for true; false changes nothing."""
    return "1" if value else None


def percent(value: int, *_: object) -> str | None:
    """Write a number that may be 0; unset is -1."""
    return None if value in _UNSET else str(value)


def tasks(limit: int, *_: object) -> str:
    """Write the number of tasks allowed; 0 becomes 1, which forbids fork(2) as well.

    A limit of 0 would keep clone3(2) from making the first process, and systemd refuses it.
    """
    return "max" if limit < 0 else str(max(limit, 1))


# ---- memory -----------------------------------------------------------------------------------


def memory_and_swap(swap: int, asked: Resources, now: Now) -> str | None:
    """Write v1's sum; if the kernel does not count swap, "no limit" need not be written."""
    if swap == -1 and not now("memory.memsw.limit_in_bytes"):
        return None
    if swap > 0 and asked.memory and asked.memory.limit:
        _check_sum(swap, asked.memory.limit)
    return unless_0(swap)


def swap_alone(swap: int, asked: Resources, now: Now) -> str | None:
    """Subtract the memory from memory-and-swap, if the kernel counts swap.

    Raises:
        InvalidArgument: of `swap_without_memory`.
    """
    text = swap_without_memory(swap, asked, now)
    # a kernel without swap has no such file, and no swap to limit either
    return None if text in ("0", "max") and not now("memory.swap.max") else text


def swap_without_memory(swap: int, asked: Resources, now: Now) -> str | None:
    """Subtract the memory from memory-and-swap: v2 counts swap alone.

    Raises:
        InvalidArgument: the sum is below the memory limit, or there is no memory limit.
    """
    limit = asked.memory.limit if asked.memory else None
    if swap == 0:
        return None
    if swap == -1:
        return "max"
    if limit == -1:
        return str(swap)  # nothing can be subtracted from unlimited memory: runc does this too
    memory = limit or _bytes(now("memory.max"))
    _check_sum(swap, memory)
    return str(swap - memory)


def _check_sum(swap: int, memory: int) -> None:
    if memory < 0 or swap < memory:
        limit = "there is none" if memory < 0 else f"that is {memory}"
        raise InvalidArgument(
            f"linux.resources.memory.swap: {swap} is memory and swap together, and so can't be "
            f"below the memory limit: {limit}"
        )


def _bytes(text: str) -> int:
    """Parse a limit of cgroup v2; -1 for `max`."""
    return int(text) if text.isdecimal() else -1


# ---- processors -------------------------------------------------------------------------------


def weight_of_shares(shares: int, *_: object) -> str | None:
    """Map v1's shares, 2…262144, onto v2's weights, 1…10000.

    Only the proportions among siblings count. The curve goes through both ends and through both
    defaults, 1024 and 100: a container with the default shares then gets as much as one without
    any, as on v1. runc since 1.3.2 and crun since 1.23 use the same curve; before, all used a
    straight line, on which 1024 became 39.
    """
    if shares == 0:
        return None
    if shares <= 2:
        return "1"
    if shares >= 262144:
        return "10000"
    from math import ceil, log2  # few containers name shares

    doublings = log2(shares)
    exponent = (doublings * doublings + 125 * doublings) / 612 - 7 / 34
    return str(ceil(10**exponent))


def period_and_quota(period: int, asked: Resources, now: Now) -> str | None:
    """Write both: v2's cpu.max takes "QUOTA PERIOD", or a quota alone."""
    if period == 0:
        return None
    quota = or_max(asked.cpu.quota) if asked.cpu and asked.cpu.quota is not None else None
    return f"{quota or now('cpu.max').partition(' ')[0] or 'max'} {period}"


def quota_alone(quota: int, asked: Resources, _: Now) -> str | None:
    """Write the quota, unless `period_and_quota` has written it; v2 then keeps the period."""
    return None if asked.cpu and asked.cpu.period else or_max(quota)


# ---- devices ----------------------------------------------------------------------------------


def bfq_to_io_weight(weight: int, *_: object) -> str | None:
    """Map 10…1000 onto 1…10000 in a straight line, as crun and runc do."""
    return str(1 + (weight - 10) * 9999 // 990) if weight else None


def per_device(text: Text, field: str = "weight") -> Text:
    """Write "MAJOR:MINOR VALUE", the value converted by *text* from the device's *field*."""

    def line(device: Any, asked: Resources, now: Now) -> str | None:
        value = getattr(device, field)
        told = None if value is None else text(value, asked, now)
        return None if told is None else f"{device.major}:{device.minor} {told}"

    return line


def throttle(key: str) -> Text:
    """Write v2's "MAJOR:MINOR KEY=RATE"; a rate of 0 ends the throttle, as on v1."""
    return lambda device, *_: f"{device.major}:{device.minor} {key}={device.rate or 'max'}"


device_weight = per_device(unless_0)
device_leaf_weight = per_device(unless_0, "leaf_weight")
device_io_weight = per_device(bfq_to_io_weight)
device_rate = per_device(as_is, "rate")


def size_limit(huge: Any, *_: object) -> str:
    """Write the bytes for one page size; the size itself is in the file's name."""
    return str(huge.limit)


def handles_and_objects(item: Any, *_: object) -> str:
    """Write "DEVICE hca_handle=N hca_object=N"."""
    device, rdma = item
    counts = (("hca_handle", rdma.hca_handles), ("hca_object", rdma.hca_objects))
    return " ".join([device, *(f"{key}={count}" for key, count in counts if count is not None)])


def interface_priority(item: Any, *_: object) -> str:
    """Write "INTERFACE PRIORITY"."""
    return f"{item.name} {item.priority}"
