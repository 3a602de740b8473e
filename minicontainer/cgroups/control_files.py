"""The table of limits: the control file for each field, on cgroup v1 and on v2.

`apply` goes through it for both drivers. docs/how-to/extend.md says what else a new limit needs.
"""

from __future__ import annotations

import errno

from minicontainer.cgroups import refusals
from minicontainer.cgroups.conversions import (
    as_is,
    bfq_to_io_weight,
    device_io_weight,
    device_leaf_weight,
    device_rate,
    device_weight,
    handles_and_objects,
    if_any,
    interface_priority,
    memory_and_swap,
    or_max,
    percent,
    period_and_quota,
    quota_alone,
    size_limit,
    swap_alone,
    switch,
    tasks,
    throttle,
    unless_0,
    weight_of_shares,
)
from minicontainer.cgroups.limits import Resources
from minicontainer.contexts import suppress
from minicontainer.errors import Conflict, Error, InvalidArgument, KernelError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from minicontainer.cgroups.conversions import Now, Text

    File = tuple[str, Text]
    Write = Callable[[str, str, str], None]


class Limit:
    """One row: a field of `linux.resources`, and the control file for it on each version.

    A version has a list of files, each with the conversion that makes its text. The first file that
    this kernel has is written; an empty list means that this version has no such limit. A file's
    controller is its name up to the first point. {page_size} in a name is the item's.

    Args:
        field: its path in `Resources`. Below a list it names the item's own field; the conversion
            gets the whole item.
        optional: some kernels have none of the files, and miss nothing without them.
    """

    __slots__ = ("field", "optional", "v1", "v2")

    def __init__(
        self, field: str, v1: list[File], v2: list[File], *, optional: bool = False
    ) -> None:
        self.field, self.optional = field, optional
        self.v1, self.v2 = v1, v2


_HUGE_V1, _HUGE_V2 = "hugetlb.{page_size}.limit_in_bytes", "hugetlb.{page_size}.max"
_HUGE_RSVD_V1 = "hugetlb.{page_size}.rsvd.limit_in_bytes"
_HUGE_RSVD_V2 = "hugetlb.{page_size}.rsvd.max"
_THROTTLE = "blkio.throttle."

# Field, files on cgroup v1, files on v2. The limits are written in this order: the real-time period
# before the runtime, shares before idle (an idle group takes none), the weights of devices after
# the group's own.
LIMITS = (
    Limit("memory.limit", [("memory.limit_in_bytes", unless_0)], [("memory.max", or_max)]),
    Limit("memory.reservation", [("memory.soft_limit_in_bytes", unless_0)],
          [("memory.low", or_max)]),
    Limit("memory.swap", [("memory.memsw.limit_in_bytes", memory_and_swap)],
          [("memory.swap.max", swap_alone)]),
    Limit("memory.kernel_tcp", [("memory.kmem.tcp.limit_in_bytes", unless_0)], []),
    Limit("memory.swappiness", [("memory.swappiness", percent)], []),
    Limit("memory.disable_oom_killer", [("memory.oom_control", switch)], []),
    Limit("cpu.shares", [("cpu.shares", unless_0)], [("cpu.weight", weight_of_shares)]),
    Limit("cpu.period", [("cpu.cfs_period_us", unless_0)], [("cpu.max", period_and_quota)]),
    Limit("cpu.quota", [("cpu.cfs_quota_us", unless_0)], [("cpu.max", quota_alone)]),
    Limit("cpu.burst", [("cpu.cfs_burst_us", as_is)], [("cpu.max.burst", as_is)]),
    Limit("cpu.idle", [("cpu.idle", as_is)], [("cpu.idle", as_is)]),
    Limit("cpu.realtime_period", [("cpu.rt_period_us", unless_0)], []),
    Limit("cpu.realtime_runtime", [("cpu.rt_runtime_us", unless_0)], []),
    Limit("cpu.cpus", [("cpuset.cpus", if_any)], [("cpuset.cpus", if_any)]),
    Limit("cpu.mems", [("cpuset.mems", if_any)], [("cpuset.mems", if_any)]),
    Limit("pids.limit", [("pids.max", tasks)], [("pids.max", tasks)]),
    Limit("block_io.weight", [("blkio.weight", unless_0), ("blkio.bfq.weight", unless_0)],
          [("io.bfq.weight", unless_0), ("io.weight", bfq_to_io_weight)]),
    Limit("block_io.leaf_weight", [("blkio.leaf_weight", unless_0)], []),
    Limit("block_io.weight_device",
          [("blkio.weight_device", device_weight), ("blkio.bfq.weight_device", device_weight)],
          [("io.bfq.weight", device_weight), ("io.weight", device_io_weight)]),
    Limit("block_io.weight_device.leaf_weight",
          [("blkio.leaf_weight_device", device_leaf_weight)], []),
    Limit("block_io.throttle_read_bps_device",
          [(_THROTTLE + "read_bps_device", device_rate)], [("io.max", throttle("rbps"))]),
    Limit("block_io.throttle_write_bps_device",
          [(_THROTTLE + "write_bps_device", device_rate)], [("io.max", throttle("wbps"))]),
    Limit("block_io.throttle_read_iops_device",
          [(_THROTTLE + "read_iops_device", device_rate)], [("io.max", throttle("riops"))]),
    Limit("block_io.throttle_write_iops_device",
          [(_THROTTLE + "write_iops_device", device_rate)], [("io.max", throttle("wiops"))]),
    Limit("hugepage_limits", [(_HUGE_V1, size_limit)], [(_HUGE_V2, size_limit)]),
    # Reservations of huge pages, which mmap(2) makes and a page fault uses up, are limited beside
    # the pages themselves: since Linux 5.7.
    Limit("hugepage_limits", [(_HUGE_RSVD_V1, size_limit)], [(_HUGE_RSVD_V2, size_limit)],
          optional=True),
    Limit("network.class_id", [("net_cls.classid", unless_0)], []),
    Limit("network.priorities", [("net_prio.ifpriomap", interface_priority)], []),
    Limit("rdma", [("rdma.max", handles_and_objects)], [("rdma.max", handles_and_objects)]),
)  # fmt: skip


