"""Paths that stay in a root: resolved by the kernel, and used as descriptors.

A container's tree is under the container's control: it may hold a symbolic link to anywhere, and
another container that shares a volume may replace a directory by one between two of our calls. So a
path in it is never used as a string twice. The kernel resolves it once, inside the root, and the
result is used by its descriptor.

See: openat2(2); CVE-2019-18837, CVE-2021-30465, CVE-2024-45310.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from minicontainer.errors import KernelError, shortened
from minicontainer.kernel import files, libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC  # to open one as a place to look from

_MOST_LINKS = 40  # as many as the kernel follows: path_resolution(7)
_MOST_TRIES = 128
_LONGEST_FILE = 4 << 20  # bytes that are read of an image's file


class Root:
    """A directory used as a root, and its path on the host.

    Args:
        fd: its descriptor.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.path = _name_of(fd)

    def inside(self, fd: int) -> str:
        """Return the path of a descriptor's file, as a process in this root would see it.

        This is where the file is now, and not the path that was opened: a link may have led there.
        """
        return "/" + _name_of(fd).removeprefix(self.path).lstrip("/")


def _name_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


class _OpenHow(ctypes.Structure):
    """Struct open_how of linux/openat2.h."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(dir_fd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open *path* below *dir_fd* under the rules of *resolve*.

    Raises:
        KernelError: ENOENT, ELOOP (a link that *resolve* forbids), EAGAIN (a race with a rename).
    See: openat2(2).
    """
    how = _OpenHow(flags=flags | os.O_CLOEXEC, mode=mode, resolve=resolve)
    try:
        return libc.quiet_call("openat2", dir_fd, path, how, ctypes.sizeof(how))
    except KernelError as error:
        raise KernelError(error.errno, error.strerror, f"openat2({shortened(path)})") from None


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, resolve: int = 0) -> int:
    """Open *path* as a process with *root_fd* as its root directory would find it.

    Absolute links and `..` stay inside; magic links of /proc, which could lead out, are refused.

    Args:
        root_fd: the root's directory.
        flags: of open(2); O_PATH opens any kind of file, as a place to mount on.
        resolve: more RESOLVE_… rules, such as RESOLVE_NO_SYMLINKS.
    """
    for _ in range(_MOST_TRIES):
        try:
            return openat2(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve)
        except KernelError as error:
            # With RESOLVE_IN_ROOT, a `..` may meet a rename that happens meanwhile. The kernel then
            # can't tell whether it stayed inside, and asks to try again.
            if error.errno != errno.EAGAIN:
                raise
    raise KernelError(errno.EAGAIN, os.strerror(errno.EAGAIN), f"openat2({shortened(path)})")


def read_in_root(root_fd: int, path: str) -> str:
    """Read a text file of an image, inside that root; return "" if it is not a regular file.

    Reading a fifo would wait, a device may have no end, and opening one can have any effect. So the
    file is checked before it is opened, and again afterwards, since it may have been replaced.

    Args:
        root_fd: the root's directory.
    """
    fds: list[int] = []
    try:
        for flags in (os.O_PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY):
            fds.append(open_in_root(root_fd, path, flags))
            if not stat.S_ISREG(os.fstat(fds[-1]).st_mode):
                return ""
        return os.read(fds[-1], _LONGEST_FILE).decode(errors="replace")
    except KernelError:
        return ""
    finally:
        for fd in fds:
            os.close(fd)


