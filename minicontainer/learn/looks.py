"""Commands with which a learner looks at a half-made container from another terminal.

`LOOKS` says which command shows the effect of which steps. `{pid}` is the container's first process
by its number on the host, `{id}` the container, `{client}` the command that reaches its engine.

See: lsns(8), findmnt(8), nsenter(1), proc(5).
"""

from __future__ import annotations

from minicontainer.record import Record


class Look(Record):
    """A command to look with.

    Args:
        shell: the command.
        steps: those whose effect it shows.
    """

    shell: str
    steps: tuple[str, ...] = ()


LOOKS = (
    Look(shell="{client} ps -a", steps=("write-bundle", "hand-to-monitor", "reserve-name")),
    Look(shell="{client} inspect {id}", steps=("write-bundle", "connect-container")),
    Look(
        shell="ps -o pid,ppid,sid,user,comm -p {pid}",
        steps=("fork-init", "forbid-tracing", "start-session", "run-program", "stay-as-reaper"),
    ),
    Look(shell="lsns -p {pid}", steps=("fork-init", "unshare-cgroup", "set-time-offsets")),
    Look(
        shell="cat /proc/{pid}/cgroup",
        steps=("create-cgroup", "join-cgroups", "unshare-cgroup", "adopt-init", "give-cgroup"),
    ),
    Look(shell="findmnt -N {pid} -o TARGET,PROPAGATION", steps=("isolate-mounts", "spread-mounts")),
    Look(
        shell="findmnt -N {pid}",
        steps=(
            "mount-rootfs", "mount-filesystems", "make-devices", "enter-rootfs", "protect-paths",
            "make-rootfs-readonly", "copy-host-mounts", "make-device-nodes",
        ),
    ),
    Look(
        shell="ls /proc/{pid}/root/",
        steps=("mount-rootfs", "enter-rootfs", "enter-directory", "find-program", "find-home"),
    ),
    Look(shell="ls -l /proc/{pid}/fd", steps=("settle-streams", "open-terminal")),
    Look(shell="nsenter -t {pid} -u hostname", steps=("set-hostname", "set-domainname")),
    Look(
        shell="nsenter -t {pid} -n ip address",
        steps=("raise-loopback", "connect-container", "move-net-devices"),
    ),
    Look(shell="cat /proc/{pid}/limits", steps=("set-rlimits", "set-last-rlimits")),
    Look(
        shell="cat /proc/{pid}/uid_map /proc/{pid}/gid_map",
        steps=("write-id-maps", "become-root-inside"),
    ),
    Look(shell="cat /proc/{pid}/oom_score_adj", steps=("set-oom-score",)),
    Look(
        shell="grep -E '^(Uid|Gid|Groups)' /proc/{pid}/status",
        steps=("become-user", "become-root-inside", "write-id-maps"),
    ),
    Look(
        shell="grep ^Cap /proc/{pid}/status",
        steps=("drop-bounding-set", "become-user", "set-capabilities"),
    ),
    Look(
        shell="grep -E '^(Seccomp|NoNewPrivs)' /proc/{pid}/status",
        steps=("forbid-new-privileges", "filter-if-privileged", "filter-if-unprivileged"),
    ),
    Look(shell="grep ^Sig /proc/{pid}/status", steps=("reset-signals",)),
    Look(
        shell="nsenter -t {pid} -a ls /",
        steps=("report-ready", "wait-for-start", "start-program", "look-for-leaks"),
    ),
)  # fmt: skip


def commands(step: str, pid: int, container: str, client: str) -> tuple[str, ...]:
    """Write the commands that show what a step changes, as far as there is something to see.

    Args:
        step: its name; "" for the commands of all steps.
        pid: of the container's first process; 0 before there is one.
        container: its ID; "" likewise.
        client: how this project's client is called.
    """
    found = [look.shell for look in LOOKS if not step or step in look.steps]
    there = [
        shell
        for shell in found
        if (pid or "{pid}" not in shell) and (container or "{id}" not in shell)
    ]
    return tuple(shell.format(pid=pid, id=container[:12], client=client) for shell in there)
