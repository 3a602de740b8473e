"""Limits of a container: Docker's HostConfig as the runtime's resources.

See: `docker run` reference, "Runtime constraints on resources"; runtime-spec config-linux.md.
"""

from __future__ import annotations

import os
import stat

from minicontainer.cgroups.limits import (
    BlockIO,
    Cpu,
    DeviceRate,
    DeviceRule,
    DeviceWeight,
    Memory,
    Pids,
    Resources,
)
from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.config import HostConfig, ThrottleDevice

_PERIOD_US = 100_000  # the kernel's own default for CPU bandwidth
_LEAST_MEMORY = 6 << 20  # as Docker: below, a container does not start


def resources_for(host: HostConfig, rules: tuple[DeviceRule, ...]) -> Resources:
    """Turn the limits into the runtime's.

    Args:
        rules: which devices may be used.
    Raises:
        InvalidArgument: less memory than a container needs, more processors than there are.
    """
    everything = (DeviceRule(allow=True, access="rwm"),) if host.privileged else ()
    listed = tuple(_device_rule(text) for text in host.device_cgroup_rules)
    return Resources(
        memory=_memory(host),
        cpu=_cpu(host),
        pids=Pids(limit=host.pids_limit) if host.pids_limit > 0 else None,
        block_io=_block_io(host),
        devices=(*everything, *rules, *listed),
    )


def _memory(host: HostConfig) -> Memory | None:
    memory, both, reserved = host.memory, host.memory_swap, host.memory_reservation
    if both > 0 and not memory:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if memory and memory < _LEAST_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if 0 < both < memory:
        raise InvalidArgument(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if reserved and reserved < _LEAST_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory and reserved > memory:
        raise InvalidArgument(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    swappiness = host.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgument(
            f"Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )
    # As Docker: as much swap as memory, unless told; a host without swap may not count it at all.
    swap = both or (2 * memory if memory and _has_swap() else None)
    found = Memory(
        limit=memory or None,
        swap=swap if memory else None,
        reservation=reserved or None,
        kernel_tcp=host.kernel_memory_tcp or None,
        swappiness=None if swappiness == -1 else swappiness,
        disable_oom_killer=host.oom_kill_disable or None,
    )
    return None if found == Memory() else found


def _has_swap() -> bool:
    with open("/proc/swaps", encoding="utf-8") as file:
        return len(file.readlines()) > 1


def _cpu(host: HostConfig) -> Cpu | None:
    there = os.cpu_count() or 1
    if host.nano_cpus and (host.cpu_quota or host.cpu_period):
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus and not 10**7 <= host.nano_cpus <= there * 10**9:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        )
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than "
                              "1s (i.e. 1000000)")  # fmt: skip
    if 0 < host.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.cpu_shares < 0:
        raise InvalidArgument(
            f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer"
        )
    if host.cpu_shares and not 2 <= host.cpu_shares <= 262_144:
        raise InvalidArgument(f"invalid CPU shares {host.cpu_shares}: use 2 to 262144")
    _check_list(host.cpuset_cpus, "cpus", "CPUs", "cpu")
    _check_list(host.cpuset_mems, "mems", "memory nodes", "node")
    quota = host.nano_cpus * _PERIOD_US // 10**9 if host.nano_cpus else host.cpu_quota
    period = _PERIOD_US if host.nano_cpus else host.cpu_period
    found = Cpu(
        shares=host.cpu_shares or None,
        quota=quota or None,
        period=period or None,
        realtime_period=host.cpu_realtime_period or None,
        realtime_runtime=host.cpu_realtime_runtime or None,
        cpus=host.cpuset_cpus or None,
        mems=host.cpuset_mems or None,
    )
    return None if found == Cpu() else found


def _check_list(text: str, field: str, what: str, device: str) -> None:
    """Check a list of processors or memory nodes, such as 0-2,7, by what the host has.

    What a group above may use is for the kernel to say.
    """
    if not text:
        return
    try:
        wanted = _numbers(text)
    except ValueError:
        raise InvalidArgument(
            f"Invalid value {text} for cpuset {field}: invalid format: {text}"
        ) from None
    try:
        online = files.read_file(f"/sys/devices/system/{device}/online").strip()
    except KernelError:  # a kernel without memory nodes
        return
    if not wanted <= _numbers(online):
        raise InvalidArgument(
            f"Requested {what} are not available - requested {text}, available: {online}"
        )


def _numbers(text: str) -> set[int]:
    """Read a list as cpuset(7) describes it: ranges and single numbers."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return found


def _block_io(host: HostConfig) -> BlockIO | None:
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    weights = tuple(
        DeviceWeight(major=major, minor=minor, weight=asked.weight)
        for asked in host.blkio_weight_device
        for major, minor in [_block_device(asked.path)]
    )
    found = BlockIO(
        weight=host.blkio_weight or None,
        weight_device=weights,
        throttle_read_bps_device=_rates(host.blkio_device_read_bps),
        throttle_write_bps_device=_rates(host.blkio_device_write_bps),
        throttle_read_iops_device=_rates(host.blkio_device_read_iops),
        throttle_write_iops_device=_rates(host.blkio_device_write_iops),
    )
    return None if found == BlockIO() else found


def _rates(asked: tuple[ThrottleDevice, ...]) -> tuple[DeviceRate, ...]:
    return tuple(
        DeviceRate(major=major, minor=minor, rate=one.rate)
        for one in asked
        for major, minor in [_block_device(one.path)]
    )


def _block_device(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidArgument(f"device {path}: {error.strerror}") from None
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidArgument(f"{path} is not a block device")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


def _device_rule(text: str) -> DeviceRule:
    """Read one `--device-cgroup-rule`: `c 1:3 rwm`, `b *:* r`."""
    words = text.split()
    numbers = words[1].split(":") if len(words) == 3 else []
    good = (
        len(numbers) == 2
        and words[0] in ("a", "b", "c")
        and all(number == "*" or number.isdecimal() for number in numbers)
        and not set(words[2]) - set("rwm")
    )
    if not good:
        raise InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    major, minor = (None if number == "*" else int(number) for number in numbers)
    return DeviceRule(allow=True, type=words[0], major=major, minor=minor, access=words[2])
