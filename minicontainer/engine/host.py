"""What this host offers to containers: the whole list.

What can be tried is tried (`host_probes.py`); what is read is here, and for rootless containers in
`host_rootless.py`. All of it works as any user, changes nothing, and leaves nothing behind.
"""

from __future__ import annotations

import os
from contextlib import suppress

from minicontainer.cgroups import hierarchies
from minicontainer.engine import bundles, host_probes, host_rootless
from minicontainer.engine.host_probes import Finding
from minicontainer.errors import Error, KernelError
from minicontainer.kernel import capabilities, files
from minicontainer.record import Record
from minicontainer.runtime.config.defaults import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.cgroups.hierarchies import Hierarchies

_OLDEST_KERNEL = (5, 12)  # mount_setattr(2)
# What setting a container up takes, beside the capabilities that it is given.
_NEEDED_CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", *CAPABILITIES)
_VERSIONS = {"v1": "version 1", "v2": "version 2", "hybrid": "hybrid: version 1, and 2 beside it"}


class Controller(Record):
    """A cgroup controller: one row of the table.

    Args:
        name: in cgroup v1.
        v2: its name in v2, or the version's own means in its place, if `built_in`.
        serves: what a user loses without it.
        needed: every container asks for it.
    """

    name: str
    v2: str
    built_in: bool = False
    serves: str
    needed: bool = False


CONTROLLERS = (
    Controller(name="memory", v2="memory", serves="--memory"),
    Controller(name="cpu", v2="cpu", serves="--cpus, --cpu-shares"),
    Controller(name="cpuset", v2="cpuset", serves="--cpuset-cpus"),
    Controller(name="pids", v2="pids", serves="--pids-limit"),
    Controller(name="blkio", v2="io", serves="limits of block devices"),
    Controller(
        name="devices", v2="by a BPF program", built_in=True,
        serves="the list of permitted devices", needed=True,
    ),
    Controller(name="hugetlb", v2="hugetlb", serves="limits of huge pages"),
    Controller(name="freezer", v2="cgroup.freeze", built_in=True, serves="pausing"),
)  # fmt: skip


def examine(data_root: str, rootfs: str, uid: int) -> list[Finding]:
    """Find out what this host offers.

    Args:
        data_root: where the engine keeps what it has.
        rootfs: the root filesystem that a container gets when none is named.
        uid: of the user whose rootless containers are asked about.
    """
    return [
        _kernel(),
        _privileges(),
        *_cgroups(),
        *host_probes.all_tried(data_root),
        _default_rootfs(data_root, rootfs),
        *host_rootless.examine(uid),
    ]


def _kernel() -> Finding:
    release = os.uname().release
    numbers = release.partition("-")[0].split(".")
    version = tuple(int(number) for number in numbers[:2] if number.isdecimal())
    wanted = ".".join(map(str, _OLDEST_KERNEL))
    return Finding(
        name="kernel",
        ok=version >= _OLDEST_KERNEL,
        found=f"{release}, {os.uname().machine} ({wanted} or later is needed)",
        fix="" if version >= _OLDEST_KERNEL else "upgrade the system: Debian 12 has 6.1",
    )


def _privileges() -> Finding:
    uid = os.geteuid()
    if uid != 0:
        user = host_rootless.user_name(uid)
        found = f"user {user} ({uid}): containers need root here"
        return Finding(name="privileges", ok=False, found=found, fix="run the command with sudo")
    held = capabilities.own_sets()["effective"]
    lacking = [name for name in capabilities.NAMES if not held & capabilities.mask_of((name,))]
    missed = [name for name in lacking if name in _NEEDED_CAPABILITIES]
    found = "root" if host_probes.is_hosts_root() else "root of a user namespace"
    if lacking:
        found += f", without {', '.join(missed or lacking)}"
    fix = host_probes.HOSTS_ROOT if missed else ""
    return Finding(name="privileges", ok=not missed, found=found, fix=fix)


def _cgroups() -> Iterator[Finding]:
    try:
        found = hierarchies.mounted()
    except Error as error:
        text, _, fix = str(error).rpartition(": ")
        yield Finding(name="cgroups", ok=False, found=text, fix=fix)
        return
    everything = [*found.v1, *([found.unified] if found.unified else [])]
    read_only = [
        each.mount_point
        for each in everything
        if os.statvfs(each.mount_point).f_flag & os.ST_RDONLY
    ]
    version = _VERSIONS[found.version]
    if read_only:
        version += f", mounted read-only: {', '.join(read_only)}"
    fix = "start the outer container with --privileged" if read_only else ""
    yield Finding(name="cgroups", ok=not read_only, found=version, fix=fix)
    for row in CONTROLLERS:
        yield find_controller(row, found)


def find_controller(row: Controller, found: Hierarchies) -> Finding:
    """Look for a controller in the hierarchies that are mounted."""
    name = f"cgroup {row.name if row.name == row.v2 or row.built_in else f'{row.name}/{row.v2}'}"
    where = _where(row, found)
    if where:
        return Finding(name=name, ok=True, needed=row.needed, found=where)
    reason, fix = _why_missing(row, found)
    lost = f"{reason}: without it no {row.serves}"
    return Finding(name=name, ok=False, needed=row.needed, found=lost, fix=fix)


def _where(row: Controller, found: Hierarchies) -> str:
    """Say where a controller is; "" if it is nowhere in sight."""
    for hierarchy in found.v1:
        if row.name in hierarchy.controllers:
            return f"version 1, {hierarchy.mount_point}"
    if found.unified and row.built_in and found.version == "v2":
        return f"version 2, {row.v2}"
    if found.unified and row.v2 in _controllers_of(found.unified.mount_point):
        return f"version 2, {found.unified.mount_point}"
    return ""


def _controllers_of(directory: str) -> list[str]:
    return files.read_file(f"{directory}/cgroup.controllers").split()


def _why_missing(row: Controller, found: Hierarchies) -> tuple[str, str]:
    """Tell a controller that is switched off from one that is not mounted, or not there at all."""
    known = {}
    with suppress(KernelError):  # a kernel without version 1 may have no such file
        for line in files.read_file("/proc/cgroups").splitlines()[1:]:
            name, hierarchy, _, enabled = line.split()
            known[name] = (hierarchy, enabled)
    if row.name not in known:
        return "this kernel has none", ""
    hierarchy, enabled = known[row.name]
    if enabled == "0":
        return "switched off at boot", f"boot with cgroup_enable={row.name}"
    if found.version != "v2" and hierarchy == "0":
        place = f"{hierarchies.USUAL_PLACE}/{row.name}"
        return "not mounted", f"mkdir {place}; mount -t cgroup -o {row.name} none {place}"
    if found.version == "v2" and hierarchy != "0":
        fix = "boot with systemd.unified_cgroup_hierarchy=1"
        return "in use by a version 1 hierarchy, mounted out of sight", fix
    return "not passed on to this place", "pass it on: cgroup.subtree_control of the groups above"


def _default_rootfs(data_root: str, rootfs: str) -> Finding:
    name = "default rootfs"
    if os.path.exists(data_root) and not os.access(data_root, os.X_OK):
        found = f"{data_root} is closed to this user"
        return Finding(name=name, ok=False, found=found, fix="run the command with sudo")
    try:
        place = bundles.find_rootfs(rootfs, data_root)
    except Error as error:
        found, _, fix = str(error).rpartition(": ")
        return Finding(name=name, ok=False, found=found, fix=fix)
    return Finding(name=name, ok=True, found=place)
