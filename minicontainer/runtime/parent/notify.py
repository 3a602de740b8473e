"""NOTIFY_SOCKET: tell a service manager that the container's program is ready.

systemd gives a service the path of a datagram socket, and the service writes READY=1 there. A
container can't reach it, and must not: a writer can claim many other things about the service. So
the program gets a socket of its own, in a directory that is mounted in the container, and the
command that started it passes on that one message.

    program                          start, run                        service manager
      │ READY=1                        │ binds notify.sock in DIR/notify │
      │ /run/notify/notify.sock ─────► │                                 │
                                       │ READY=1, MAINPID=… ───────────► │ $NOTIFY_SOCKET
                                       │ BARRIER=1, and a pipe ────────► │ closes it: has read all

See: sd_notify(3); systemd.service(5), "Type=notify"; unix(7).
"""

from __future__ import annotations

import os
import select
import socket

from minicontainer import steps
from minicontainer.contexts import suppress
from minicontainer.errors import KernelError
from minicontainer.kernel import files
from minicontainer.runtime.config.spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.config.spec import Bundle

VARIABLE = "NOTIFY_SOCKET"
# Only root can enter the outer directory. The container sees the inner one, which every user may
# enter there; so on the host no other user can send a message, or use files of a privileged
# program.
_OUTER, _SHARED, _SOCKET = "notify", "notify/shared", "notify.sock"
_INSIDE = "/run/notify"  # as with runc
_OPTIONS = ("bind", "ro", "nosuid", "nodev", "noexec")
_LONGEST = 4096  # bytes of a message
_PATIENCE_S = 5  # seconds for a service manager that is busy


def offered(bundle: Bundle, directory: str) -> Bundle:
    """Make the directory of the socket; return the bundle with a mount that shows it to the
    program.

    The socket itself comes later, with `Relay`: the mounted directory then has it.

    Args:
        directory: the container's own on the host.
    Raises:
        KernelError: it can't be made.
    """
    files.make_dir(f"{directory}/{_OUTER}", 0o700)
    source = f"{directory}/{_SHARED}"
    files.make_dir(source)
    steps.noted(  # whatever the umask: the program's user must reach the socket
        "chmod", (source, 0o755), lambda: os.chmod(source, 0o755),
        object=f"file:{source}", after="755", shell=f"chmod 755 {source}",
    )  # fmt: skip
    spec = bundle.spec
    process = spec.process.replace(env=(*spec.process.env, f"{VARIABLE}={_INSIDE}/{_SOCKET}"))
    mount = Mount(destination=_INSIDE, type="bind", source=source, options=_OPTIONS)
    return bundle.replace(spec=spec.replace(process=process, mounts=(*spec.mounts, mount)))


def is_offered(directory: str) -> bool:
    """Report whether a container has such a directory: its creator then had NOTIFY_SOCKET."""
    return os.path.isdir(f"{directory}/{_SHARED}")


class Relay:
    """The receiving side of the program's socket.

    Args:
        directory: the container's own on the host.
        manager: NOTIFY_SOCKET, the service manager's socket; @ stands for the NUL of an abstract
            address.
    Raises:
        KernelError: the socket can't be made there.
    """

    def __init__(self, directory: str, manager: str) -> None:
        self._manager = "\0" + manager[1:] if manager[:1] == "@" else manager
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            _bind(self._socket, f"{directory}/{_SHARED}")
        except OSError as error:
            self._socket.close()
            raise KernelError(
                error.errno, error.strerror, f"bind {directory}/{_SHARED}/{_SOCKET}"
            ) from None

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def wait(self, pidfd: int) -> bool:
        """Wait until the program reports that it is ready; return False if it ends before.

        Args:
            pidfd: of the program.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            readable = dict(poll.poll())
            # checked first: the message may have come just before the end
            if self._socket.fileno() in readable:
                if b"READY=1" in self._socket.recv(_LONGEST).split(b"\n"):
                    return True
            elif pidfd in readable:
                return False

    def tell(self, pid: int | None) -> None:
        """Tell the service manager that the program is ready.

        Args:
            pid: the service's main process from now on; None to keep this one.
        Raises:
            OSError: no process listens.
        """
        text = "READY=1" if pid is None else f"READY=1\nMAINPID={pid}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.settimeout(_PATIENCE_S)  # a manager that reads no more must not stop this process
            told.connect(self._manager)
            told.send(text.encode())
            if pid is not None:
                _wait_for_reader(told)


def _bind(made: socket.socket, directory: str) -> None:
    """Bind a socket to its file, which programs of any user may write to.

    Its mode is set before it has a name: between bind(2) and chmod(2), a privileged program could
    put a link there.
    """
    os.fchmod(made.fileno(), 0o777)
    umask = os.umask(0)
    try:
        # by a descriptor: an address has room for 107 bytes only, and names are long
        with files.opened(os.open(directory, os.O_PATH | os.O_DIRECTORY)) as place:
            path = f"/proc/self/fd/{place}/{_SOCKET}"
            with suppress(FileNotFoundError):
                os.unlink(path)  # left by a `start` that was killed
            made.bind(path)
    finally:
        os.umask(umask)


def _wait_for_reader(told: socket.socket) -> None:
    """Wait until the manager has read everything, for a limited time: sd_notify_barrier(3).

    The manager looks up the sender of a message when it reads it, so this process must not end
    before.
    """
    reads, writes = os.pipe()
    try:
        socket.send_fds(told, [b"BARRIER=1"], [writes])
    finally:
        os.close(writes)
    poll = select.poll()
    poll.register(reads, 0)  # the end of the other side is always reported
    poll.poll(_PATIENCE_S * 1000)
    os.close(reads)
