"""Namespaces: their table, the calls that make and join them, and the id maps of a user namespace.

See: namespaces(7), clone(2), unshare(2), setns(2), user_namespaces(7), time_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os

from minicontainer import steps
from minicontainer.contexts import contextmanager
from minicontainer.errors import KernelError
from minicontainer.kernel import files, libc, signals
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000


class Namespace(Record):
    """A kind of namespace: one row of the table that all other code reads.

    Args:
        type: its name in the OCI specification.
        flag: for clone3(2), unshare(2) and setns(2).
        link: its name under /proc/PID/ns.
        made: when a new one is made. "clone": with the process. "inside": by the process itself,
            later. "before": by the parent, whose children are then in it.
        optional: a container can do without it, and some kernels have none.
    """

    type: str
    flag: int
    link: str
    made: str = "clone"
    optional: bool = False

    @property
    def option(self) -> str:
        """Its name as an option of unshare(1) and nsenter(1)."""
        return "mount" if self.link == "mnt" else self.link


# In the order in which existing ones are joined. The user namespace comes last: joining it gives up
# the capabilities over the others, which it does not own (setns(2)). pid and time namespaces only
# take the children of the process that joins them, so it forks afterwards.
NAMESPACES = (
    Namespace(type="ipc", flag=CLONE_NEWIPC, link="ipc"),
    Namespace(type="uts", flag=CLONE_NEWUTS, link="uts"),
    Namespace(type="network", flag=CLONE_NEWNET, link="net"),
    Namespace(type="pid", flag=CLONE_NEWPID, link="pid"),
    # The root of a new cgroup namespace is the cgroup of its maker at that moment
    # (cgroup_namespaces(7)), so the process must be in the container's cgroup before.
    Namespace(type="cgroup", flag=CLONE_NEWCGROUP, link="cgroup", made="inside"),
    # Its clocks can be set only while no process is in it (time_namespaces(7)); clone3 would put
    # the child in at once.
    Namespace(type="time", flag=CLONE_NEWTIME, link="time", made="before", optional=True),
    Namespace(type="mount", flag=CLONE_NEWNS, link="mnt"),
    Namespace(type="user", flag=CLONE_NEWUSER, link="user", optional=True),
)
BY_TYPE = {namespace.type: namespace for namespace in NAMESPACES}


class _CloneArgs(ctypes.Structure):
    """Struct clone_args of linux/sched.h."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size",
            "tls", "set_tid", "set_tid_size", "cgroup",
        )
    )  # fmt: skip


def clone3(flags: int, *, cgroup_fd: int | None = None) -> tuple[int, int]:
    """Fork a child into new namespaces, and on cgroup v2 directly into a cgroup.

    Only a single-threaded process may call it: a lock that another thread holds would stay locked
    in the child for ever.

    Args:
        flags: CLONE_NEW… flags; CLONE_PARENT makes the child a child of the caller's parent.
        cgroup_fd: a descriptor of a cgroup v2 directory, or None.
    Returns:
        The child's pid and a pidfd for it; (0, -1) in the child.
    Raises:
        KernelError: EPERM without CAP_SYS_ADMIN (CLONE_NEWUSER alone needs none), ENOSPC at a
            namespace limit of user.max_*_namespaces, EBUSY for a cgroup with controllers enabled
            for its children.
    See: clone(2) "clone3()".
    """
    pidfd = ctypes.c_int(-1)
    args = _CloneArgs(
        flags=flags | CLONE_PIDFD,
        pidfd=ctypes.addressof(pidfd),
        # With CLONE_PARENT the kernel uses the caller's own exit signal, and refuses another.
        exit_signal=0 if flags & CLONE_PARENT else signals.SIGCHLD,
    )
    if cgroup_fd is not None:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    libc.before_fork()
    pid = -1
    try:
        pid = libc.fork_by(args)
    except KernelError as error:
        steps.note("clone3", (flag_names(args.flags),), -1, error.errno or 0)
        raise
    finally:
        libc.after_fork(in_child=pid == 0)
    if pid == 0:
        return 0, -1
    if steps.listening():
        steps.note(
            "clone3", (flag_names(args.flags),), pid, object=_objects(flags) or f"process:{pid}",
            before=_identities("thread-self", flags), after=_identities(pid, flags),
            shell=_unshare_command(flags, fork=True),
        )  # fmt: skip
    return pid, pidfd.value


