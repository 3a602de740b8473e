"""Facts about the host, as `docker info` shows them.

See: uname(2); os-release(5); proc_meminfo(5).
"""

from __future__ import annotations

import os

from minicontainer.cgroups import hierarchies
from minicontainer.engine.host import CONTROLLERS, find_controller
from minicontainer.errors import Error
from minicontainer.kernel import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Docker's name of a limit, and the row of the table of controllers that it needs.
_LIMITS = (
    ("MemoryLimit", "memory"),
    ("SwapLimit", "memory"),
    ("CpuCfsPeriod", "cpu"),
    ("CpuCfsQuota", "cpu"),
    ("CPUShares", "cpu"),
    ("CPUSet", "cpuset"),
    ("PidsLimit", "pids"),
)
_WARNINGS = {
    "memory": "WARNING: No memory limit support",
    "cpu": "WARNING: No cpu cfs quota support",
    "cpuset": "WARNING: No cpuset support",
    "pids": "WARNING: No pids limit support",
}
# Go's names of architectures, which images and Docker's clients use.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def read_or(path: str, otherwise: str) -> str:
    """Read a small file; give *otherwise* where there is none."""
    try:
        return files.read_file(path).strip()
    except (Error, OSError):
        return otherwise


def operating_system() -> tuple[str, str]:
    """Give the distribution's name, and its version."""
    fields = {}
    for line in read_or("/etc/os-release", "").splitlines():
        name, _, value = line.partition("=")
        fields[name] = value.strip("\"'")
    return fields.get("PRETTY_NAME") or "Linux", fields.get("VERSION_ID", "")


def memory() -> int:
    """Give the host's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def architecture() -> str:
    """Name the processor as images do: amd64."""
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, machine)


def limits() -> tuple[dict[str, bool], list[str]]:
    """Say which limits the mounted cgroups have; and a warning for each that is missing."""
    found = hierarchies.mounted()
    there = {row.name: find_controller(row, found).ok for row in CONTROLLERS}
    # A version 1 kernel may count no swap: then the file is missing.
    swap = found.version == "v2" or os.path.exists(
        _memory_file(found, "memory.memsw.usage_in_bytes")
    )
    offered = {name: there[controller] for name, controller in _LIMITS}
    offered["SwapLimit"] = offered["SwapLimit"] and swap
    oom_control = _memory_file(found, "memory.oom_control")
    offered["OomKillDisable"] = found.version != "v2" and os.path.exists(oom_control)
    warnings = [text for controller, text in _WARNINGS.items() if not there[controller]]
    return offered, warnings


def _memory_file(found: hierarchies.Hierarchies, name: str) -> str:
    for hierarchy in found.v1:
        if "memory" in hierarchy.controllers:
            return os.path.join(hierarchy.mount_point, name)
    return ""


def cgroup_version() -> str:
    """Give the version that has the controllers: 1, also on a hybrid host, or 2."""
    return "2" if hierarchies.mounted().version == "v2" else "1"


def security_options() -> list[str]:
    """List what protects containers here, as Docker writes it."""
    found = ["name=seccomp,profile=builtin"]
    if read_or("/sys/module/apparmor/parameters/enabled", "N") == "Y":
        found.insert(0, "name=apparmor")
    if cgroup_version() == "2":
        found.append("name=cgroupns")
    if os.geteuid() != 0:
        found.append("name=rootless")
    return found


def is_forwarding() -> bool:
    """Say whether the host passes IPv4 packets on."""
    return read_or("/proc/sys/net/ipv4/ip_forward", "0") == "1"


def storage(data_root: str) -> list[list[str]]:
    """Give what is told of the overlay driver: pairs of name and value."""
    return [
        ["Backing Filesystem", _file_system(data_root)],
        ["Supports d_type", "true"],
        ["Using metacopy", "false"],
        ["Native Overlay Diff", "true"],
        ["userxattr", "true" if os.geteuid() else "false"],
    ]


def _file_system(directory: str) -> str:
    """Name the file system that a directory is on."""
    best, kind = "", "unknown"
    place = os.path.realpath(directory)
    for line in read_or("/proc/self/mountinfo", "").splitlines():
        fields = line.split()
        where = hierarchies.unescaped(fields[4])
        inside = place == where or place.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, kind = where, fields[fields.index("-") + 1]
    return "extfs" if kind in ("ext2", "ext3", "ext4") else kind


def versions() -> dict[str, Any]:
    """Give the fields about the host in `docker version`."""
    name = os.uname()
    return {"Os": "linux", "Arch": architecture(), "KernelVersion": name.release}