def make_in_root(root_fd: int, path: str, *, directory: bool, follow: bool = True) -> int:
    """Open *path* inside the root; make the parts that are missing.

    Links on the way are followed inside the root, also to a path that does not exist yet: the
    missing parts are made where the link leads.

    Args:
        directory: make the last part as a directory, otherwise as an empty file.
        follow: follow a link at the path's end; otherwise open the link itself.
    Returns:
        An O_PATH descriptor of the last part.
    Raises:
        KernelError: ELOOP, ENOTDIR, EROFS and other errors of mkdirat(2) and mknodat(2).
    """
    flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
    try:
        return open_in_root(root_fd, path, flags)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    todo = _parts(path)
    made = _make_last(root_fd, todo, flags, directory=directory)
    if made is not None:
        return made
    done: list[str] = []
    links = 0
    while todo:
        name = todo.pop(0)
        if name == "..":
            del done[-1:]
            continue
        parent = open_in_root(root_fd, "/".join(done) or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            where = "/" + "/".join([*done, name])
            target = _link_or_make(parent, name, where, directory=directory or bool(todo))
        finally:
            os.close(parent)
        if target is None:
            done.append(name)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise KernelError(errno.ELOOP, os.strerror(errno.ELOOP), f"resolve {shortened(path)}")
        if target.startswith("/"):
            done = []
        todo = _parts(target) + todo
    return open_in_root(root_fd, "/".join(done) or ".", flags)


def make_file_in(directory: int, name: str, *, where: str) -> int:
    """Open the file *name* of a directory as a place to mount on; make it if it is missing.

    Args:
        directory: opened before; no link in it is followed.
        where: the whole path in the container, for the event alone.
    Returns:
        An O_PATH descriptor.
    Raises:
        KernelError: ELOOP if there is a symbolic link of that name.
    """
    resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
    try:
        return openat2(directory, name, os.O_PATH, resolve)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    _make(directory, name, where, directory=False)
    return openat2(directory, name, os.O_PATH, resolve)


def make_plain_in_root(root_fd: int, path: str, *, directory: bool) -> int:
    """Open *path* inside the root, without following any link; make the parts that are missing.

    The directory that was checked is the one that is opened: between a check and a second lookup,
    another container with the same root could put a link there.

    Raises:
        KernelError: ELOOP for a symbolic link, and as `make_in_root`.
    """
    # not O_NOFOLLOW: with O_PATH that opens a link at the end, instead of refusing it
    try:
        return open_in_root(root_fd, path, resolve=RESOLVE_NO_SYMLINKS)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    os.close(make_in_root(root_fd, path, directory=directory))
    return open_in_root(root_fd, path, resolve=RESOLVE_NO_SYMLINKS)


def _make_last(root_fd: int, parts: list[str], flags: int, *, directory: bool) -> int | None:
    """Make and open the last part, if only that is missing and there is no link.

    This is the usual case, and takes half as many calls.
    """
    if ".." in parts:
        return None
    above, name = "/".join(parts[:-1]) or ".", parts[-1]
    try:
        parent = open_in_root(root_fd, above, os.O_PATH | os.O_DIRECTORY, RESOLVE_NO_SYMLINKS)
    except KernelError:
        return None
    with files.opened(parent):
        if not _make(parent, name, f"/{'/'.join(parts)}", directory=directory):
            return None  # a link to nowhere; or another process made it
        return openat2(parent, name, flags, RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _link_or_make(parent: int, name: str, where: str, *, directory: bool) -> str | None:
    """Return the target if *name* in *parent* is a link; make it if it is missing."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        _make(parent, name, where, directory=directory)
        return None
    if stat.S_ISLNK(found.st_mode):
        return os.readlink(name, dir_fd=parent)
    return None


def _make(parent: int, name: str, where: str, *, directory: bool) -> bool:
    """Make a directory or an empty file; report whether it was missing."""
    try:
        if directory:
            files.make_dir(name, at=parent, where=where)
        else:
            mode = 0o644 | stat.S_IFREG
            shell = f"touch {files.shell_word(where)}"
            files.make_node(name, mode, at=parent, where=where, shell=shell)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def is_directory(fd: int) -> bool:
    """Report whether a descriptor is a directory's."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def is_device(fd: int, major: int, minor: int) -> bool:
    """Report whether a descriptor is that character device's."""
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(major, minor)


def open_device(root_fd: int, path: str, major: int, minor: int) -> int | None:
    """Open a character device inside the root, for reading and writing, if it is the expected one.

    It is checked twice: opening another device could have an effect by itself, and the file may
    have been replaced after the first check.

    Returns:
        None if it is another file.
    Raises:
        KernelError: ENOENT, ENOTDIR, EACCES on a mount that is nodev.
    """
    with files.opened(open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW)) as seen:
        if not is_device(seen, major, minor):
            return None
    # not blocking: another terminal could wait for its modem
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = open_in_root(root_fd, path, flags)
    if not is_device(fd, major, minor):
        os.close(fd)
        return None
    os.set_blocking(fd, True)
    return fd
