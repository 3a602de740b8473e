"""Changes of files and directories: noted, and their errors named.

Reading needs no wrapper, since it changes nothing. Every write to /proc, /sys or a cgroup, and
everything made inside a container's root, goes through here.
"""

from __future__ import annotations

import posix

from minicontainer import steps
from minicontainer.contexts import contextmanager
from minicontainer.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_EMPTY_PATH = 0x1000
_PLAIN = frozenset(  # what no shell reads otherwise
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_"
)


@contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close *fd* at the end of a with block."""
    try:
        yield fd
    finally:
        posix.close(fd)


def open_for_writing(path: str, *, at: int | None = None) -> int:
    """Open an existing file to write to it.

    Raises:
        KernelError: ENOENT, EACCES, ELOOP for a symbolic link.
    """
    try:
        return posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=at)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"open({path})") from None


def write_open_file(
    fd: int, path: str, text: str, *, object: str | None = None, shell: str | None = None
) -> None:
    """Write *text* with one write(2).

    Args:
        fd: opened for writing;  path: its name, for the event and the error.
    Raises:
        KernelError: control files return EINVAL, EBUSY, EPERM, … here.
    """
    data = text.encode()
    steps.noted(
        "write", (path, text), lambda: posix.write(fd, data),
        object=object, shell=shell or f"echo {text.strip()!r} > {path}",
    )  # fmt: skip


def write_file(
    path: str,
    text: str,
    *,
    at: int | None = None,
    object: str | None = None,
    shell: str | None = None,
) -> None:
    """Write *text* to an existing file with one write(2): a control file takes it as one command.

    Args:
        path: the file; relative to the directory *at*, if that is given.
        at: a directory's descriptor.
    Raises:
        KernelError: of openat(2) or write(2); control files return EINVAL, EBUSY, EPERM from write.
    """
    fd = open_for_writing(path, at=at)
    try:
        write_open_file(fd, path, text, object=object, shell=shell)
    finally:
        posix.close(fd)


def read_file(path: str, *, at: int | None = None) -> str:
    """Read a whole small text file.

    Raises:
        KernelError: of openat(2) or read(2).
    """
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=at)
        try:
            parts = []
            while part := posix.read(fd, 65536):
                parts.append(part)
        finally:
            posix.close(fd)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"read({path})") from None
    return b"".join(parts).decode(errors="replace")


def shell_word(text: str) -> str:
    """Write a word of an event's command: in quotation marks, if the shell would read it otherwise.

    As shlex.quote does, which brings re with it.
    """
    if not steps.listening() or _PLAIN.issuperset(text):  # each start writes some dozens
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def make_dir(
    path: str,
    mode: int = 0o755,
    *,
    at: int | None = None,
    object: str | None = None,
    where: str = "",
) -> None:
    """mkdir(2), or mkdirat(2) below the directory *at*.

    Args:
        where: the whole path in the container, for the event alone.
    Raises:
        KernelError: EEXIST among others.
    """
    call, args = ("mkdir", (path, mode)) if at is None else ("mkdirat", (at, path, mode))
    steps.noted(
        call, args, lambda: posix.mkdir(path, mode, dir_fd=at),
        object=object or f"file:{where or path}", shell=f"mkdir {shell_word(where or path)}",
    )  # fmt: skip


def remove_dir(path: str, *, object: str | None = None) -> None:
    """rmdir(2).

    Raises:
        KernelError: ENOTEMPTY, EBUSY (a cgroup with processes), ENOENT.
    """
    steps.noted("rmdir", (path,), lambda: posix.rmdir(path), object=object, shell=f"rmdir {path}")


def make_symlink(target: str, path: str, *, at: int, where: str) -> None:
    """symlinkat(2): make the link *path*, below the directory *at*, to *target*.

    Args:
        where: the whole path in the container, for the event alone.
    Raises:
        KernelError: EEXIST among others.
    """
    steps.noted(
        "symlinkat", (target, at, path), lambda: posix.symlink(target, path, dir_fd=at),
        object=f"file:{where}", shell=f"ln -s {target} {where}",
    )  # fmt: skip


def change_owner_of(fd: int, uid: int, gid: int, *, where: str) -> None:
    """fchownat(2) of the file behind a descriptor, wherever its name leads by now.

    Args:
        fd: may be O_PATH, which fchown(2) would not take: a device need not be opened.
        uid, gid: -1 leaves that id as it is.
        where: the file's path in the container, for the event alone.
    Raises:
        KernelError: EPERM; EINVAL for an id that this user namespace does not map.
    """

    from minicontainer.kernel import libc  # here: not every command needs ctypes

    libc.call(
        "fchownat", fd, "", uid, gid, _AT_EMPTY_PATH,
        object=f"file:{where}", after=lambda: f"{uid}:{gid}".removesuffix(":-1"),
        shell=f"chown {uid}:{gid} {where}".replace(":-1", ""),
    )  # fmt: skip


def change_mode_of(fd: int, mode: int, *, where: str) -> None:
    """fchmod(2).

    Args:
        where: the file's path in the container, for the event alone.
    Raises:
        KernelError: EPERM for another user's file.
    """
    steps.noted(
        "fchmod", (fd, mode), lambda: posix.fchmod(fd, mode),
        object=f"file:{where}", after=f"{mode:o}", shell=f"chmod {mode:o} {where}",
    )  # fmt: skip


def set_attribute_of(fd: int, name: str, value: bytes, *, where: str) -> None:
    """fsetxattr(2).

    Args:
        where: the file's path in the container, for the event alone.
    Raises:
        KernelError: ENOTSUP if the filesystem has no such attributes, EPERM.
    See: xattr(7).
    """
    steps.noted(
        "fsetxattr", (fd, name, value.decode(errors="surrogateescape"), len(value), 0),
        lambda: posix.setxattr(fd, name, value),
        object=f"file:{where}", after=name,
    )  # fmt: skip


def make_link(source: str, path: str, *, source_at: int, at: int, where: str) -> None:
    """linkat(2): another name for a file; for a symbolic link, of the link itself.

    Args:
        source, source_at: the present name, and its directory;  path, at: the new one.
        where: the whole new path in the container, for the event alone.
    Raises:
        KernelError: EEXIST, EXDEV, EMLINK.
    """
    steps.noted(
        "linkat", (source_at, source, at, path, 0),
        lambda: posix.link(
            source, path, src_dir_fd=source_at, dst_dir_fd=at, follow_symlinks=False
        ),
        object=f"file:{where}", shell=f"ln {source} {where}",
    )  # fmt: skip


def remove_file(path: str, *, at: int, where: str) -> None:
    """unlinkat(2) below the directory *at*.

    Args:
        where: the whole path in the container, for the event alone.
    Raises:
        KernelError: ENOENT, EISDIR, EBUSY for a mount point.
    """
    steps.noted(
        "unlinkat", (at, path, 0), lambda: posix.unlink(path, dir_fd=at),
        object=f"file:{where}", shell=f"rm {where}",
    )  # fmt: skip


def make_node(path: str, mode: int, device: int = 0, *, at: int, where: str, shell: str) -> None:
    """mknodat(2): a device, fifo or regular file below the directory *at*.

    Args:
        where: the whole path in the container, for the event alone.
    Raises:
        KernelError: EPERM if the user namespace or the filesystem forbids devices, EEXIST.
    """
    steps.noted(
        "mknodat", (at, path, mode, device),
        lambda: posix.mknod(path, mode, device, dir_fd=at),
        object=f"file:{where}", shell=shell,
    )  # fmt: skip
