"""tmpcopyup: a tmpfs that starts with a copy of the directory below it.

Both trees are walked by descriptor, and no link is followed: another container may change the
source meanwhile. The copy then has the old file or the new one, and never a file from elsewhere.

See: openat(2), sendfile(2), xattr(7); the option is runc's and crun's.
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.errors import KernelError
from minicontainer.kernel import files, paths

_PIECE = 1 << 24  # bytes for one call
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HERE = paths.RESOLVE_NO_XDEV | paths.RESOLVE_BENEATH  # do not cross into other mounts
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: int, target: int, where: str, *, keep_mode: bool) -> None:
    """Copy a directory's contents, with owners, modes, times, attributes, links and devices.

    A mount below the source is not copied: its mount point becomes an empty directory.

    Args:
        source: the directory's descriptor; O_PATH is enough.
        target: an empty directory that no other process sees yet.
        where: its path in the container, for events and errors.
        keep_mode: keep the target's own mode, which the mount's options set.
    Raises:
        KernelError: ENOSPC if the tmpfs is too small, and others.
    """
    try:
        with (
            files.opened(_reopened(source, os.O_DIRECTORY, where)) as directory,
            files.opened(_reopened(target, os.O_DIRECTORY, where)) as top,
        ):
            mode = stat.S_IMODE(os.fstat(top).st_mode)
            _Copy(top).directory(directory, top, where)
            if keep_mode:
                files.change_mode_of(top, mode, where=where)
    except KernelError:
        raise
    except OSError as error:
        name = error.filename or "a file"
        raise KernelError(error.errno, error.strerror, f"tmpcopyup to {where}: {name}") from None


def _reopened(fd: int, flags: int, where: str) -> int:
    """Open the file of a descriptor again, for reading: no name is looked up again."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"tmpcopyup: open({where})") from None


class _Copy:
    """One copy, and the files with several names that it has met.

    Args:
        top: the target.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._met: dict[tuple[int, int], str] = {}  # the path of the first name below the top

    def directory(self, source: int, target: int, where: str, below: str = "") -> None:
        """Copy an open directory into another one.

        Args:
            below: the target's path below the top.
        """
        for name in os.listdir(source):
            try:
                there = paths.openat2(source, name, _LOOK, _HERE)
            except KernelError as error:
                if error.errno == errno.EXDEV:
                    _make_place(source, target, name, where)
                elif error.errno != errno.ENOENT:  # it was removed meanwhile
                    raise
                continue
            with files.opened(there):
                self._entry(there, target, name, where, below)
        _copy_attributes(source, target, where)

    def _entry(self, source: int, parent: int, name: str, above: str, below: str) -> None:
        found, where, place = os.fstat(source), f"{above}/{name}", os.path.join(below, name)
        kind = stat.S_IFMT(found.st_mode)
        first = self._met.get((found.st_dev, found.st_ino))
        if kind == stat.S_IFDIR:
            files.make_dir(name, at=parent, where=where)
            with (
                files.opened(_reopened(source, os.O_DIRECTORY, where)) as directory,
                files.opened(os.open(name, _DIRECTORY, dir_fd=parent)) as made,
            ):
                self.directory(directory, made, where, place)
            return
        if first is not None:
            files.make_link(first, name, source_at=self._top, at=parent, where=where)
            return
        if kind == stat.S_IFREG:
            _copy_file(source, parent, name, where)
        else:
            _copy_special(source, parent, name, where)
        if found.st_nlink > 1:
            self._met[found.st_dev, found.st_ino] = place


def _make_place(source: int, parent: int, name: str, above: str) -> None:
    """Make an empty directory or file for a mount point: the mount on it is not copied."""
    mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
    where = f"{above}/{name}"
    if stat.S_ISDIR(mode):
        files.make_dir(name, at=parent, where=where)
    else:
        mode = 0o644 | stat.S_IFREG
        files.make_node(name, mode, at=parent, where=where, shell=f"touch {where}")


def _copy_file(source: int, parent: int, name: str, where: str) -> None:
    with (
        files.opened(_reopened(source, 0, where)) as read,
        files.opened(os.open(name, _NEW, 0o600, dir_fd=parent)) as made,
    ):
        while os.sendfile(made, read, None, _PIECE):
            pass
        _copy_attributes(read, made, where)


def _copy_special(source: int, parent: int, name: str, where: str) -> None:
    """Copy a symbolic link, a device, a fifo or a socket."""
    found = os.fstat(source)
    if stat.S_ISLNK(found.st_mode):
        files.make_symlink(os.readlink("", dir_fd=source), name, at=parent, where=where)
    else:
        files.make_node(
            name, found.st_mode, found.st_rdev, at=parent, where=where,
            shell=f"mknod -m {stat.S_IMODE(found.st_mode):o} {where}",
        )  # fmt: skip
    with files.opened(os.open(name, _LOOK, dir_fd=parent)) as made:
        _copy_owner(made, found, where)
    times = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def _copy_attributes(source: int, target: int, where: str) -> None:
    """Copy owner, mode, extended attributes and times; each call would reset those after it."""
    found = os.fstat(source)
    _copy_owner(target, found, where)
    # chown(2) clears set-user-ID, and a write clears file capabilities
    files.change_mode_of(target, stat.S_IMODE(found.st_mode), where=where)
    for name in os.listxattr(source):
        try:
            files.set_attribute_of(target, name, os.getxattr(source, name), where=where)
        # tmpfs does not have such attributes, or only the host's root may set them
        except KernelError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _copy_owner(target: int, found: os.stat_result, where: str) -> None:
    if (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid()):
        return
    try:
        files.change_owner_of(target, found.st_uid, found.st_gid, where=where)
    except KernelError as error:  # an owner that this user namespace does not map
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
