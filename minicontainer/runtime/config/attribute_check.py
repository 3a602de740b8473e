"""Check the attributes in config.json that few containers have, before anything is done.

This module is loaded only for a specification that has one of them. It imports the modules that
their steps (`attributes`) need too.

See: runtime-spec config.md "Linux Process", config-linux.md; sched(7), set_mempolicy(2).
"""

from __future__ import annotations

import os

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.kernel import memory_policy, scheduling, security, sysctls
from minicontainer.kernel.namespaces import BY_TYPE
from minicontainer.kernel.process import PERSONALITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.runtime.config.spec import Spec
    from minicontainer.runtime.config.spec_linux import MemoryPolicy, NetDevice
    from minicontainer.runtime.config.spec_process import ExecCpuAffinity, IoPriority, Scheduler

_HIGHEST_CPU = 8191  # the highest that a kernel can be built for
_PRIORITIES = {"SCHED_FIFO": (1, 99), "SCHED_RR": (1, 99)}
_DEADLINE_FIELDS = ("runtime", "deadline", "period")
_LONGEST_TIME = 2**63 - 1  # nanoseconds: the kernel reserves the highest bit
_LONGEST_INTERFACE = 15  # bytes


def check(spec: Spec) -> None:
    """Find values that are well-formed but make no sense.

    Raises:
        InvalidArgument: it names the JSON path and what was expected.
        Unsupported: this host, or this program, has no such feature.
    """
    process, linux = spec.process, spec.linux
    if process.scheduler:
        _check_scheduler(process.scheduler)
    if process.io_priority:
        _check_io_priority(process.io_priority)
    if process.exec_cpu_affinity:
        _check_affinity(process.exec_cpu_affinity)
    if linux.memory_policy:
        _check_memory_policy(linux.memory_policy)
    if linux.personality:
        _one_of("linux.personality.domain", linux.personality.domain, PERSONALITIES)
        if linux.personality.flags:
            raise InvalidArgument("linux.personality.flags: expected none: none is defined")
    for name in linux.sysctl:
        _check_sysctl(name, spec)
    if linux.net_devices:
        _check_net_devices(linux.net_devices, spec)
    if linux.intel_rdt:
        raise Unsupported("linux.intelRdt: not supported: leave it out")
    _check_labels(spec)


