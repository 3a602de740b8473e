"""Limits as properties of a systemd unit, as far as systemd has them.

systemd writes them into the control files itself, and again at every `systemctl daemon-reload`,
where it removes limits that it does not know. So it gets all that it has properties for, although
less precisely than the files are written afterwards.

See: systemd.resource-control(5); org.freedesktop.systemd1(5), "Properties".
"""

from __future__ import annotations

from minicontainer.cgroups import conversions
from minicontainer.cgroups.device_filter import Rules, for_v1
from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from minicontainer.cgroups.limits import Cpu, DeviceRule, Resources

    Property = tuple[str, tuple[str, Any]]  # name; D-Bus type and value
    Now = Callable[[str], str]

INFINITY = 2**64 - 1
_DEFAULT_PERIOD_US = 100_000
_WHOLE_PERCENT_US = 10_000  # of a second: systemd stores quotas as percent


def number(name: str, value: int) -> Property:
    """Make a property that is a number; a negative one means no limit."""
    return name, ("t", INFINITY if value < 0 else value)


def properties(resources: Resources, version: str, now: Now) -> list[Property]:
    """Return the properties for these limits.

    Args:
        version: of cgroups: v1, hybrid or v2.
        now: reads a control file of the group.
    Raises:
        InvalidArgument: values that contradict each other.
    """
    found = _for_v2(resources, now) if version == "v2" else _for_v1(resources)
    listed = [*found]
    if resources.cpu:
        listed += _quota(resources.cpu, version, now)
    if resources.pids and resources.pids.limit is not None:
        tasks = resources.pids.limit
        listed.append(number("TasksMax", tasks if tasks < 0 else max(tasks, 1)))
    if resources.unified:
        listed += _unified(resources.unified)
    return listed


def _for_v2(resources: Resources, now: Now) -> Iterator[Property]:
    cpu, block_io = resources.cpu, resources.block_io
    yield from _memory(resources, now)
    if cpu:
        weight = conversions.weight_of_shares(cpu.shares or 0)
        if cpu.idle == 1:
            yield number("CPUWeight", 0)  # means cpu.idle to systemd, since 252
        elif weight:
            yield number("CPUWeight", int(weight))
        elif cpu.idle == 0:
            yield number("CPUWeight", -1)  # the default, which the kernel too sets after idle
        for name, text in (("AllowedCPUs", cpu.cpus), ("AllowedMemoryNodes", cpu.mems)):
            if text:
                yield name, ("ay", bits(text))
    if block_io and (io_weight := conversions.bfq_to_io_weight(block_io.weight or 0)):
        yield number("IOWeight", int(io_weight))


def _memory(resources: Resources, now: Now) -> Iterator[Property]:
    memory = resources.memory
    if memory is None:
        return
    if memory.limit:
        yield number("MemoryMax", memory.limit)
    if memory.reservation:
        yield number("MemoryLow", memory.reservation)
    swap = -1 if memory.limit == -1 and not memory.swap else memory.swap
    # without reading the file, which does not exist before systemd has made the group
    if swap and (alone := conversions.swap_without_memory(swap, resources, now)):
        yield number("MemorySwapMax", -1 if alone == "max" else int(alone))


def _for_v1(resources: Resources) -> Iterator[Property]:
    memory, cpu, block_io = resources.memory, resources.cpu, resources.block_io
    if memory and memory.limit:
        yield number("MemoryLimit", memory.limit)
    if cpu and cpu.shares:
        yield number("CPUShares", cpu.shares)
    if block_io and block_io.weight:
        yield number("BlockIOWeight", block_io.weight)


