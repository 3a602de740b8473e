"""The listener of a filter: taken from the process under the filter, and sent to the agent.

A call that the filter sends to its listener waits until the agent answers it. Any call may be one
of them: also the calls by which the process could send the listener, report it, or wait. So the
runtime, which has no filter, copies the listener by pidfd; and the process waits without a system
call, for a byte in memory that both share.

    init                                        runtime
      │ Filtering: the numbers of descriptors ──► │ connects to the socket
      │ ◄───────────────────────────────────── Go │
      │ seccomp(): the listener is there          │ tries until it is there, or init has failed
      │ looks at the byte                         │ sends it with the state
      │ ◄────────────────────────────── (a byte)  │
      │ goes on, or waits in a call               │

It must wait: execve(2) closes the listener, and without another copy every call for the agent would
fail with ENOSYS.

See: seccomp_unotify(2), pidfd_getfd(2); runtime-spec config-linux.md "Seccomp", "The Container
Process State".
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
import struct
import time

from minicontainer import jsontext
from minicontainer.contexts import ExitStack
from minicontainer.errors import InitError, KernelError
from minicontainer.kernel import pidfds, seccomp, terminal
from minicontainer.runtime.container.state import OCI_VERSION
from minicontainer.runtime.sync import Filtering, Go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.kernel.seccomp import Seccomp
    from minicontainer.runtime.container.state import State
    from minicontainer.runtime.sync import Channel

_PATIENCE_S = 10  # seconds for the agent to take it
_GLANCE_MS = 1  # between two tries: the end of a call in another process can't be waited for
_EXIT_NOT_STARTED = 125


# --- by the container's first process, or by exec's ----------------------------------------------


def load_filter(channel: Channel, profile: Seccomp, program: bytes, flags: int) -> mmap.mmap:
    """Load a filter that has a listener, and wait until the runtime has the listener too.

    Args:
        channel: to the runtime.
        program, flags: as for `seccomp.load`.
    Returns:
        what must be kept until execve(2): to free it would take system calls.
    """
    byte_fd = os.memfd_create("listener")
    os.ftruncate(byte_fd, 1)
    taken = mmap.mmap(byte_fd, 1)
    fd = os.dup(byte_fd)  # the listener will get this number, the lowest that is free
    os.close(fd)
    channel.send(
        Filtering(
            fd=fd,
            byte_fd=byte_fd,
            listener_path=profile.listener_path or "",
            metadata=profile.listener_metadata or "",
        )
    )
    if not isinstance(channel.receive(), Go):
        raise InitError("the runtime has given up")
    seccomp.load(program, flags)
    # not a system call either: the vDSO has the clock
    deadline = time.monotonic() + 3 * _PATIENCE_S
    while not taken[0]:
        if time.monotonic() > deadline:
            os._exit(_EXIT_NOT_STARTED)  # the runtime is gone
    return taken


# --- by the runtime ------------------------------------------------------------------------------


def hand_over(asked: Filtering, channel: Channel, pid: int, state: State, status: str) -> None:
    """Take a process's listener and send it to the agent's socket.

    If there will be none, since the process has ended or failed, this does nothing: the channel
    says why.

    Args:
        channel: to the process;  pid: its number.
        state: the container's;  status: its status now.
    Raises:
        KernelError: no agent listens at the socket; or this process may not access the other.
    """
    # Only a child of this process is certain to keep its number until it is waited for.
    is_child = pid != state.pid
    pidfd = pidfds.pidfd_open(pid) if is_child else pidfds.open_same(pid, state.pid_started)
    if pidfd is None:
        return
    told: dict[str, object] = {"ociVersion": OCI_VERSION, "fds": ["seccompFd"], "pid": pid}
    if asked.metadata:
        told["metadata"] = asked.metadata
    told["state"] = state.as_oci(status, state.pid)
    with ExitStack() as stack:
        stack.callback(os.close, pidfd)
        try:
            sock = stack.enter_context(_connected(asked.listener_path))
            byte_fd = _copy(pidfd, asked.byte_fd)
            stack.callback(os.close, byte_fd)
            channel.send(Go())
            fd = _wait_for(pidfd, asked.fd, channel)
            if fd is not None:
                stack.callback(os.close, fd)
                terminal.send_descriptor(sock, fd, jsontext.dump(told))
                os.pwrite(byte_fd, b"\1", 0)
        except KernelError:
            raise
        except OSError as error:
            raise _refusal(error, asked.listener_path) from None


def check_agent(path: str) -> None:
    """Check that an agent listens at the socket, without the agent noticing.

    This uses a socket of the wrong type: the kernel finds the one with that path before it compares
    the types. The agent would take a connection for a container's, and wait at it until that
    starts.

    Raises:
        KernelError: no such file, or no process has it open. See: connect(2) EPROTOTYPE.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise _refusal(error, path) from None


def _refusal(error: OSError, path: str) -> KernelError:
    why = error.strerror or str(error)  # for example, the path is too long
    if error.errno == errno.EAGAIN:
        why = f"nobody has taken the filter's listener for {_PATIENCE_S} s"
    return KernelError(error.errno, why, f"linux.seccomp.listenerPath {path}")


def _connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    # The kernel's timeout, not Python's: with that the socket does not block, and a queue that is
    # full for a moment would be an error at once. See: unix(7) "EAGAIN", socket(7) "SO_SNDTIMEO".
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _PATIENCE_S, 0))
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _wait_for(pidfd: int, fd: int, channel: Channel) -> int | None:
    """Copy a descriptor once it is there; return None if a message comes instead."""
    poll = select.poll()
    poll.register(channel.reads, select.POLLIN)
    while True:
        # checked first, so that this try sees everything that happened before the message
        is_last = bool(poll.poll(_GLANCE_MS))
        try:
            return _copy(pidfd, fd)
        except KernelError as error:
            if error.errno not in (errno.EBADF, errno.ESRCH):
                raise
            if is_last or error.errno == errno.ESRCH:
                return None


def _copy(pidfd: int, fd: int) -> int:
    try:
        return pidfds.pidfd_getfd(pidfd, fd)
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        raise KernelError(
            error.errno,
            "the filter's listener can't be taken from the container: needs CAP_SYS_PTRACE",
            error.filename,
        ) from None
