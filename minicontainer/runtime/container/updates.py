"""Change the limits of a container that exists.

Options, or JSON, name some limits; the others stay. The container's directory keeps all limits that
are set now: those of the configuration, with every change since. They are needed because some
limits depend on others: config.json counts memory and swap together, and v2 counts swap alone.

See: runc-update(8); runtime-spec config-linux.md "Control groups".
"""

from __future__ import annotations

import os

from minicontainer import jsontext, steps
from minicontainer.cgroups.limits import Cpu, Memory, Pids, Resources
from minicontainer.errors import Conflict, InvalidArgument, Unsupported
from minicontainer.quantities import natural_number, size_or_unlimited, whole_number
from minicontainer.record import Record
from minicontainer.runtime.container import operations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.runtime.container.state import Store

_FILE = "resources.json"

# runc's options: the limit that each one sets, and how its value is read.
OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    "memory": ("memory.limit", size_or_unlimited),
    "memory-reservation": ("memory.reservation", size_or_unlimited),
    "memory-swap": ("memory.swap", size_or_unlimited),
    "cpu-share": ("cpu.shares", natural_number),
    "cpu-period": ("cpu.period", natural_number),
    "cpu-quota": ("cpu.quota", whole_number),
    "cpu-burst": ("cpu.burst", natural_number),
    "cpu-idle": ("cpu.idle", whole_number),
    "cpu-rt-period": ("cpu.realtime_period", natural_number),
    "cpu-rt-runtime": ("cpu.realtime_runtime", whole_number),
    "cpuset-cpus": ("cpu.cpus", str),
    "cpuset-mems": ("cpu.mems", str),
    "pids-limit": ("pids.limit", whole_number),
    "blkio-weight": ("block_io.weight", natural_number),
}
# Part of `memory` by now; and the shares of caches and of memory bandwidth.
IGNORED = ("kernel-memory", "kernel-memory-tcp")
_RDT = ("l3-cache-schema", "mem-bw-schema")

# Fields in which 0 is a value; in all others it stands for a missing field, as for runc.
_ZERO_COUNTS = {Memory: ("swappiness",), Cpu: ("burst", "idle"), Pids: ("limit",)}


def from_options(given: Mapping[str, str]) -> Resources:
    """Read the limits that options name.

    Args:
        given: values by the option's long name; other options may be among them.
    Raises:
        InvalidArgument: a value makes no sense.
        Unsupported: an option for cache or bandwidth allocation.
    """
    for option in _RDT:
        if given.get(option):
            raise Unsupported(f"--{option}: allocation of caches and bandwidth is not supported")
    parts: dict[str, dict[str, object]] = {}
    for option, (field, read) in OPTIONS.items():
        if text := given.get(option):
            part, _, name = field.partition(".")
            try:
                parts.setdefault(part, {})[name] = read(text)
            except InvalidArgument as error:
                raise InvalidArgument(f"--{option}: {error}") from None
    return Resources.of_parts(parts)


def from_json(text: str) -> Resources:
    """Read the limits from JSON, in the form of `linux.resources`.

    The list of devices is ignored, as by runc: other programs may have added to it meanwhile.

    Raises:
        InvalidArgument: it is not JSON, or a value has the wrong type.
    """
    try:
        document = jsontext.parse(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"--resources: not JSON: {error}") from None
    return Resources.from_json(document, "linux.resources").replace(devices=())


def update(name: str, store: Store, change: Resources) -> Resources:
    """Change the limits of a container, and store the limits that are then set.

    Args:
        change: the limits to change.
    Returns:
        All limits, with the change.
    Raises:
        NotFound: there is no such container.
        Conflict: it does not run, or uses more than a limit.
        InvalidArgument, Unsupported: the kernel refuses a value, or has no such limit. The limits
            written before are then restored, where that is possible.
    """
    with store.operating(name):
        state = operations.load(store, name)
        now = operations.status(state, store)
        if now in ("stopped", "creating"):
            raise Conflict(f"container not running: {name} is {now}")
        config = store.load_config(name)
        present = _kept(name, store) or config.linux.resources.as_of(config.oci_version)
        change = change.as_of(config.oci_version)
        change = completed(change, merged(present, change))
        steps.take(change_limits, operations.cgroup_of(state), change)
        wanted = merged(present, change)
        store.write(name, _FILE, jsontext.dump(wanted.to_json()) + "\n")
        return wanted


def change_limits(cgroup: Cgroup, change: Resources) -> None:
    """Write the new limits to the control files of the container's cgroup.

    The processes notice nothing: the kernel holds them to the new limits from then on. It refuses a
    memory limit below what they use, if it can't reclaim enough.
    """
    cgroup.limit(change)


def _kept(name: str, store: Store) -> Resources | None:
    """Read what the last update stored; return None before the first one."""
    path = os.path.join(store.directory(name), _FILE)
    try:
        with open(path, encoding="utf-8") as file:
            return Resources.from_json(jsontext.parse(file.read()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, InvalidArgument) as error:
        raise Conflict(f"container {name}: {path} can't be read: {error}") from None


def merged(present: Resources, change: Resources) -> Resources:
    """Return *limits* with a change: lists are merged by device, size or name, other values
    replaced.
    """
    result: Resources = _over(present, change)
    return result


def _over(old: Any, new: Any) -> Any:
    if new is None or old is None:
        return old if new is None else new
    if isinstance(new, Record):
        return old.replace(**{
            field: _over(getattr(old, field), getattr(new, field))
            for field in new.fields()
            if getattr(new, field) not in (0, "") or field in _ZERO_COUNTS.get(type(new), ())
        })  # fmt: skip
    if isinstance(new, dict):
        return {**old, **{key: _over(old.get(key), value) for key, value in new.items()}}
    if isinstance(new, tuple):
        return tuple({_identity(item): item for item in (*old, *new)}.values())
    return new


def _identity(item: Any) -> object:
    """Return what a list's item is about: a device, a page size, an interface."""
    if hasattr(item, "major"):
        return (getattr(item, "type", ""), item.major, item.minor)
    return getattr(item, "page_size", None) or item.name


def completed(change: Resources, wanted: Resources) -> Resources:
    """Add what follows from a change: with memory's limit, that of memory and swap.

    On v1 the sum stays when its part changes. On v2 it must be written again, as swap alone. And
    when a group is no longer idle, the kernel gives it the default shares, not those that it had.

    Args:
        wanted: all limits, with the change.
    """
    if change.cpu and change.cpu.idle == 0 and wanted.cpu:
        change = change.replace(cpu=change.cpu.replace(shares=wanted.cpu.shares))
    memory = change.memory
    if memory is None or wanted.memory is None:
        return change
    if memory.limit and not memory.swap and wanted.memory.swap:
        memory = memory.replace(swap=-1 if memory.limit == -1 else wanted.memory.swap)
    check = wanted.memory.check_before_update
    return change.replace(memory=memory.replace(check_before_update=check))
