"""The parts of the isolation that `--without` can leave out.

`PARTS` are left out by fields of the create request: they are fields of Docker's, so that `inspect`
shows what was done. `STEPS` are steps of the first process's recipe (`runtime.child.init`), which
it passes over. `NEEDED` are the steps without which there is no container, `HARMFUL` those without
which the start changes the host.

See: `probes` for what a container gets by that; namespaces(7), capabilities(7).
"""

from __future__ import annotations

import difflib
import os

from minicontainer import steps
from minicontainer.errors import InvalidArgument
from minicontainer.record import NO_ENTRIES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.runtime.config.spec import Spec

    Json = dict[str, Any]

# A machine where a lesson may do harm: a virtual machine that can be thrown away has this file.
LAB = "/etc/minicontainer/lab"


class Part(Record):
    """A part of the isolation that fields of the create request leave out.

    Args:
        name: as `--without` takes it.
        help: what it is for.
        changes: what leaves it out: fields of HostConfig.
        mounts: what leaves it out: the destinations of mounts that are not made.
    """

    name: str
    help: str
    changes: dict[str, object] = NO_ENTRIES
    mounts: tuple[str, ...] = ()


class StepPart(Record):
    """A step of the recipe that can be passed over.

    Args:
        name: of the step.
        effect: what is missing without it.
        command: shows that, in the container; "" where a probe does.
        like: the part whose probes measure it; "" for those with the step's own name.
    """

    name: str
    effect: str
    command: str = ""
    like: str = ""


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
        name="devices",
        changes={"DeviceCgroupRules": ["a *:* rwm"]},
        help="the list of devices that may be used",
    ),
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
    Part(name="mount-proc", mounts=("/proc",), help="the container's own /proc"),
    Part(name="mount-sys", mounts=("/sys", "/sys/fs/cgroup"), help="the container's own /sys"),
)

STEPS = (
    StepPart(name="join-cgroups", effect="the first process stays in the engine's cgroups (v1)"),
    StepPart(
        name="reset-affinity", effect="the program keeps the processors of who started the engine",
        command="grep Cpus_allowed_list /proc/self/status",
    ),
    StepPart(name="reset-signals", effect="the program inherits which signals are ignored"),
    StepPart(
        name="forbid-tracing", effect="until the ids change, a process inside may trace this one",
        command="ls -l /proc/1/exe",
    ),
    StepPart(name="start-session", effect="the program is in the session of its monitor"),
    StepPart(
        name="join-keyring", effect="the program has the session keyring of the engine",
        command="cat /proc/keys",
    ),
    StepPart(
        name="set-rlimits", effect="the program has the engine's resource limits",
        command="ulimit -a",
    ),
    StepPart(
        name="set-sysctls", effect="kernel parameters keep what new namespaces have",
        command="sysctl net.ipv4.ip_unprivileged_port_start",
    ),
    StepPart(
        name="unshare-cgroup", effect="the container sees the host's tree of cgroups",
        like="cgroup",
    ),
    StepPart(name="mount-filesystems", effect="there is no /proc, /sys or /dev, and no volume"),
    StepPart(name="make-devices", effect="/dev lacks null and the others", command="ls /dev"),
    StepPart(
        name="settle-streams", effect="streams without a client are the host's null device",
        command="ls -l /proc/self/fd",
    ),
    StepPart(
        name="enter-directory", effect="the program starts in /, whatever its directory should be",
        command="pwd",
    ),
    StepPart(
        name="protect-paths", effect="paths of /proc and /sys are neither hidden nor read-only",
        like="masks",
    ),
    StepPart(name="make-rootfs-readonly", effect="with --read-only: the root can be written"),
    StepPart(
        name="spread-mounts", effect="later mounts do not propagate",
        command="grep shared: /proc/self/mountinfo",
    ),
    StepPart(name="set-hostname", effect="the namespace keeps the host's name, as a copy"),
    StepPart(
        name="set-domainname", effect="the namespace keeps the host's domain name",
        command="cat /proc/sys/kernel/domainname",
    ),
    StepPart(name="raise-loopback", effect="lo stays down: nothing answers at 127.0.0.1"),
    StepPart(name="find-home", effect="HOME is not set", command="echo $HOME"),
    StepPart(name="set-scheduler", effect="the scheduler of the engine", command="chrt -p $$"),
    StepPart(name="set-io-priority", effect="the I/O priority of the engine",
             command="ionice -p $$"),
    StepPart(name="set-memory-policy", effect="the memory policy of the engine",
             command="cat /proc/self/numa_maps"),
    StepPart(name="set-personality", effect="the personality of the engine", command="uname -m"),
    StepPart(name="set-labels", effect="the security label of the engine",
             command="cat /proc/self/attr/current"),
    StepPart(name="set-umask", effect="new files can be written by everybody", command="umask"),
    StepPart(name="forbid-new-privileges", effect="a set-user-id program can gain privileges"),
    StepPart(name="filter-if-privileged", effect="no system call is filtered", like="seccomp"),
    StepPart(name="filter-if-unprivileged", effect="no system call is filtered", like="seccomp"),
    StepPart(name="drop-bounding-set", effect="a program file can grant every capability"),
    StepPart(name="become-user", effect="the program stays user 0"),
    StepPart(
        name="set-capabilities", effect="the program keeps every capability that is not bounded",
        like="capabilities",
    ),
    StepPart(
        name="die-with-parent", effect="the container outlives a monitor that is killed",
        command="true",
    ),
    StepPart(
        name="set-last-rlimits", effect="the limits of memory and files are the engine's",
        command="ulimit -a",
    ),
)  # fmt: skip

