"""A small process that may touch one directory, and nothing else: started, locked in, heard.

For work on files that a stranger chose. It is a fresh interpreter, not a fork: the caller has
threads, whose locks a fork would copy in whatever state they are. It costs about 25 ms.

See: chroot(2), capabilities(7), unix(7) "SCM_RIGHTS".
"""

from __future__ import annotations

import _socket  # of socket, json and subprocess the process needs little: they cost it 40 ms
import os
import sys

from minicontainer import jsontext
from minicontainer.contexts import suppress
from minicontainer.errors import Error, InvalidArgument, KernelError
from minicontainer.kernel import capabilities, mounts, namespaces, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    class Readable(Protocol):
        """What a confined process is fed with."""

        def read(self, size: int, /) -> bytes:
            """Give up to *size* bytes; none at the end."""


_LONGEST_MESSAGE = 1 << 16
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What makes files for any owner with any mode, and devices; no more.
_FOR_FILES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP",
)  # fmt: skip
_PIPE_SIZE = 1 << 20
_MOST_MEMORY = 1 << 30  # bytes: an archive must not have the host kill a process for want of it
_CHUNK = 1 << 19
_F_SETPIPE_SZ = 1031


class Child:
    """A confined process: its standard input, and what it sends back.

    Args:
        module: whose `main()` it runs.
        directory: a descriptor of the one directory that it gets.
        arguments: what `main()` finds in sys.argv behind the numbers of the directory's descriptor
            and of its end of the socket.
        speaks: its standard output is a pipe to the caller, `stdout`.
    """

    def __init__(
        self, module: str, directory: int, arguments: Iterable[object], *, speaks: bool = False
    ) -> None:
        import socket
        import subprocess

        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = list(dict.fromkeys([_PACKAGE_PARENT, *filter(None, sys.path)]))
        program = f"import sys; sys.path[:] = {paths!r}; from {module} import main; main()"
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-I", "-S", "-c", program, str(directory),
                    str(theirs.fileno()), *map(str, arguments),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if speaks else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(directory, theirs.fileno()),
                bufsize=0,
            )  # fmt: skip
        assert self._process.stdin is not None
        self.stdin = self._process.stdin.fileno()
        self.stdout = self._process.stdout.fileno() if self._process.stdout else -1
        with suppress(OSError):
            import fcntl

            fcntl.fcntl(self.stdin, _F_SETPIPE_SZ, _PIPE_SIZE)

    def feed(self, stream: Readable, see: Callable[[bytes], object] = lambda chunk: None) -> bool:
        """Pass a stream to the process's input; say whether it took all of it.

        Args:
            see: gets each piece.
        """
        try:
            while chunk := stream.read(_CHUNK):
                see(chunk)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(self.stdin, rest) :]
        except BrokenPipeError:  # it has ended, and says why
            return False
        return True

    def close_stdin(self) -> None:
        """Let the process read the end of its input."""
        if self._process.stdin:
            self._process.stdin.close()

    def receive(self) -> tuple[dict[str, Any], int]:
        """Give its next message, and the descriptor that came with it, or -1.

        Raises:
            Error: it sent an error, or ended without a word.
        """
        from socket import recv_fds

        data, fds, _, _ = recv_fds(self.channel, _LONGEST_MESSAGE, 1)
        if not data:
            raise Error(f"the confined process ended with status {self._process.wait()}")
        message: dict[str, Any] = jsontext.parse(data.decode())
        if message["what"] == "error":
            raise _raised(message)
        return message, fds[0] if fds else -1

    def end(self) -> None:
        """Take the process away, whatever it does."""
        self.close_stdin()
        if self._process.stdout:
            self._process.stdout.close()
        self.channel.close()
        self._process.kill()
        self._process.wait()


def enter(directory: int) -> None:
    """Lock this process into a directory: no path leads out, no network, few capabilities.

    Args:
        directory: its descriptor; closed.
    Raises:
        KernelError: EPERM without CAP_SYS_CHROOT and CAP_SYS_ADMIN.
    """
    process.set_name("minic:unpack")
    process.set_rlimit("RLIMIT_AS", _MOST_MEMORY, _MOST_MEMORY)
    os.umask(0)
    namespaces.unshare(namespaces.CLONE_NEWNET | namespaces.CLONE_NEWIPC)
    os.fchdir(directory)
    mounts.chroot(".")
    os.chdir("/")
    os.close(directory)
    # Whatever is still to be imported must fail, and not run code that the image brought along.
    sys.meta_path.clear()
    keep = capabilities.mask_of(_FOR_FILES) & capabilities.own_sets()["permitted"]
    capabilities.limit_bounding(keep)
    process.forbid_new_privileges()
    capabilities.set_sets(keep, keep, 0)


def channel_to_parent(fd: int) -> _socket.socket:
    """Give the process's end of the socket to its parent."""
    return _socket.socket(fileno=fd)


def tell(channel: _socket.socket, message: dict[str, Any], fd: int = -1) -> None:
    """Send the parent a message, and a descriptor with it."""
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder, signed=True))
    channel.sendmsg([jsontext.dump(message).encode()], [rights] if fd >= 0 else [])


def failure(error: BaseException, kind: str = "") -> dict[str, Any]:
    """Describe an error to the parent.

    Args:
        kind: "limit", or "" to go by the error's class.
    """
    if isinstance(error, MemoryError):
        return {"what": "error", "kind": "limit", "message": "it takes more memory than is allowed"}
    if isinstance(error, OSError):
        text, call = error.strerror or str(error), str(error.filename or "")
        return {"what": "error", "errno": error.errno, "message": text, "call": call}
    kind = kind or ("invalid" if isinstance(error, InvalidArgument) else "")
    said = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"
    return {"what": "error", "kind": kind, "message": said}


class LimitExceeded(Error):
    """An archive has more than is allowed: it may be made to fill the disk."""


def _raised(message: dict[str, Any]) -> Error:
    if "errno" in message:
        return KernelError(message["errno"], message["message"], message["call"])
    kinds = {"limit": LimitExceeded, "invalid": InvalidArgument}
    return kinds.get(message["kind"], Error)(message["message"])