def flat(text: str) -> dict[str, int]:
    """Read a control file of lines "KEY NUMBER", like memory.events."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {key: int(value) for key, _, value in pairs}


def asked_for(resources: Resources) -> Iterator[tuple[Limit, Any]]:
    """Yield each row whose field has a value, with that value; for a list, with each item."""
    for row in LIMITS:
        value: Any = resources
        for name in row.field.split("."):
            if value is None or isinstance(value, tuple):
                break
            value = getattr(value, name)
        if isinstance(value, dict):
            value = tuple(value.items())
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None:
                yield row, item


class _Change:
    """One write to a control file, and the text before it.

    Args:
        where: the limit's name in config.json.
    """

    __slots__ = ("before", "file", "text", "where")

    def __init__(self, where: str, file: str, text: str) -> None:
        self.where, self.file, self.text = where, file, text
        self.before = ""


class _Changes:
    """The writes of one call of `apply`: all of them succeed, or they are undone where possible.

    Args:
        path: of the cgroup, for messages;  write, now: as `apply` gets them.
    """

    def __init__(self, path: str, write: Write, now: Now) -> None:
        self._path, self._write, self._now = path, write, now
        self._made: list[_Change] = []
        self._refused: list[_Change] = []

    def make(self, change: _Change, *, optional: bool = False) -> bool:
        """Write one; report whether there was a file to write to.

        Args:
            optional: the file may be missing.
        """
        change.before = self._now(change.file)
        try:
            self._write(change.where, change.file, change.text)
        except KernelError as error:
            if error.errno == errno.ENOENT and optional:
                return False
            if error.errno != errno.EINVAL:
                raise self._explained(error, change) from None
            self._refused.append(change)
        else:
            self._made.append(change)
        return True

    def retry(self) -> None:
        """Write again what was refused before the rest was written."""
        for change in self._refused:
            try:
                self._write(change.where, change.file, change.text)
            except KernelError as error:
                raise self._explained(error, change) from None
            self._made.append(change)

    def take_back(self) -> None:
        """Restore the texts from before, the last change first.

        Files of several lines stay: they list devices, or show other words than they accept.
        """
        for change in reversed(self._made):
            if "\n" not in change.before:
                with suppress(Error):  # the caller raises the cause
                    self._write(change.where, change.file, change.before or "\n")

    def _explained(self, error: KernelError, change: _Change) -> Error:
        return refusals.of_limit(
            error, change.where, self._path, change.file, change.text, self._now
        )


def apply(
    resources: Resources,
    path: str,
    is_v2: Callable[[Limit], bool],
    write: Write,
    now: Now,
    agree: Callable[[], None] | None = None,
) -> None:
    """Write all limits that have a value, `unified` last; `devices` are not among them.

    Some limits bound others: memory ≤ memory and swap, burst ≤ quota, runtime ≤ period. The right
    order depends on their present values, so a refused write is tried again after the rest. If it
    is refused again, all writes are undone.

    Args:
        path: of the cgroup, for messages.
        is_v2: whether this host uses the v2 files of a row.
        write: (the limit's name in config.json, file, text) writes, or raises the kernel's error.
        now: reads a control file.
        agree: called when all are written; if it raises, they are undone.
    Raises:
        Unsupported: this kernel or version has no such limit.
        InvalidArgument: values that contradict each other, or that the kernel refuses.
        Conflict: more is in use.
    """
    changes = _Changes(path, write, now)
    try:
        for row, item in asked_for(_completed(resources)):
            where = Resources.json_path(row.field)
            files = row.v2 if is_v2(row) else row.v1
            if not files:
                _refuse_if_asked(row, item, resources, now)
            for file, convert in files:
                text = convert(item, resources, now)
                if text is None:
                    break
                optional = row.optional or file is not files[-1][0]
                if changes.make(_Change(where, _named(file, item), text), optional=optional):
                    break
        for file, text in (resources.unified or {}).items():
            # a control file takes one line in each write
            for line in text.rstrip("\n").split("\n"):
                changes.make(_Change(_unified(file), file, line))
        changes.retry()
        if agree is not None:
            agree()
    except Error:
        changes.take_back()
        raise


def _unified(file: str) -> str:
    """Return the name of an entry of `unified` in messages.

    Raises:
        InvalidArgument: it is not a control file's name.
    """
    where = f"linux.resources.unified.{file}"
    if "/" in file or not file.partition(".")[0] or not file.partition(".")[2]:
        raise InvalidArgument(f"{where}: expected a control file's name, like memory.high")
    return where


def check_use(resources: Resources, used: str) -> None:
    """Refuse a memory limit below the present use, if `checkBeforeUpdate` is set.

    Without it, v2 kills processes until the rest fits.

    Args:
        used: bytes, as in the control file; "" if there is none.
    Raises:
        Conflict: more is in use.
    """
    memory = resources.memory
    if not (memory and memory.check_before_update and used.isdecimal()):
        return
    for name, limit in (("limit", memory.limit), ("swap", memory.swap)):
        if 0 < (limit or 0) < int(used):
            raise Conflict(
                f"linux.resources.memory.{name}: {limit}: {used} bytes are in use: raise the "
                "limit, or leave checkBeforeUpdate out"
            )


def _refuse_if_asked(row: Limit, item: Any, resources: Resources, now: Now) -> None:
    """Refuse a limit that this version does not have, unless its value asks for nothing."""
    if any(convert(item, resources, now) is not None for _, convert in row.v1 or row.v2):
        version = "v2" if row.v1 else "v1"
        raise Unsupported(
            f"{Resources.json_path(row.field)}: cgroup {version} has no such limit: leave it out"
        )


def _named(file: str, item: Any) -> str:
    """Insert an item's page size into a file's name."""
    return file.format(page_size=_page_size(item.page_size)) if "{" in file else file


def _page_size(size: str) -> str:
    """Check a size of huge pages: it becomes part of a file's name."""
    if size[-2:] not in ("KB", "MB", "GB") or not size[:-2].isdecimal():
        raise InvalidArgument(
            f"linux.resources.hugepageLimits: page size {size!r}: expected one like 2MB or 1GB"
        )
    return size


def _completed(resources: Resources) -> Resources:
    """Lift the limit of memory and swap together with that of memory: a sum can't be below its
    part.
    """
    memory = resources.memory
    if memory and memory.limit == -1 and not memory.swap:
        return resources.replace(memory=memory.replace(swap=-1))
    return resources
