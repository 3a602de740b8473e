"""Leave a part of the isolation out (`--without`), and measure what the container gets by that.

`PARTS` says which fields of the create request leave a part out: they are fields of Docker's, so
that `inspect` shows what was done. `PROBES` measures, once the container is set up and before its
program runs: each probe looks at one thing, through the files of /proc of the container's first
process, and says what is open to it; "" where it is contained.

See: namespaces(7), capabilities(7), proc(5).
"""

from __future__ import annotations

import difflib
import os

from minicontainer import steps
from minicontainer.cgroups import hierarchies
from minicontainer.errors import InvalidArgument
from minicontainer.kernel import capabilities, namespaces
from minicontainer.record import Record
from minicontainer.runtime.config import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Json = dict[str, Any]


class Part(Record):
    """A part of the isolation.

    Args:
        name: as `--without` takes it.
        changes: what leaves it out: fields of HostConfig.
        help: what it is for.
    """

    name: str
    changes: dict[str, object]
    help: str


PARTS = (
    Part(name="pid", changes={"PidMode": "host"}, help="the PID namespace"),
    Part(name="network", changes={"NetworkMode": "host"}, help="the network namespace"),
    Part(name="ipc", changes={"IpcMode": "host"}, help="the IPC namespace, and its /dev/shm"),
    Part(name="uts", changes={"UTSMode": "host"}, help="the namespace of the host name"),
    Part(name="cgroup", changes={"CgroupnsMode": "host"}, help="the cgroup namespace"),
    Part(name="user", changes={"UsernsMode": "host"}, help="the user namespace"),
    Part(
        name="memory",
        changes={"Memory": 0, "MemorySwap": 0, "MemoryReservation": 0},
        help="the limit of memory",
    ),
    Part(
        name="cpus",
        changes={"NanoCpus": 0, "CpuQuota": 0, "CpuPeriod": 0},
        help="the limit of processor time",
    ),
    Part(name="pids-limit", changes={"PidsLimit": 0}, help="the limit of processes"),
    Part(
        name="capabilities",
        changes={"CapAdd": ["ALL"], "CapDrop": []},
        help="the choice of capabilities",
    ),
    Part(
        name="seccomp",
        changes={"SecurityOpt": ["seccomp=unconfined"]},
        help="the system call filter",
    ),
    Part(
        name="masks",
        changes={"MaskedPaths": [], "ReadonlyPaths": []},
        help="the hidden paths of /proc and /sys",
    ),
)
_BY_NAME = {part.name: part for part in PARTS}
# Without these, the start itself would change the host.
_NEEDED = {
    "mount": "every mount of the container would be made on the host",
    "isolate-mounts": "every mount of the container would be made on the host",
    "mount-rootfs": "the container would write to the image",
    "enter-rootfs": "the container's root would be the host's",
}


def left_out(asked: Json) -> Json:
    """Change a create request so that the parts which its `Without` names are left out.

    Raises:
        InvalidArgument: a name is unknown, or the host needs that part.
    """
    host = asked.get("HostConfig") or {}
    names = host.get("Without") if isinstance(host, dict) else None
    if not names:
        return asked
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidArgument("HostConfig.Without: expected a list of texts")
    for name in names:
        if name in _NEEDED:
            raise InvalidArgument(f"--without {name}: not possible: {_NEEDED[name]}")
        if name not in _BY_NAME:
            near = difflib.get_close_matches(name, _BY_NAME, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(_BY_NAME)}"
            raise InvalidArgument(f"--without {name}: there is no such part: {hint}")
        changes = dict(_BY_NAME[name].changes)
        if name == "seccomp":  # what else it says stays
            kept = [o for o in host.get("SecurityOpt") or () if not o.startswith("seccomp")]
            changes["SecurityOpt"] = [*kept, "seccomp=unconfined"]
        host = host | changes
    return {**asked, "HostConfig": host}


class Probe(Record):
    """One look at what is open to a container.

    Args:
        part: what contains it.
        what: what it looks at.
        look: gives what the container has of the host, by the process ID of its first process; ""
            if nothing.
        command: to see it oneself, in the container.
    """

    part: str
    what: str
    look: Callable[[int], str]
    command: str


