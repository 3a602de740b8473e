"""Other processes: opened by a descriptor, signalled, waited for.

This uses Python's own functions, without ctypes: many commands need no more, and the import takes
1 ms. A process's own attributes are in `process`.

See: pidfd_open(2), pidfd_send_signal(2), proc_pid_stat(5), wait(2).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as in `signals`
import posix
import select
from errno import EINVAL, ESRCH

from minicontainer import steps
from minicontainer.errors import KernelError

_MOST_OF_STAT = 4096  # bytes: 52 numbers and a name of at most 64


def pidfd_open(pid: int) -> int:
    """Open a process: the descriptor refers to it even when another process has its number.

    Raises:
        KernelError: ESRCH if there is no such process.
    """
    try:
        return posix.pidfd_open(pid)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"pidfd_open({pid}, 0)") from None
    except OverflowError:  # from an edited state file: no process has such a number
        raise KernelError(ESRCH, posix.strerror(ESRCH), f"pidfd_open({pid}, 0)") from None


def pidfd_send_signal(pidfd: int, number: int, pid: int = 0) -> None:
    """Send a signal to exactly that process.

    Args:
        pid: its number, for the event alone.
    Raises:
        KernelError: ESRCH when it has ended, EPERM.
    """
    steps.noted(
        "pidfd_send_signal", (pidfd, number, None, 0),
        lambda: _signal.pidfd_send_signal(pidfd, number),
        object=f"process:{pid}" if pid else None, shell=f"kill -{number} {pid}" if pid else None,
    )  # fmt: skip


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Copy a descriptor of another process, close-on-exec.

    Raises:
        KernelError: EBADF if it has no such descriptor, ESRCH when it has ended, EPERM for a
            process that this one may not trace: a non-dumpable one (PR_SET_DUMPABLE) without
            CAP_SYS_PTRACE.
    See: pidfd_getfd(2).
    """
    from minicontainer.kernel import libc  # rarely needed, and 1 ms

    return libc.quiet_call("pidfd_getfd", pidfd, fd, 0)


def start_time(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None when it has ended.

    A number is used again for another process; the pair of number and start time is not. A zombie
    has ended: it only waits until its parent reads its status. See: proc_pid_stat(5).
    """
    try:
        fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            text = posix.read(fd, _MOST_OF_STAT)
        finally:
            posix.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # after the name, which is in brackets and may contain anything
    fields = text.rpartition(b")")[2].split()
    return None if fields[0] in b"ZX" else int(fields[19])


def open_same(pid: int, started: int) -> int | None:
    """Open the process that had *pid* and began at *started*; return None when it has ended.

    Returns:
        A pidfd. It is opened first and checked then: it can't become another process's later.
    """
    try:
        pidfd = pidfd_open(pid)
    except KernelError as error:
        if error.errno in (ESRCH, EINVAL):  # EINVAL: the number is a thread's by now
            return None
        raise
    try:
        same = start_time(pid) == started
    except OSError:  # EMFILE
        posix.close(pidfd)
        raise
    if same:
        return pidfd
    posix.close(pidfd)
    return None


def kill_group(pid: int) -> None:
    """Kill a process group, by the number of its leader: kill(2).

    Only for a child that was not waited for yet: until then, no other process gets its number.
    """
    steps.noted(
        "kill", (-pid, "SIGKILL"), lambda: posix.killpg(pid, _signal.SIGKILL),
        object=f"process:{pid}",
        shell=f"kill -KILL -- -{pid}",
    )  # fmt: skip


def wait_gone(pidfd: int, timeout_s: float) -> bool:
    """Wait for any process to end; report whether it did: pidfd_open(2), "poll"."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def wait_exit(pid: int) -> int:
    """Wait for a child to end; return its exit status, 128+N if signal N killed it."""
    _, status = posix.waitpid(pid, 0)
    return exit_status(status)


def exit_status(wait_status: int) -> int:
    """Turn a wait status into what a shell shows as $?."""
    code = posix.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
