"""This process: its attributes by prctl(2), limits, ids, descriptors, and the program it becomes.

Other processes are in `pidfds`.

See: prctl(2), prlimit(2), credentials(7).
"""

from __future__ import annotations

import ctypes
import os
import posix  # its environ: what execv(2) passes on, counted for the event

import _prctl  # python-prctl's C half; the other half makes 200 properties when imported, in 0.6 ms

from minicontainer import steps
from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.kernel import files, libc, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_FDS = 0xFFFFFFFF
_RESERVED_SIGNALS = (32, 33)
_SIGNAL_SET_SIZE = 8  # bytes of the kernel's sigset_t
_EVERY_PROCESSOR = b"\xff" * 1024  # one bit each: no kernel is built for more than 8192

PERSONALITIES = {"LINUX": 0x0, "LINUX32": 0x8}

# As in asm-generic/resource.h: getrlimit(2). The standard library's `resource` does not have all.
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}


class _Limit(ctypes.Structure):
    """struct rlimit64."""

    _fields_ = (("soft", ctypes.c_uint64), ("hard", ctypes.c_uint64))


class _SignalAction(ctypes.Structure):
    """The kernel's struct sigaction; all zero, it is the default action."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("restorer", ctypes.c_void_p),
        ("mask", ctypes.c_uint64),
    )


def _set(option: str, value: int | str, **change: str) -> None:
    """Set an attribute by prctl(2); noted by the option's name."""
    number = getattr(_prctl, option)
    steps.noted("prctl", (option, value), lambda: _prctl.prctl(number, value), **change)


def set_name(name: str) -> None:
    """Name this process for ps(1): 15 bytes at most. PR_SET_NAME."""
    _set("PR_SET_NAME", name)


def set_command_line(words: Iterable[str]) -> None:
    """Have ps(1) show these words as this process's command line, as far as there is room.

    The kernel shows the memory where the words of execve(2) lie; their place is told by
    /proc/self/stat. Nothing happens where that can't be read.

    See: proc_pid_cmdline(5), proc_pid_stat(5).
    """
    try:
        # the name, in parentheses, may hold blanks; fields 48 and 49 are arg_start and arg_end
        fields = files.read_file("/proc/self/stat").rpartition(")")[2].split()
    except KernelError:
        return
    start, end = int(fields[45]), int(fields[46])
    if not 0 < start < end:
        return
    text = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


def die_with_parent() -> None:
    """Ask to be killed when the parent ends, however it ends: PR_SET_PDEATHSIG.

    A change of ids or capabilities clears this, so it comes after those. A parent that ended before
    the call causes no signal, so the caller must check for that.
    """
    steps.noted(
        "prctl", ("PR_SET_PDEATHSIG", "SIGKILL"),
        lambda: _prctl.prctl(_prctl.PR_SET_PDEATHSIG, signals.SIGKILL),
    )  # fmt: skip


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that they can be waited for: PR_SET_CHILD_SUBREAPER."""
    _set("PR_SET_CHILD_SUBREAPER", 1)


def forbid_new_privileges() -> None:
    """Never let execve(2) grant privileges again, by set-user-id or file capabilities."""
    _set(
        "PR_SET_NO_NEW_PRIVS", 1,
        object="process:no_new_privs", after="1", shell="setpriv --no-new-privs",
    )  # fmt: skip


def set_dumpable(dumpable: bool) -> None:
    """Forbid (or allow) processes with the same ids to ptrace(2) this one or access its /proc
    files.
    """
    _set("PR_SET_DUMPABLE", int(dumpable))


def keep_capabilities(keep: bool) -> None:
    """Keep the permitted capabilities when the user id changes from 0: PR_SET_KEEPCAPS."""
    _set("PR_SET_KEEPCAPS", int(keep))


def set_rlimit(name: str, soft: int, hard: int) -> None:
    """Limit this process and its future children.

    Args:
        name: RLIMIT_NOFILE and so on.
        soft, hard: in the limit's own unit (bytes, seconds, files); -1 for no limit.
    Raises:
        InvalidArgument: no limit has that name.
        KernelError: EPERM above the present hard limit, without CAP_SYS_RESOURCE.
    See: getrlimit(2).
    """
    if name not in RLIMITS:
        raise InvalidArgument(f"{name}: no such resource limit: use one of {', '.join(RLIMITS)}")

    limit = _Limit(soft, hard)  # -1 becomes RLIM_INFINITY
    steps.noted(
        "prlimit64", (0, name, soft, hard),
        lambda: libc.quiet_call("prlimit64", 0, RLIMITS[name], limit, None),
        object=f"rlimit:{name}", after=f"{soft}:{hard}",
        shell=f"prlimit --pid $$ --{name[7:].lower()}={soft}:{hard}",
    )  # fmt: skip


def get_rlimit(name: str) -> tuple[int, int]:
    """Read a limit of this process: soft and hard; -1 for none."""
    limit = _Limit()
    libc.quiet_call("prlimit64", 0, RLIMITS[name], None, limit)
    soft, hard = (-1 if n == 2**64 - 1 else n for n in (limit.soft, limit.hard))
    return soft, hard


def use_every_processor() -> None:
    """Run this process, and its future children, on all processors that its cgroup allows.

    The kernel ignores those that do not exist or are not in the cgroup's cpuset.

    Raises:
        KernelError: EPERM or ENOSYS if a filter forbids the call.
    See: sched_setaffinity(2).
    """
    steps.noted(
        "sched_setaffinity", (0, "all"),
        lambda: libc.quiet_call("sched_setaffinity", 0, len(_EVERY_PROCESSOR), _EVERY_PROCESSOR),
        object="process:affinity", after="all",
        shell="taskset -pc 0-$(($(nproc --all) - 1)) $$",
    )  # fmt: skip


def set_groups(gids: Iterable[int]) -> None:
    """setgroups(2): the supplementary groups."""
    listed = list(gids)
    steps.noted(
        "setgroups", (tuple(listed),), lambda: os.setgroups(listed),
        object="process:groups", after=",".join(map(str, listed)),
    )  # fmt: skip


def set_gid(gid: int) -> None:
    """Set real, effective and saved group id: setresgid(2)."""
    steps.noted(
        "setresgid", (gid, gid, gid), lambda: os.setresgid(gid, gid, gid), object="process:gid",
        before=str(os.getegid()) if steps.listening() else None, after=str(gid),
    )  # fmt: skip


def set_uid(uid: int) -> None:
    """Set real, effective and saved user id: setresuid(2). From 0 away it drops capabilities."""
    steps.noted(
        "setresuid", (uid, uid, uid), lambda: os.setresuid(uid, uid, uid), object="process:uid",
        before=str(os.geteuid()) if steps.listening() else None, after=str(uid),
    )  # fmt: skip


def set_personality(domain: int) -> None:
    """personality(2): which kind of Linux this process and its future children see."""
    libc.call("personality", domain, object="process:personality", after=lambda: f"{domain:#x}")


def reset_reserved_signals() -> None:
    """Give the two signals that glibc keeps to itself (32, 33) their default action.

    posix_spawn(3) leaves them ignored, and execve(2) keeps what is ignored. sigaction(3) refuses
    these numbers, so the system call is made without it. Only for a process without threads.

    See: signal(7) "Real-time signals"; nptl(7).
    """
    action = _SignalAction()
    for number in _RESERVED_SIGNALS:
        libc.quiet_call("rt_sigaction", number, action, None, _SIGNAL_SET_SIZE)


def new_group() -> None:
    """setpgid(2): become the leader of a new process group in the same session."""
    libc.call("setpgid", 0, 0)


def new_session() -> None:
    """setsid(2): leave the caller's terminal and process group."""
    libc.call("setsid", shell="setsid")