def unshare(flags: int) -> None:
    """Move this process into new namespaces; a new pid or time namespace takes only its children.

    Raises:
        KernelError: EPERM, ENOSPC, EINVAL (a user namespace from a process with threads).
    See: unshare(2).
    """
    libc.call(
        "unshare", flags, object=_objects(flags), before=_before(flags),
        after=lambda: _identities("thread-self", flags), shell=_unshare_command(flags),
    )  # fmt: skip


def setns(fd: int, namespace: Namespace) -> None:
    """Join the namespace behind a descriptor of /proc/PID/ns/NAME.

    Args:
        fd: the open link.
        namespace: the kind that it must be; the kernel refuses another with EINVAL.
    See: setns(2).
    """
    flag = namespace.flag
    libc.call(
        "setns", fd, flag, object=_objects(flag), before=_before(flag),
        after=lambda: _identities("thread-self", flag),
        shell=f"nsenter --{namespace.option}=/proc/{os.getpid()}/fd/{fd}",
    )  # fmt: skip


def join_process(pidfd: int, flags: int, pid: int = 0) -> None:
    """Join a process's namespaces of the kinds in *flags*, all or none: setns(2) by a pidfd.

    The kernel joins a user namespace first, and the others with the rights in it. The root and the
    working directory become those of the mount namespace.

    Args:
        pid: of that process, to name it in the command that does the same; 0 if it is not known.
    Raises:
        KernelError: ESRCH when the process has ended; EINVAL for the user namespace of the caller.
    """
    libc.call(
        "setns", pidfd, flags, object=_objects(flags), before=_before(flags),
        after=lambda: _identities("thread-self", flags),
        shell=f"nsenter --target {pid or 'PID'} "
        + " ".join(f"--{row.option}" for row in NAMESPACES if flags & row.flag),
    )  # fmt: skip


@contextmanager
def held(flags: int) -> Iterator[tuple[int, int]]:
    """Make namespaces for the block: a process that does nothing keeps them alive.

    Args:
        flags: CLONE_NEW… flags.
    Returns:
        The process's pid and a pidfd for it.
    Raises:
        KernelError: as `clone3`.
    """
    read_end, write_end = os.pipe()
    pid, pidfd = clone3(flags)
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)  # until the parent closes it, or is killed
        os._exit(0)
    try:
        yield pid, pidfd
    finally:
        for fd in (read_end, write_end, pidfd):
            os.close(fd)
        os.waitpid(pid, 0)


