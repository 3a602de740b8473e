"""Measure what a container has of the host, where a part of its isolation was left out.

`PROBES` measures once the container is set up and before its program runs. Each probe looks at one
thing, through the files of /proc of the container's first process, and says what is open to it; ""
where it is contained. They are the controls of tests/isolation, too.

See: `parts` for what can be left out.

See: namespaces(7), capabilities(7), proc(5).
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.cgroups import hierarchies
from minicontainer.engine import measures, parts
from minicontainer.kernel import mounts
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_SHORT_ID = 12  # characters of a container's ID that Docker prints
CONTAINED = "nothing: it is contained all the same"


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
    for name in names:
        step = parts.step_part(name)
        measured = (step.like or name) if step else name
        probes = [probe for probe in PROBES if probe.part == measured]
        for probe in probes:
            _tell(name, probe.what, look(probe, pid) or CONTAINED, probe.command)
        if step and not probes:
            _tell(name, "not measured", step.effect, step.command)


def look(probe: Probe, pid: int) -> str:
    """Measure one thing; "" where the container has nothing of the host's."""
    try:
        return probe.look(pid)
    except OSError as error:  # its first process has ended, or its image lacks /proc
        return f"can't be looked at: {error.strerror}"


def _tell(part: str, what: str, found: str, command: str) -> None:
    steps.note(f"look {part}: {what}", object=f"leak:{part}: {what}", after=found, shell=command)


def take_mounts_back(directory: str) -> None:
    """Unmount what a container without `isolate-mounts` has left on the host.

    The mount namespace of the container was a peer of the host's: its mounts are here too, and stay
    when the container ends.
    """
    found = _mounts_below(directory)
    told = measures.some([place.removeprefix(directory) for place in found], "mounts on the host")
    ours = os.path.basename(directory)[:_SHORT_ID]
    _tell("isolate-mounts", "mounts", told or CONTAINED, f"grep {ours} /proc/self/mountinfo")
    for _ in found:  # each takes away all that is mounted below it
        if left := _mounts_below(directory):
            mounts.umount2(left[0], mounts.MNT_DETACH)


def _mounts_below(directory: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        places = [hierarchies.unescaped(line.split(" ")[4]) for line in file]
    return [place for place in places if place.startswith(f"{directory}/")]


PROBES = (
    Probe(part="pid", what="processes", look=measures.host_processes, command="ls /proc"),
    Probe(
        part="pid",
        what="signals",
        look=measures.may_signal,
        command="kill -0 1 && echo allowed",
    ),
    Probe(part="network", what="links", look=measures.links, command="ip link"),
    Probe(
        part="network",
        what="sockets",
        look=measures.abstract_sockets,
        command="grep @ /proc/net/unix",
    ),
    Probe(part="ipc", what="shared memory", look=measures.shared_memory, command="ls -l /dev/shm"),
    Probe(part="ipc", what="System V", look=measures.system_v, command="cat /proc/sysvipc/shm"),
    Probe(part="uts", what="host name", look=measures.hostname, command="hostname"),
    Probe(
        part="cgroup",
        what="cgroup tree",
        look=measures.cgroup_tree,
        command="cat /proc/self/cgroup",
    ),
    Probe(part="user", what="ids", look=measures.user_ids, command="cat /proc/self/uid_map"),
    Probe(
        part="memory",
        what="limit",
        look=measures.limit_of("memory.max", "memory.limit_in_bytes", host=measures.memory_of_host),
        command="cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null",
    ),
    Probe(
        part="cpus",
        what="limit",
        look=measures.limit_of("cpu.max", "cpu.cfs_quota_us", host=measures.processors_of_host),
        command="cd /sys/fs/cgroup; cat cpu.max cpu/cpu.cfs_quota_us 2>/dev/null",
    ),
    Probe(
        part="pids-limit",
        what="limit",
        look=measures.limit_of("pids.max", host=measures.processes_of_host),
        command="cd /sys/fs/cgroup; cat pids.max pids/pids.max 2>/dev/null",
    ),
    Probe(
        part="capabilities",
        what="effective set",
        look=measures.extra_capabilities,
        command="grep CapEff /proc/self/status",
    ),
    Probe(
        part="seccomp",
        what="filter",
        look=measures.unfiltered,
        command="grep Seccomp: /proc/self/status",
    ),
    Probe(
        part="capabilities",
        what="kernel log",
        look=measures.kernel_log,
        command="dmesg | tail -n 3",
    ),
    Probe(
        part="devices",
        what="allow-list",
        look=measures.device_list,
        command="cat /sys/fs/cgroup/devices/devices.list",
    ),
    Probe(
        part="masks",
        what="hidden paths",
        look=measures.hidden_paths,
        command="cat /proc/interrupts",
    ),
    Probe(
        part="masks",
        what="read-only paths",
        look=measures.writable_paths,
        command="mount | grep proc",
    ),
    Probe(part="mount-proc", what="mounts", look=measures.unmounted, command="cat /proc/mounts"),
    Probe(part="mount-sys", what="mounts", look=measures.unmounted, command="cat /proc/mounts"),
    Probe(
        part="join-cgroups",
        what="cgroups",
        look=measures.own_cgroup,
        command="cat /proc/self/cgroup",
    ),
    Probe(
        part="reset-signals",
        what="ignored signals",
        look=measures.ignored_signals,
        command="grep SigIgn /proc/self/status",
    ),
    Probe(
        part="start-session",
        what="session",
        look=measures.session,
        command="cut -d ' ' -f 6 /proc/self/stat",
    ),
    Probe(part="mount-filesystems", what="mounts", look=measures.unmounted, command="ls /proc"),
    Probe(
        part="make-rootfs-readonly",
        what="root",
        look=measures.root_is_writable,
        command="touch /written",
    ),
    Probe(part="set-hostname", what="host name", look=measures.kept_name, command="hostname"),
    Probe(
        part="raise-loopback",
        what="loopback",
        look=measures.loopback,
        command="ping -c 1 127.0.0.1",
    ),
    Probe(
        part="forbid-new-privileges",
        what="no_new_privs",
        look=measures.new_privileges,
        command="grep NoNewPrivs /proc/self/status",
    ),
    Probe(
        part="drop-bounding-set",
        what="bounding set",
        look=measures.bounding_set,
        command="grep CapBnd /proc/self/status",
    ),
    Probe(part="become-user", what="user", look=measures.kept_user, command="id"),
    Probe(
        part="isolate-mounts",
        what="mounts",
        look=measures.peer_mounts,
        command="grep shared: /proc/self/mountinfo",
    ),
    Probe(part="enter-rootfs", what="root", look=measures.host_root, command="cat /etc/hostname"),
)
