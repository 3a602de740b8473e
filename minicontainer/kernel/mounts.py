"""Mounts: the old calls, and the new ones.

The new calls (fsopen, fsmount, open_tree, mount_setattr, move_mount; Linux 5.2 to 5.12) use
descriptors: a mount is prepared while no process can see it, and then attached to a place that was
opened before. The old mount(2) takes paths, which may lead elsewhere from one moment to the next.

See: mount(2), mount_setattr(2), mount_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os

from minicontainer.contexts import suppress
from minicontainer.errors import KernelError
from minicontainer.kernel import libc
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 0x1
FSMOUNT_CLOEXEC = 0x1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70  # a field, not a flag: 0 is relatime
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

AT_FDCWD = -100

# The new calls and mount(2) pass options differently. fsconfig(2) takes each option by itself, with
# a value of up to 255 bytes; mount(2) takes one page with all of them, separated by commas.
LONGEST_FSCONFIG = 255
LONGEST_DATA = os.sysconf("SC_PAGESIZE") - 1
_OLD_FLAGS = {
    "ro": MS_RDONLY,
    "sync": MS_SYNCHRONOUS,
    "dirsync": MS_DIRSYNC,
    "mand": MS_MANDLOCK,
    "lazytime": MS_LAZYTIME,
}
_OLD_ATTRIBUTES = {
    MOUNT_ATTR_RDONLY: MS_RDONLY,
    MOUNT_ATTR_NOSUID: MS_NOSUID,
    MOUNT_ATTR_NODEV: MS_NODEV,
    MOUNT_ATTR_NOEXEC: MS_NOEXEC,
    MOUNT_ATTR_NOATIME: MS_NOATIME,
    MOUNT_ATTR_STRICTATIME: MS_STRICTATIME,
    MOUNT_ATTR_NODIRATIME: MS_NODIRATIME,
    MOUNT_ATTR_NOSYMFOLLOW: MS_NOSYMFOLLOW,
}


class Attributes(Record):
    """Attributes to set and to clear: MOUNT_ATTR_… bits."""

    set: int = 0
    clear: int = 0

    def then(self, set: int, clear: int) -> Attributes:
        """Add a later word, which wins over earlier ones, as in mount(8)."""
        return Attributes(set=self.set & ~clear | set, clear=self.clear & ~set | clear)


class _MountAttr(ctypes.Structure):
    """Struct mount_attr of linux/mount.h."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount(
    source: str | None,
    target: str,
    fstype: str | None,
    flags: int,
    data: str | None = None,
    *,
    where: str = "",
    shell: str | None = None,
) -> None:
    """mount(2), the old call: for what the new ones can't do.

    Args:
        source, fstype, data: None if this kind of mount does not use it.
        flags: MS_… bits.
        where: the place's name, if *target* does not tell it; for the event alone.
    Raises:
        KernelError: EPERM, EBUSY, ENODEV (no such filesystem), EINVAL.
    """
    libc.call(
        "mount", source, target, fstype, flags, data,
        object=f"mount:{where or target}", shell=shell,
    )  # fmt: skip


def old_flags(flags: Iterable[str], attributes: int) -> int:
    """Turn the words for a filesystem, and a mount's attributes, into the flags of mount(2)."""
    found = 0
    for word in flags:
        found |= _OLD_FLAGS[word]
    for bit, flag in _OLD_ATTRIBUTES.items():
        found |= flag if attributes & bit else 0
    return found


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2).

    Raises:
        KernelError: EINVAL if *target* is not a mount point, EBUSY without MNT_DETACH.
    """
    libc.call(
        "umount2", target, flags,
        object=f"mount:{target}", shell=f"umount {'-l ' if flags & MNT_DETACH else ''}{target}",
    )  # fmt: skip


def pivot_root(new_root: str, put_old: str) -> None:
    """Make *new_root* the root of this mount namespace; the old root appears at *put_old*.

    Unlike chroot(2), this changes the mount tree itself. Once the old root is unmounted, neither
    `..` nor an open descriptor leads back to it.

    Raises:
        KernelError: EINVAL if *new_root* is not a mount point, or its parent mount is shared.
    See: pivot_root(2).
    """
    libc.call(
        "pivot_root", new_root, put_old,
        object="mount:/", shell=f"pivot_root {new_root} {put_old}",
    )  # fmt: skip


def chroot(path: str) -> None:
    """chroot(2): change where "/" is for this process, and not the mount tree.

    Raises:
        KernelError: EPERM without CAP_SYS_CHROOT.
    """
    libc.call("chroot", path, shell=f"chroot {path}")


def open_tree(
    path: str, *, recursive: bool = False, at: int = AT_FDCWD, follow: bool = True
) -> int:
    """Copy the mount at *path*, detached from every mount namespace: the first part of a bind
    mount.

    Args:
        path: what to bind; "" for the descriptor *at* itself.
        recursive: with the mounts below it.
        follow: a symbolic link at the path's end; otherwise the link itself is copied.
    Returns:
        A descriptor for `mount_setattr` and `move_mount`.
    See: open_tree(2).
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    flags |= AT_RECURSIVE if recursive else 0
    flags |= AT_EMPTY_PATH if path == "" else 0
    flags |= 0 if follow else AT_SYMLINK_NOFOLLOW
    return libc.call("open_tree", at, path, flags)