# Without these, the start would change the host: only in a lab, or by force.
HARMFUL = {
    "isolate-mounts": "the container's mounts would appear on the host",
    "enter-rootfs": "the container's root would be the host's",
}
# Without these there is no container, whoever asks.
NEEDED = {
    "mount": "every mount of the container would be one of the host's own",
    "mount-rootfs": "pivot_root(2) wants a mount point, and the image would be written to",
    "become-root-inside": "a process without an id in its user namespace may not set it up",
    "open-terminal": "it is part of a container with -t alone: leave out -t",
    "wait-for-runtime-hooks": "it only waits for hooks, and isolates nothing",
    "run-create-container-hooks": "it only runs hooks, and isolates nothing",
    "run-start-container-hooks": "it only runs hooks, and isolates nothing",
    "find-program": "there would be no program to run",
    "report-ready": "the monitor waits for this report",
    "wait-for-start": "the program would run before its network is there",
    "announce-program": "the monitor could not tell a start from a failure",
    "stay-as-reaper": "it is part of a container with --init alone: leave out --init",
    "run-program": "there would be no program",
}
# Other words for the same.
_ALSO = {
    "mask-paths": "protect-paths",
    "set-no-new-privileges": "forbid-new-privileges",
    "drop-capabilities": "capabilities",
    "load-seccomp": "seccomp",
    "net": "network",
    "cpu": "cpus",
    "mounts": "isolate-mounts",
}
_PARTS = {part.name: part for part in PARTS}
_STEPS = {part.name: part for part in STEPS}


def left_out(asked: Json, is_lab: bool | None = None) -> Json:
    """Change a create request so that the parts which its `Without` names are left out.

    Args:
        is_lab: whether this machine is a lab; None: look for its mark.
    Raises:
        InvalidArgument: a name is unknown, there is no container without that part, or the host
            would be changed.
    """
    host = asked.get("HostConfig") or {}
    names = host.get("Without") if isinstance(host, dict) else None
    if not names:
        return asked
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidArgument("HostConfig.Without: expected a list of texts")
    names = [_ALSO.get(name, name) for name in names]
    is_lab = os.path.exists(LAB) if is_lab is None else is_lab
    for name in names:
        _check(name, may_harm=is_lab or bool(host.get("WithoutForce")))
        if name not in _PARTS:
            continue
        changes = dict(_PARTS[name].changes)
        if name == "seccomp":  # what else it says stays
            kept = [o for o in host.get("SecurityOpt") or () if not o.startswith("seccomp")]
            changes["SecurityOpt"] = [*kept, "seccomp=unconfined"]
        host = host | changes
    return {**asked, "HostConfig": host | {"Without": names}}


def _check(name: str, *, may_harm: bool) -> None:
    if name in NEEDED:
        raise InvalidArgument(f"--without {name}: not possible: {NEEDED[name]}")
    if name in HARMFUL and not may_harm:
        raise InvalidArgument(
            f"--without {name}: refused: {HARMFUL[name]}: do it in a virtual machine that is "
            f"marked as a lab (the file {LAB} is there), or add --without-force"
        )
    known = (*_PARTS, *_STEPS, *HARMFUL)
    if name not in known:
        from minicontainer.runtime.parent import lifecycle  # for the refusal alone

        if name in map(steps.step_name, lifecycle.STEPS):
            raise InvalidArgument(
                f"--without {name}: not possible: it is a step of the monitor, and only steps of "
                "the first process can be left out"
            )
        near = difflib.get_close_matches(name, (*known, *_ALSO, *NEEDED), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(_PARTS)}, or a step's name"
        raise InvalidArgument(f"--without {name}: there is no such part: {hint}")


def steps_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Give the steps that the first process passes over."""
    return tuple(name for name in names if name in _STEPS or name in HARMFUL)


def step_part(name: str) -> StepPart | None:
    """Find what is known of a step that can be passed over."""
    return _STEPS.get(name)


def without_mounts(spec: Spec, names: tuple[str, ...]) -> Spec:
    """Leave mounts out of a specification: those below a part's destinations too."""
    gone = {place for name in names if name in _PARTS for place in _PARTS[name].mounts}
    return spec.replace(mounts=tuple(one for one in spec.mounts if one.destination not in gone))