def _one_of(where: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise InvalidArgument(f"{where}: expected one of {', '.join(known)}, got {value!r}")


def _in_range(where: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidArgument(f"{where}: expected {low} to {high}, got {value}")


def _check_scheduler(asked: Scheduler) -> None:
    where = "process.scheduler"
    _one_of(f"{where}.policy", asked.policy, scheduling.POLICIES)
    _in_range(f"{where}.nice", asked.nice, -20, 19)  # the other policies ignore the value
    _in_range(f"{where}.priority", asked.priority, *_PRIORITIES.get(asked.policy, (0, 0)))
    for i, flag in enumerate(asked.flags):
        _one_of(f"{where}.flags[{i}]", flag, scheduling.FLAGS)
    for field in _DEADLINE_FIELDS:
        value: int = getattr(asked, field)
        _in_range(f"{where}.{field}", value, 0, _LONGEST_TIME)
        if value and asked.policy != "SCHED_DEADLINE":
            raise InvalidArgument(f"{where}.{field}: only for the policy SCHED_DEADLINE")
    if asked.policy == "SCHED_DEADLINE" and not (
        0 < asked.runtime <= asked.deadline <= (asked.period or asked.deadline)
    ):
        raise InvalidArgument(f"{where}: SCHED_DEADLINE needs 0 < runtime <= deadline <= period")


def _check_io_priority(asked: IoPriority) -> None:
    _one_of("process.ioPriority.class", asked.io_class, scheduling.IO_CLASSES)
    _in_range("process.ioPriority.priority", asked.priority, 0, 7)


def _check_affinity(asked: ExecCpuAffinity) -> None:
    for field in asked.fields():
        cpus_of(asked, field)


def cpus_of(asked: ExecCpuAffinity, field: str) -> frozenset[int]:
    """Return the processors of a field of execCPUAffinity; an empty set changes nothing.

    Raises:
        InvalidArgument: it is not a list of processors.
    """
    return _numbers(f"process.execCPUAffinity.{field}", getattr(asked, field) or "", _HIGHEST_CPU)


def _numbers(where: str, text: str, highest: int) -> frozenset[int]:
    try:
        return scheduling.parse_list(text, highest)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error}") from None


def _check_memory_policy(asked: MemoryPolicy) -> None:
    where = "linux.memoryPolicy"
    _one_of(f"{where}.mode", asked.mode, memory_policy.MODES)
    for i, flag in enumerate(asked.flags):
        _one_of(f"{where}.flags[{i}]", flag, memory_policy.FLAGS)
    nodes = _numbers(f"{where}.nodes", asked.nodes, memory_policy.HIGHEST_NODE)
    if asked.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if nodes or asked.flags:
            raise InvalidArgument(f"{where}: {asked.mode} takes neither nodes nor flags")
    elif not nodes and (asked.mode != "MPOL_PREFERRED" or asked.flags):
        raise InvalidArgument(f"{where}.nodes: expected a list like 0-3,7 for {asked.mode}")
    if {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"} <= set(asked.flags):
        raise InvalidArgument(f"{where}.flags: nodes can't be both static and relative")


def _check_sysctl(name: str, spec: Spec) -> None:
    where = f"linux.sysctl.{name}"
    path = sysctls.path_of(name)
    kind = sysctls.namespace_of(path)
    if not path:
        raise InvalidArgument(f"{where}: expected a name like net.ipv4.ip_forward")
    if not kind:
        raise InvalidArgument(f"{where}: belongs to the whole host, and not to a namespace")
    if path == "kernel/hostname":
        raise InvalidArgument(f"{where}: set `hostname` instead")
    if not _is_own(spec, kind):
        raise InvalidArgument(f"{where}: needs the container's own {kind} namespace")


def _is_own(spec: Spec, kind: str) -> bool:
    """Report whether a namespace is not the host's: a new one, or a joined one that differs."""
    for asked in spec.linux.namespaces:
        if asked.type == kind:
            try:
                return not asked.path or not os.path.samefile(
                    asked.path, f"/proc/self/ns/{BY_TYPE[kind].link}"
                )
            except OSError:
                return True  # it does not exist: joining it will fail
    return False


def _check_net_devices(devices: dict[str, NetDevice], spec: Spec) -> None:
    if not _is_own(spec, "network"):
        raise InvalidArgument("linux.netDevices: needs the container's own network namespace")
    named: dict[str, str] = {}
    for name, device in devices.items():
        where = f"linux.netDevices.{name}"
        new_name = device.name or name
        for path, word in ((where, name), (f"{where}.name", new_name)):
            if not _is_interface_name(word):
                raise InvalidArgument(f"{path}: {word!r} is not a name for a network interface")
        if new_name in named and "%d" not in new_name:
            raise InvalidArgument(f"{where}.name: {new_name} is {named[new_name]}'s as well")
        named[new_name] = name


def _is_interface_name(name: str) -> bool:
    """Check a name as the kernel does: dev_valid_name() of net/core/dev.c."""
    return (
        0 < len(os.fsencode(name)) <= _LONGEST_INTERFACE
        and name not in (".", "..")
        and not any(char in "/:" or char.isspace() for char in name)
    )


def _check_labels(spec: Spec) -> None:
    if spec.process.apparmor_profile and not security.has_apparmor():
        raise Unsupported(
            f"process.apparmorProfile: can't apply {spec.process.apparmor_profile!r}: "
            "AppArmor is not supported or not enabled on this host"
        )
    for where, label in (
        ("process.selinuxLabel", spec.process.selinux_label),
        ("linux.mountLabel", spec.linux.mount_label),
    ):
        if label and not security.has_selinux():
            raise Unsupported(
                f"{where}: can't apply {label!r}: SELinux is not supported or not enabled on "
                "this host"
            )