def look_for_leaks(names: tuple[str, ...], pid: int) -> None:
    """Look at what the container can reach because a part was left out.

    It is set up by now, and its program does not run yet. Each finding was measured in the files
    of /proc that show the kernel's view of its first process.
    """
    for probe in PROBES:
        if probe.part in names:
            try:
                found = probe.look(pid)
            except OSError as error:  # its first process has ended, or its image lacks /proc
                found = f"can't be looked at: {error.strerror}"
            steps.note(
                f"look {probe.part}: {probe.what}",
                object=f"leak:{probe.part}: {probe.what}",
                after=found or "nothing: it is contained all the same",
                shell=probe.command,
            )


# -- probes --------------------------------------------------------------------------------------


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
        return file.read()


def _status(pid: int, field: str) -> str:
    for line in _read(pid, "status").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    return ""


def _shares(pid: int, kind: str) -> bool:
    """Say whether a container is in the same namespace as the engine."""
    link = namespaces.BY_TYPE[kind].link
    return os.readlink(f"/proc/{pid}/ns/{link}") == os.readlink(f"/proc/self/ns/{link}")


def _some(items: list[str], what: str) -> str:
    """Count items and name the first few."""
    named = ", ".join(items[:4]) + (", …" if len(items) > 4 else "")
    return f"{len(items)} {what}: {named}" if items else ""


def _processes(pid: int) -> str:
    """Look into /proc as the container has it mounted."""
    try:
        seen = [name for name in os.listdir(f"/proc/{pid}/root/proc") if name.isdecimal()]
    except OSError:  # its image has no /proc
        seen = []
    if not _shares(pid, "pid"):
        return ""
    names = []
    for number in seen:
        try:
            names.append(_read(int(number), "comm").strip())
        except OSError:  # it has ended
            continue
    return _some(names, "processes of the host")


def _signals(pid: int) -> str:
    """Say whether it may send signals: kill(2) asks for CAP_KILL, or for the same user."""
    if not _shares(pid, "pid"):
        return ""
    holds_kill = "CAP_KILL" in capabilities.names_in(int(_status(pid, "CapEff"), 16))
    if holds_kill and _shares(pid, "user"):
        return "it may send SIGKILL to every process of the host"
    user = _status(pid, "Uid").split()[0]
    return f"it may send SIGKILL to the host's processes of user {user}"


def _links(pid: int) -> str:
    names = [line.partition(":")[0].strip() for line in _read(pid, "net/dev").splitlines()[2:]]
    return _some(names, "links of the host") if _shares(pid, "network") else ""


def _sockets(pid: int) -> str:
    """Find abstract unix sockets: no file stands for them, only their namespace hides them."""
    if not _shares(pid, "network"):
        return ""
    fields = (line.split() for line in _read(pid, "net/unix").splitlines()[1:])
    names = sorted({words[7] for words in fields if len(words) > 7 and words[7].startswith("@")})
    return _some(names, "abstract sockets of the host") or "the host's abstract sockets: none now"


def _shared_memory(pid: int) -> str:
    inside = f"/proc/{pid}/root/dev/shm"
    if not os.path.isdir(inside) or os.stat(inside).st_dev != os.stat("/dev/shm").st_dev:
        return ""
    names = sorted(os.listdir(inside))
    return _some(names, "files of the host in /dev/shm") or "the host's /dev/shm: it is empty now"


def _queues(pid: int) -> str:
    if not _shares(pid, "ipc"):
        return ""
    with open("/proc/sysvipc/shm", encoding="utf-8") as file:
        count = len(file.read().splitlines()) - 1
    return f"the host's System V shared memory: {count} segments now"


def _hostname(pid: int) -> str:
    return f"the host's name: {os.uname().nodename}" if _shares(pid, "uts") else ""


def _groups(pid: int) -> str:
    if not _shares(pid, "cgroup"):
        return ""
    paths = [line.split(":", 2)[2] for line in _read(pid, "cgroup").splitlines()]
    return f"where it is in the host's tree of cgroups: {max(paths, key=len)}"


def _ids(pid: int) -> str:
    maps = [line.split() for line in _read(pid, "uid_map").splitlines()]
    same = any(inside == outside == "0" for inside, outside, _ in maps)
    return "user 0 inside is user 0 of the host: files that it can reach are its own" * same