@contextmanager
def in_namespace(fd: int, kind: Namespace) -> Iterator[None]:
    """Enter another namespace for the block; only the calling thread moves.

    Args:
        fd: a descriptor of /proc/PID/ns/LINK.
        kind: one that a thread may change by itself: network, uts, ipc, cgroup.
    Raises:
        KernelError: EPERM without CAP_SYS_ADMIN over it.
    See: setns(2).
    """
    own = os.open(f"/proc/thread-self/ns/{kind.link}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Inside the `try`, so that an interrupt right after it can't leave the thread there.
        setns(fd, kind)
        yield
    finally:
        try:
            setns(own, kind)
        finally:
            os.close(own)


@contextmanager
def in_network(netns_fd: int) -> Iterator[None]:
    """Enter another network namespace for the block: see network_namespaces(7).

    Args:
        netns_fd: a descriptor of /proc/PID/ns/net.
    """
    with in_namespace(netns_fd, BY_TYPE["network"]):
        yield


def _objects(flags: int) -> str:
    kinds = [namespace.type for namespace in NAMESPACES if flags & namespace.flag]
    return f"ns:{','.join(kinds)}" if kinds else ""


def _before(flags: int) -> str | None:
    return _identities("thread-self", flags) if steps.listening() else None


def _identities(pid: int | str, flags: int) -> str:
    """Name a process's namespaces of the kinds in *flags*; pid and time: its children's."""
    found = []
    for namespace in NAMESPACES:
        if flags & namespace.flag:
            later = pid == "thread-self" and namespace.type in ("pid", "time")
            found.append(identity(pid, namespace.link + ("_for_children" if later else "")))
    return " ".join(filter(None, found))


def identity(pid: int | str, link: str) -> str:
    """Name a process's namespace as the kernel does: `pid:[4026532281]`; "" if it can't be read.

    The first child in a pid namespace may have ended, and a pid_for_children link is empty until
    the namespace has a process.
    """
    try:
        return os.readlink(f"/proc/{pid}/ns/{link}")
    except OSError:
        return ""


def flag_names(flags: int) -> str:
    """Spell clone flags as the manual does: CLONE_NEWNS|CLONE_NEWPID."""
    named = {
        name: value
        for name, value in globals().items()
        if name.startswith("CLONE_") and isinstance(value, int)
    }
    return "|".join(name for name, value in named.items() if flags & value) or "0"


def _unshare_command(flags: int, *, fork: bool = False) -> str | None:
    asked = [f"--{namespace.option}" for namespace in NAMESPACES if flags & namespace.flag]
    return " ".join(["unshare", *(["--fork"] if fork else []), *asked]) if asked else None


class IdMap(Record, json={"container_id": "containerID", "host_id": "hostID"}):
    """A range of ids in a user namespace, and the host's ids for them.

    See: user_namespaces(7) "User and group ID mappings"; runtime-spec config-linux.md.
    """

    container_id: int
    host_id: int
    size: int


def host_id(maps: Iterable[IdMap], container_id: int) -> int | None:
    """Return the host's id for an id of a user namespace; None if it is not mapped."""
    for run in maps:
        if 0 <= container_id - run.container_id < run.size:
            return run.host_id + container_id - run.container_id
    return None


def write_id_maps(pid: int, uids: Iterable[IdMap], gids: Iterable[IdMap]) -> None:
    """Write both maps of the user namespace of process *pid*, from outside it.

    Args:
        pid: a process in the new namespace.
        uids, gids: the ranges; the kernel takes each map once, in one write.
    Raises:
        KernelError: EPERM if the caller may not use those host ids (an ordinary user: only its own,
            one id), EINVAL for ranges that overlap.
    """
    if os.geteuid() != 0:
        # A user who may map only one group must first give up setgroups(2): some files deny access
        # to a group, and a process could otherwise drop that group.
        files.write_file(f"/proc/{pid}/setgroups", "deny")
    for name, runs in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{run.container_id} {run.host_id} {run.size}\n" for run in runs)
        files.write_file(f"/proc/{pid}/{name}", text, object=f"ns:user:{name}")


def write_clock_offset(clock: str, secs: int, nanosecs: int) -> None:
    """Shift a clock of the time namespace that this process made for its children.

    Args:
        clock: "monotonic" or "boottime".
        secs, nanosecs: the difference to the host's clock.
    Raises:
        KernelError: ERANGE for a clock below zero, EACCES once a process is in the namespace.
    See: time_namespaces(7).
    """
    files.write_file(
        "/proc/self/timens_offsets", f"{clock} {secs} {nanosecs}\n", object=f"ns:time:{clock}"
    )


def open_namespace(path: str, namespace: Namespace) -> int:
    """Open a namespace link for `setns`.

    Args:
        path: /proc/PID/ns/NAME, or a file with a bind mount of one.
    Raises:
        KernelError: no such file, or not permitted (ptrace access to the process is needed).
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(
            error.errno, error.strerror, f"open {namespace.type} namespace {path}"
        ) from None
