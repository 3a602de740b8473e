"""`linux` of config.json: namespaces, devices, and what else only Linux has.

See: runtime-spec config-linux.md.
"""

from __future__ import annotations

from minicontainer.cgroups.limits import Resources
from minicontainer.kernel.namespaces import IdMap
from minicontainer.kernel.seccomp import Seccomp
from minicontainer.record import NO_ENTRIES, Record


class NamespaceSpec(Record):
    """A namespace of the container: a new one, or the one at *path*."""

    type: str
    path: str | None = None


class Device(Record):
    """A device file in the container's /dev; the mode is the number that chmod(2) takes."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int = 0
    gid: int = 0


class TimeOffset(Record):
    """How far a clock of the time namespace is ahead of the host's."""

    secs: int = 0
    nanosecs: int = 0


class NetDevice(Record):
    """A network interface of the host that moves into the container's network namespace.

    Args:
        name: its name in the container; None to keep the host's.
    """

    name: str | None = None


class IntelRdt(Record, json={"clos_id": "closID"}):
    """Shares of a processor's cache and memory bandwidth, by the resctrl filesystem."""

    clos_id: str | None = None
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str | None = None
    mem_bw_schema: str | None = None
    enable_monitoring: bool = False


class MemoryPolicy(Record):
    """The memory nodes on which pages are allocated: set_mempolicy(2).

    Args:
        mode: MPOL_BIND and so on.
        nodes: a list such as 0-3,7.
        flags: MPOL_F_STATIC_NODES and so on.
    """

    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()


class Personality(Record):
    """Which kind of Linux the program sees: personality(2).

    Args:
        domain: LINUX or LINUX32.
        flags: none is defined by the specification.
    """

    domain: str = "LINUX"
    flags: tuple[str, ...] = ()


class Linux(Record):
    """The part of the specification that only Linux has."""

    namespaces: tuple[NamespaceSpec, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()
    time_offsets: dict[str, TimeOffset] = NO_ENTRIES
    devices: tuple[Device, ...] = ()
    cgroups_path: str | None = None
    resources: Resources = Resources()
    rootfs_propagation: str | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: Seccomp | None = None
    sysctl: dict[str, str] = NO_ENTRIES
    mount_label: str | None = None
    personality: Personality | None = None
    memory_policy: MemoryPolicy | None = None
    net_devices: dict[str, NetDevice] = NO_ENTRIES
    intel_rdt: IntelRdt | None = None
