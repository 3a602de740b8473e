"""Mounts: the old calls, the new ones, and the table of options.

The new calls (fsopen, fsmount, open_tree, mount_setattr, move_mount; Linux 5.2 to 5.12) work on
descriptors: a mount is made ready while nobody can see it, and then put onto a place that was
opened before. The old mount(2) takes both as paths, which can change under it.

See: mount(2), mount_setattr(2), mount_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os

from minicontainer.kernel import libc
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

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
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70  # a field, not a flag: relatime is its 0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

AT_FDCWD = -100


class Option(Record):
    """A word of a mount's options and what it changes: one row of the table.

    Args:
        set, clear: attributes of this mount, MOUNT_ATTR_… bits.
        filesystem: the flag it gives to the filesystem itself, through fsconfig(2).
        propagation: MS_PRIVATE and its kin, with MS_REC for a whole tree.
        bind: MS_BIND, or MS_BIND|MS_REC.
    """

    set: int = 0
    clear: int = 0
    filesystem: str = ""
    propagation: int = 0
    bind: int = 0


_ATTRIBUTES = {
    "ro": Option(set=MOUNT_ATTR_RDONLY),
    "rw": Option(clear=MOUNT_ATTR_RDONLY),
    "nosuid": Option(set=MOUNT_ATTR_NOSUID),
    "suid": Option(clear=MOUNT_ATTR_NOSUID),
    "nodev": Option(set=MOUNT_ATTR_NODEV),
    "dev": Option(clear=MOUNT_ATTR_NODEV),
    "noexec": Option(set=MOUNT_ATTR_NOEXEC),
    "exec": Option(clear=MOUNT_ATTR_NOEXEC),
    "nodiratime": Option(set=MOUNT_ATTR_NODIRATIME),
    "diratime": Option(clear=MOUNT_ATTR_NODIRATIME),
    "nosymfollow": Option(set=MOUNT_ATTR_NOSYMFOLLOW),
    "symfollow": Option(clear=MOUNT_ATTR_NOSYMFOLLOW),
    # Setting one of these must clear the whole field: mount_setattr(2).
    "noatime": Option(set=MOUNT_ATTR_NOATIME, clear=MOUNT_ATTR__ATIME),
    "strictatime": Option(set=MOUNT_ATTR_STRICTATIME, clear=MOUNT_ATTR__ATIME),
    "relatime": Option(clear=MOUNT_ATTR__ATIME),
    "atime": Option(clear=MOUNT_ATTR__ATIME),
    "norelatime": Option(clear=MOUNT_ATTR__ATIME),
    "nostrictatime": Option(clear=MOUNT_ATTR__ATIME),
}
OPTIONS = {
    **_ATTRIBUTES,
    "defaults": Option(),
    "bind": Option(bind=MS_BIND),
    "rbind": Option(bind=MS_BIND | MS_REC),
    "sync": Option(filesystem="sync"),
    "async": Option(filesystem="async"),
    "dirsync": Option(filesystem="dirsync"),
    "lazytime": Option(filesystem="lazytime"),
    "nolazytime": Option(filesystem="nolazytime"),
    "mand": Option(filesystem="mand"),
    "nomand": Option(filesystem="nomand"),
    "private": Option(propagation=MS_PRIVATE),
    "rprivate": Option(propagation=MS_PRIVATE | MS_REC),
    "slave": Option(propagation=MS_SLAVE),
    "rslave": Option(propagation=MS_SLAVE | MS_REC),
    "shared": Option(propagation=MS_SHARED),
    "rshared": Option(propagation=MS_SHARED | MS_REC),
    "unbindable": Option(propagation=MS_UNBINDABLE),
    "runbindable": Option(propagation=MS_UNBINDABLE | MS_REC),
}
# rro, rnosuid, …: the same attribute for a whole tree of mounts, by mount_setattr(AT_RECURSIVE)
RECURSIVE_OPTIONS = {f"r{word}": option for word, option in _ATTRIBUTES.items()}


class Attributes(Record):
    """Attributes to set and to clear, in the order of the words that asked for them."""

    set: int = 0
    clear: int = 0

    def then(self, option: Option) -> Attributes:
        """Add a later word: it wins over earlier ones, as in mount(8)."""
        return Attributes(
            set=self.set & ~option.clear | option.set,
            clear=self.clear & ~option.set | option.clear,
        )


class Options(Record):
    """The options of one mount, sorted by the call that takes them.

    Args:
        attributes: of this mount; recursive: of every mount in its tree.
        flags, data: for the filesystem: words, and key=value pairs.
        propagation: MS_… values, in order.
        bind: 0, MS_BIND or MS_BIND|MS_REC.
    """

    attributes: Attributes = Attributes()
    recursive: Attributes = Attributes()
    flags: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    propagation: tuple[int, ...] = ()
    bind: int = 0


def parse_options(words: Iterable[str]) -> Options:
    """Sort the words of a mount's options; unknown ones belong to the filesystem."""
    attributes = recursive = Attributes()
    flags: list[str] = []
    data: list[str] = []
    propagation: list[int] = []
    bind = 0
    for word in words:
        option = OPTIONS.get(word)
        if option is None and word in RECURSIVE_OPTIONS:
            recursive = recursive.then(RECURSIVE_OPTIONS[word])
        elif option is None:
            data.append(word)
        else:
            attributes = attributes.then(option)
            bind |= option.bind
            if option.filesystem:
                flags.append(option.filesystem)
            if option.propagation:
                propagation.append(option.propagation)
    return Options(
        attributes=attributes,
        recursive=recursive,
        flags=tuple(flags),
        data=tuple(data),
        propagation=tuple(propagation),
        bind=bind,
    )


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
    shell: str | None = None,
) -> None:
    """mount(2), the old call: for what the new ones can't do.

    Args:
        source, fstype, data: None where the kind of mount has no use for it.
        flags: MS_… bits.
    Raises:
        KernelError: EPERM, EBUSY, ENODEV (no such filesystem), EINVAL.
    """
    libc.call("mount", source, target, fstype, flags, data, object=f"mount:{target}", shell=shell)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2).

    Raises:
        KernelError: EINVAL if *target* is no mount point, EBUSY without MNT_DETACH.
    """
    libc.call(
        "umount2", target, flags,
        object=f"mount:{target}", shell=f"umount {'-l ' if flags & MNT_DETACH else ''}{target}",
    )  # fmt: skip


def pivot_root(new_root: str, put_old: str) -> None:
    """Make *new_root* the root of this mount namespace; the former one appears at *put_old*.

    Unlike chroot(2) it changes the mount tree itself: once the old root is unmounted, no `..` and
    no descriptor tricks lead back to it.

    Raises:
        KernelError: EINVAL when *new_root* is no mount point or its parent mount is shared.
    See: pivot_root(2).
    """
    libc.call(
        "pivot_root", new_root, put_old,
        object="mount:/", shell=f"pivot_root {new_root} {put_old}",
    )  # fmt: skip


def open_tree(path: str, *, recursive: bool = False, at: int = AT_FDCWD) -> int:
    """Copy the mount at *path*, detached from every mount namespace: what a bind mount starts as.

    Args:
        path: what to bind; "" for the descriptor *at* itself.
        recursive: with the mounts below it.
    Returns:
        A descriptor for `mount_setattr` and `move_mount`.
    See: open_tree(2).
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    flags |= AT_RECURSIVE if recursive else 0
    flags |= AT_EMPTY_PATH if path == "" else 0
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
        fstype: as /proc/filesystems lists it.
        source: what mountinfo shall show as its device.
        flags: words for the filesystem;  data: `key=value` or single words.
        attributes: MOUNT_ATTR_… bits of the mount.
    Returns:
        A descriptor for `move_mount`.
    Raises:
        KernelError: ENODEV (no such filesystem), EINVAL (it does not know that option), EPERM (not
            permitted in this user namespace).
    See: fsopen(2), fsconfig(2), fsmount(2).
    """
    context = libc.call("fsopen", fstype, FSOPEN_CLOEXEC)
    try:
        if source:
            libc.call("fsconfig", context, FSCONFIG_SET_STRING, "source", source, 0)
        for word in (*flags, *data):
            key, equals, value = word.partition("=")
            if equals:
                libc.call("fsconfig", context, FSCONFIG_SET_STRING, key, value, 0)
            else:
                libc.call("fsconfig", context, FSCONFIG_SET_FLAG, key, None, 0)
        libc.call("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)
        return libc.call("fsmount", context, FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def mount_setattr(
    mount_fd: int,
    attributes: Attributes,
    *,
    propagation: int = 0,
    recursive: bool = False,
    userns_fd: int = 0,
) -> None:
    """Change a mount's attributes or propagation, of one mount or of a whole tree at once.

    Args:
        mount_fd: of the mount's root.
        propagation: MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, without MS_REC; 0 leaves it.
        recursive: of all mounts below too; either all change or none.
        userns_fd: the user namespace whose maps an id-mapped mount takes (MOUNT_ATTR_IDMAP).
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
    """Put a detached mount onto the place behind a descriptor.

    Args:
        mount_fd: from `open_tree` or `new_filesystem`.
        target_fd: opened before, inside the root, so no path is resolved again here.
        where: the place's name, for the event alone.
        shell: the equivalent command, for the event alone.
    See: move_mount(2).
    """
    libc.call(
        "move_mount", mount_fd, "", target_fd, "",
        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        object=f"mount:{where}", shell=shell,
    )  # fmt: skip
