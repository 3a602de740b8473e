"""`process` of config.json: the program, and the attributes of its process.

See: runtime-spec config.md "Process", "POSIX process", "Linux Process", "User".
"""

from __future__ import annotations

from minicontainer.record import Record

RLIMIT_INFINITY = 2**64 - 1  # no limit: the 64 bits of -1, read without a sign


class User(Record):
    """The user that the program runs as, inside the container's user namespace."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(Record):
    """The five capability sets, by names such as CAP_CHOWN."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Record):
    """A resource limit, in the kernel's unit for its type."""

    type: str
    soft: int
    hard: int


class ConsoleSize(Record):
    """Rows and columns of the terminal."""

    height: int
    width: int


class Scheduler(Record):
    """How the kernel shares processors among processes: sched_setattr(2).

    Args:
        policy: SCHED_OTHER and so on.
        nice: -20 (most) to 19; only SCHED_OTHER and SCHED_BATCH use it.
        priority: 1 to 99, for SCHED_FIFO and SCHED_RR.
        flags: SCHED_FLAG_RESET_ON_FORK and so on.
        runtime, deadline, period: nanoseconds, for SCHED_DEADLINE. See: sched(7).
    """

    policy: str
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class IoPriority(Record, json={"io_class": "class"}):
    """The priority at disks: ioprio_set(2).

    Args:
        io_class: IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE.
        priority: 0 (first) to 7, within the class.
    """

    io_class: str
    priority: int = 0


class ExecCpuAffinity(Record):
    """Processors that a process started by `exec` may use, as a list such as 0-3,7.

    Args:
        initial: until it is in the container's cgroup;  final: from then on.
    """

    initial: str | None = None
    final: str | None = None


class Process(Record, json={"exec_cpu_affinity": "execCPUAffinity"}):
    """The program and the attributes of its process."""

    args: tuple[str, ...] = ()
    cwd: str
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: ExecCpuAffinity | None = None
    apparmor_profile: str | None = None
    selinux_label: str | None = None