def _limit(*names: str) -> Callable[[int], str]:
    """Make a probe that reads control files of the cgroup: the first one that is there."""

    def look(pid: int) -> str:
        found = limits_of(pid, names)
        bounded = {name: value for name, value in found.items() if not value.startswith("max")}
        if found and not bounded:
            return f"{', '.join(found)}: no limit but the host's own"
        return ""

    return look


def limits_of(pid: int, names: tuple[str, ...]) -> dict[str, str]:
    """Read control files of a process's cgroups, where they are there; no limit reads "max".

    Args:
        names: of the files.
    """
    seen = hierarchies.parse(_read(os.getpid(), "mountinfo"), _read(pid, "cgroup"))
    found = {}
    for hierarchy in (*seen.v1, *filter(None, (seen.unified,))):
        group = hierarchy.mount_point.rstrip("/") + hierarchy.own_below_mount().rstrip("/")
        there = set(os.listdir(group)) if os.path.isdir(group) else set()
        for name in names:
            if name in there:
                with open(f"{group}/{name}", encoding="utf-8") as file:
                    text = "; ".join(file.read().strip().splitlines())
                # what v1 has for no limit: -1, or the largest number of pages
                found[name] = "max" if text in ("9223372036854771712", "-1") else text
    return found


def _extra_capabilities(pid: int) -> str:
    held = capabilities.names_in(int(_status(pid, "CapEff"), 16))
    return _some([name for name in held if name not in defaults.CAPABILITIES], "capabilities more")


def _unfiltered(pid: int) -> str:
    return "every system call reaches the kernel" if _status(pid, "Seccomp") == "0" else ""


def _hidden_paths(pid: int) -> str:
    """Find paths that a mask would cover: it is a mount, of /dev/null or an empty directory."""
    lines = _read(pid, "mountinfo").splitlines()
    covered = {hierarchies.unescaped(line.split(" ")[4]) for line in lines}
    found = [
        path
        for path in defaults.MASKED_PATHS
        if path not in covered and os.path.exists(f"/proc/{pid}/root{path}")
    ]
    return _some(found, "paths that are hidden otherwise")


def _writable_paths(pid: int) -> str:
    found = []
    for path in defaults.READONLY_PATHS:
        try:
            flags = os.statvfs(f"/proc/{pid}/root{path}").f_flag
        except OSError:
            continue
        if not flags & os.ST_RDONLY:
            found.append(path)
    return _some(found, "paths that can be written")


PROBES = (
    Probe(part="pid", what="processes", look=_processes, command="ls /proc"),
    Probe(part="pid", what="signals", look=_signals, command="kill -0 1 && echo allowed"),
    Probe(part="network", what="links", look=_links, command="ip link"),
    Probe(part="network", what="sockets", look=_sockets, command="grep @ /proc/net/unix"),
    Probe(part="ipc", what="shared memory", look=_shared_memory, command="ls -l /dev/shm"),
    Probe(part="ipc", what="System V", look=_queues, command="cat /proc/sysvipc/shm"),
    Probe(part="uts", what="host name", look=_hostname, command="hostname"),
    Probe(part="cgroup", what="cgroup tree", look=_groups, command="cat /proc/self/cgroup"),
    Probe(part="user", what="ids", look=_ids, command="cat /proc/self/uid_map"),
    Probe(
        part="memory",
        what="limit",
        look=_limit("memory.max", "memory.limit_in_bytes"),
        command="cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes",
    ),
    Probe(
        part="cpus",
        what="limit",
        look=_limit("cpu.max", "cpu.cfs_quota_us"),
        command="cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    ),
    Probe(
        part="pids-limit",
        what="limit",
        look=_limit("pids.max"),
        command="cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max",
    ),
    Probe(
        part="capabilities",
        what="effective set",
        look=_extra_capabilities,
        command="grep CapEff /proc/self/status",
    ),
    Probe(
        part="seccomp",
        what="filter",
        look=_unfiltered,
        command="grep Seccomp: /proc/self/status",
    ),
    Probe(part="masks", what="hidden paths", look=_hidden_paths, command="cat /proc/interrupts"),
    Probe(part="masks", what="read-only paths", look=_writable_paths, command="mount | grep proc"),
)