def new_filesystem(
    fstype: str,
    source: str,
    flags: Iterable[str] = (),
    data: Iterable[str] = (),
    attributes: int = 0,
) -> int:
    """Make a filesystem and a detached mount of it.

    Args:
        fstype: as in /proc/filesystems.
        source: the device that mountinfo will show.
        flags: words for the filesystem;  data: `key=value` or single words.
        attributes: MOUNT_ATTR_… bits of the mount.
    Returns:
        A descriptor for `move_mount`.
    Raises:
        KernelError: ENODEV (no such filesystem), EINVAL (an unknown option), EPERM (not permitted
            in this user namespace).
    See: fsopen(2), fsconfig(2), fsmount(2).
    """
    context = libc.call("fsopen", fstype, FSOPEN_CLOEXEC)
    try:
        if source:
            libc.call("fsconfig", context, FSCONFIG_SET_STRING, "source", source, 0)
        return finish_filesystem(context, (*flags, *data), attributes)
    finally:
        os.close(context)


def finish_filesystem(context: int, words: Iterable[str], attributes: int = 0) -> int:
    """Set the last options of a filesystem that is being made; make it, and a mount of it.

    Args:
        context: from fsopen(2); it stays open.
        words: `key=value` or single words.
        attributes: MOUNT_ATTR_… bits of the mount.
    Returns:
        A descriptor for `move_mount`.
    Raises:
        KernelError: as `new_filesystem`.
    """
    try:
        for word in words:
            key, equals, value = word.partition("=")
            if equals:
                libc.call("fsconfig", context, FSCONFIG_SET_STRING, key, value, 0)
            else:
                libc.call("fsconfig", context, FSCONFIG_SET_FLAG, key, None, 0)
        libc.call("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)
        return libc.call("fsmount", context, FSMOUNT_CLOEXEC, attributes)
    except KernelError as error:
        raise told_by(context, error) from None


def told_by(context: int, error: KernelError) -> KernelError:
    """Return the error with the kernel's own message about the refused context, if it has one."""
    return KernelError(error.errno, _told_by(context) or error.strerror, error.filename)


def _told_by(context: int) -> str:
    """Read the kernel's own message about a refusal: lines such as "e tmpfs: Bad value for 'x'"."""
    with suppress(OSError):  # ENODATA: no message
        return os.read(context, 1024).decode(errors="replace").strip().partition(" ")[2]
    return ""


def mount_setattr(
    mount_fd: int,
    attributes: Attributes,
    *,
    propagation: int = 0,
    recursive: bool = False,
    userns_fd: int = 0,
) -> None:
    """Change the attributes or the propagation of one mount, or of a whole tree at once.

    Args:
        mount_fd: of the mount's root.
        propagation: MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, without MS_REC; 0 for no
            change.
        recursive: of all mounts below too; either all change or none.
        userns_fd: the user namespace whose maps an id-mapped mount uses (MOUNT_ATTR_IDMAP).
    See: mount_setattr(2).
    """
    attr = _MountAttr(
        attr_set=attributes.set,
        attr_clr=attributes.clear,
        propagation=propagation,
        userns_fd=userns_fd,
    )
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    libc.call("mount_setattr", mount_fd, "", flags, attr, ctypes.sizeof(attr))


def move_mount(mount_fd: int, target_fd: int, *, where: str, shell: str | None = None) -> None:
    """Attach a detached mount to the place behind a descriptor.

    Args:
        mount_fd: from `open_tree` or `new_filesystem`.
        target_fd: opened before, inside the root, so that no path is resolved again here.
        where: the place's name, for the event alone.
        shell: the equivalent command, for the event alone.
    See: move_mount(2).
    """
    libc.call(
        "move_mount", mount_fd, "", target_fd, "",
        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        object=f"mount:{where}", shell=shell,
    )  # fmt: skip