def _quota(cpu: Cpu, version: str, now: Now) -> Iterator[Property]:
    """Return quota and period; systemd wants the quota for a whole second, in whole percents."""
    if not cpu.quota and not cpu.period:
        return
    quota, period = _present_quota(version, now)
    quota, period = cpu.quota or quota, cpu.period or period
    if cpu.period:
        yield number("CPUQuotaPeriodUSec", period)
    per_second = -1
    if quota > 0:
        # rounded up, or systemd would hold the group below what its file allows
        percents = -(-quota * 1_000_000 // (period * _WHOLE_PERCENT_US))
        per_second = percents * _WHOLE_PERCENT_US
    yield number("CPUQuotaPerSecUSec", per_second)


def _present_quota(version: str, now: Now) -> tuple[int, int]:
    """Read the present quota and period: -1 for no quota."""
    if version == "v2":
        quota, _, period = now("cpu.max").partition(" ")
    else:
        quota, period = now("cpu.cfs_quota_us"), now("cpu.cfs_period_us")
    return (int(quota) if quota.isdecimal() else -1), int(period or _DEFAULT_PERIOD_US)


# Files in `unified` that systemd has a property for.
_UNIFIED = {
    "cpu.weight": "CPUWeight",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.max": "MemoryMax",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
}
_UNIFIED_LISTS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def _unified(unified: dict[str, str]) -> Iterator[Property]:
    """Return properties for those of cgroup v2's own files that have one; the others are only
    written.
    """
    for file, value in unified.items():
        text = value.strip()
        if file in _UNIFIED:
            if text != "max" and not text.isdecimal():
                raise InvalidArgument(
                    f"linux.resources.unified.{file}: expected a number or max, got {value!r}"
                )
            yield number(_UNIFIED[file], -1 if text == "max" else int(text))
        elif file in _UNIFIED_LISTS and text:
            yield _UNIFIED_LISTS[file], ("ay", bits(text))


def bits(text: str) -> bytes:
    """Turn a list such as 0-2,7 into a mask: the lowest bit of the first byte is 0.

    Raises:
        InvalidArgument: it is not such a list.
    """
    mask = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 1 << 16):
            raise InvalidArgument(f"not a list like 0-2,7: {text!r}")
        mask |= (1 << int(last) + 1) - (1 << int(first))
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


# ---- properties by name -----------------------------------------------------------------------

ANNOTATION = "org.systemd.property."  # the name of one of the unit's properties follows
_INTEGERS = {
    "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x",
    "uint64": "t",
}  # fmt: skip


def annotated(annotations: Mapping[str, str]) -> list[Property]:
    """Return the properties that annotations name: org.systemd.property.TimeoutStopUSec.

    Their values are GVariant texts, of which these are understood: 'text', true, false, numbers,
    with a type before them (uint64 5) or as int32, and lists of texts.

    Raises:
        InvalidArgument: a value is none of these.
    """
    found = []
    for key, text in annotations.items():
        name = key.removeprefix(ANNOTATION)
        if name != key:
            if len(name) < 3 or not (name.isascii() and name.isalpha()):
                raise InvalidArgument(f"annotations.{key}: not a property's name")
            found.append((name, _variant(text.strip(), f"annotations.{key}")))
    return found


def _variant(text: str, where: str) -> tuple[str, Any]:
    """Return a value with its D-Bus type."""
    if text in ("true", "false"):
        return "b", text == "true"
    if text[:1] == "[" and text[-1:] == "]":
        inner = text[1:-1].strip()
        items = [_variant(item.strip(), where) for item in inner.split(",")] if inner else []
        if all(kind == "s" for kind, _ in items):
            return "as", [item for _, item in items]
    elif len(text) > 1 and text[0] in "'\"" and text[-1] == text[0] and text[0] not in text[1:-1]:
        return "s", text[1:-1]
    else:
        word, _, digits = text.rpartition(" ")
        kind = _INTEGERS.get(word.strip() or "int32")
        if kind and digits.removeprefix("-").isdecimal():
            return kind, int(digits)
    raise InvalidArgument(
        f"{where}: expected true, false, a number such as uint64 5, 'text' or ['text', …], "
        f"got {text!r}"
    )


# ---- devices ----------------------------------------------------------------------------------


def device_properties(rules: Iterable[DeviceRule]) -> list[Property]:
    """Return the list of devices as systemd writes it.

    A list that allows all but a few has no such form; systemd then allows all, and the file is
    stricter.
    """
    wanted = Rules(rules)
    if wanted.default:
        return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    names = _driver_names()
    allowed = [
        (specifier, access)
        for device, access in for_v1(wanted)
        for specifier in _specifiers(device, names)
    ]
    return [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", allowed))]


def _specifiers(device: str, names: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    """Name a device as systemd does: all of a kind, a driver's, or one."""
    kind, _, numbers = device.partition(" ")
    major, _, minor = numbers.partition(":")
    word = "char" if kind == "c" else "block"
    if major == "*":
        if minor == "*":  # one minor of every driver has no name
            yield f"{word}-*"
    elif minor == "*":
        yield from (f"{word}-{name}" for name in names.get((kind, major), ()))
    else:
        yield f"/dev/{word}/{major}:{minor}"


def _driver_names() -> dict[tuple[str, str], list[str]]:
    """Read the drivers' major numbers: the driver by kind (c, b) and number."""
    try:
        text = files.read_file("/proc/devices")
    except KernelError:
        return {}
    found: dict[tuple[str, str], list[str]] = {}
    kind = "c"
    for line in text.splitlines():
        if line.startswith("Block"):
            kind = "b"
        major, _, name = line.strip().partition(" ")
        if major.isdecimal():
            found.setdefault((kind, major), []).append(name)
    return found