def set_hostname(name: str) -> None:
    """sethostname(2), of this UTS namespace."""
    libc.call(
        "sethostname", name, len(os.fsencode(name)),
        object="uts:hostname", shell=f"hostname {name}",
    )  # fmt: skip


def set_domainname(name: str) -> None:
    """setdomainname(2), of this UTS namespace."""
    libc.call(
        "setdomainname", name, len(os.fsencode(name)),
        object="uts:domainname", shell=f"domainname {name}",
    )  # fmt: skip


def fork() -> int:
    """fork(2): return the child's pid, and 0 in the child; the parent notes the call.

    Raises:
        KernelError: EAGAIN at a limit of processes, ENOMEM.
    """
    try:
        pid = os.fork()
    except OSError as error:
        steps.note("fork", (), -1, error.errno or 0)
        raise KernelError(error.errno, error.strerror, "fork()") from None
    if pid:
        steps.note("fork", (), pid, object=f"process:{pid}")
    return pid


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor except the three streams and these, whoever opened it: close_range(2).

    Close-on-exec is not enough: execve(2) opens the program, and the interpreter that its first
    line names, while those descriptors are still open. Through /proc/self/fd/N of a directory of
    the host either could lead out of the container: CVE-2024-21626.
    """
    first = 3
    for fd in sorted(fd for fd in kept if fd >= first):
        if fd > first:
            libc.quiet_call("close_range", first, fd - 1, 0)
        first = fd + 1
    libc.quiet_call("close_range", first, _MOST_FDS, 0)


def run_program(path: str, args: tuple[str, ...], env: dict[str, str] | None) -> None:
    """execve(2): become another program. It only returns by raising.

    The event has no result: after a success, this process can't note it. The parent knows when the
    channel closes, which is close-on-exec. A second event reports a failure.

    Args:
        env: its environment; None to keep this process's.
    Raises:
        KernelError: ENOENT, EACCES, ENOEXEC, E2BIG; ENOENT also for a script whose interpreter is
            missing.
    """
    told = (path, args, f"{len(posix.environ if env is None else env)} variables")
    steps.note("execve", told, None, object="process:program")
    try:
        if env is None:
            os.execv(path, args)
        else:
            os.execve(path, args, env)
    except OSError as error:
        steps.note("execve", told, -1, error.errno or 0, object="process:program")
        raise KernelError(error.errno, error.strerror, f"execve({path})") from None
