"""NOTIFY_SOCKET: a service manager learns that the container's program is ready.

systemd gives a service the path of a datagram socket, and the service writes READY=1 there. A
container can't reach it, and shall not: whoever writes there may say all kinds of things about the
service. So the program gets a socket of its own, in a directory that is mounted in the container,
and the command that started it passes that one word on.

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
# The outer directory is for root's eyes alone, the inner one is what the container sees: it is open
# to all there, and nobody else on the host shall speak, or find files of a privileged program.
_OUTER, _SHARED, _SOCKET = "notify", "notify/shared", "notify.sock"
_INSIDE = "/run/notify"  # as with runc
_OPTIONS = ("bind", "ro", "nosuid", "nodev", "noexec")
_LONGEST = 4096  # bytes of a message
_PATIENCE_S = 5  # for a service manager that is busy


def offered(bundle: Bundle, directory: str) -> Bundle:
    """Make the directory of the socket; give the bundle with what shows it to the program.

    The socket itself comes with `Relay`: a directory can be mounted before it is in there.

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
    """Say whether a container has such a directory: it does if its creator had NOTIFY_SOCKET."""
    return os.path.isdir(f"{directory}/{_SHARED}")


class Relay:
    """The program's socket, on the side of who listens.

    Args:
        directory: the container's own on the host.
        manager: NOTIFY_SOCKET: where the service manager listens; @ stands for the NUL of an
            abstract address.
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
        """Listen no longer."""
        self._socket.close()

    def wait(self, pidfd: int) -> bool:
        """Wait until the program says that it is ready; False if it ends before.

        Args:
            pidfd: of the program.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            readable = dict(poll.poll())
            if self._socket.fileno() in readable:  # looked at first: its last word may be this
                if b"READY=1" in self._socket.recv(_LONGEST).split(b"\n"):
                    return True
            elif pidfd in readable:
                return False

    def tell(self, pid: int | None) -> None:
        """Tell the service manager that the program is ready.

        Args:
            pid: the service's main process from now on; None: this one stays it.
        Raises:
            OSError: nobody listens.
        """
        text = "READY=1" if pid is None else f"READY=1\nMAINPID={pid}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.settimeout(_PATIENCE_S)  # one that reads no more must not stop us
            told.connect(self._manager)
            told.send(text.encode())
            if pid is not None:
                _wait_for_reader(told)


def _bind(made: socket.socket, directory: str) -> None:
    """Give a socket its file, for anybody's program to write to.

    Its mode is chosen before it has a name: a privileged program could put a link there between
    bind(2) and a chmod(2).
    """
    os.fchmod(made.fileno(), 0o777)
    umask = os.umask(0)
    try:
        # by a descriptor: an address has no room for more than 107 bytes, and names are long
        with files.opened(os.open(directory, os.O_PATH | os.O_DIRECTORY)) as place:
            path = f"/proc/self/fd/{place}/{_SOCKET}"
            with suppress(FileNotFoundError):
                os.unlink(path)  # of a `start` that was killed
            made.bind(path)
    finally:
        os.umask(umask)


def _wait_for_reader(told: socket.socket) -> None:
    """Wait until all that was sent has been read, for a while: sd_notify_barrier(3).

    Who a message is from is looked up when it is read: this process must not have ended by then.
    """
    reads, writes = os.pipe()
    try:
        socket.send_fds(told, [b"BARRIER=1"], [writes])
    finally:
        os.close(writes)
    poll = select.poll()
    poll.register(reads, 0)  # that it is closed at the other end is always told
    poll.poll(_PATIENCE_S * 1000)
    os.close(reads)
