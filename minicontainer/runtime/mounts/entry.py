"""One mount of the specification: a new filesystem, a bind, or a change of what is mounted.

Everything here happens in the container's own mount namespace, before its program runs. Places
inside the root are opened by `paths` and mounted onto by descriptor; no path in the root is used as
a string, because what it leads to is the image's or another container's choice.

See: runtime-spec config.md "Mounts"; mount_namespaces(7).
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.errors import InvalidArgument, KernelError, shortened
from minicontainer.kernel import files, mounts, paths
from minicontainer.kernel.mount_options import Options, parse_options
from minicontainer.runtime.mounts import binds, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.kernel.paths import Root
    from minicontainer.runtime.config.spec import Mount


def mount_one(root: Root, mount: Mount, copy: int | None) -> int | None:
    """Make one of the specification's mounts, of any type but cgroup.

    Args:
        root: the container's.
        mount: what and where; the source of a bind is absolute.
        copy: the detached mount that the parent made for it, if only the host can.
    Returns:
        A descriptor of the mount if it shall become read-only once all is in it, or None.
    Raises:
        InvalidArgument: what it asks for makes no sense there.
        KernelError: as the calls say.
    """
    options = parse_options(mount.options, mount.type)
    if "remount" in options.asked:
        _remount(root, mount, options)
    elif options.bind:
        binds.bind(root, mount, options, copy)
    else:
        return _mount_filesystem(root, mount, options)
    return None


def _mount_filesystem(root: Root, mount: Mount, options: Options) -> int | None:
    """Mount a new filesystem: proc, sysfs, tmpfs, devpts, mqueue, overlay, …"""
    # What is to be put into them comes later: devices, mount points, copies.
    filled = mount.type == "tmpfs" or os.path.normpath(mount.destination) == "/dev"
    readonly = bool(options.attributes.set & mounts.MOUNT_ATTR_RDONLY)
    if filled and readonly:
        options = writable(options)
    place, mode = _place_for(root, mount, options)
    with files.opened(place):
        if mount.type != "proc":
            places.check(root, place, mount)
        made = new_mount(root, place, mount, options.replace(data=(*mode, *options.data)))
        if "tmpcopyup" in options.asked:
            from minicontainer.runtime.mounts import copyup  # few mounts want it

            copyup.copy_tree(place, made, mount.destination, keep_mode=not mode)
    if filled and readonly:
        return made
    os.close(made)
    return None


def writable(options: Options) -> Options:
    """Take the words back by which a mount would be read-only from the beginning."""
    attributes = options.attributes.then(0, mounts.MOUNT_ATTR_RDONLY)
    flags = tuple(flag for flag in options.flags if flag != "ro")
    return options.replace(attributes=attributes, flags=flags)


def _place_for(root: Root, mount: Mount, options: Options) -> tuple[int, tuple[str, ...]]:
    """Open the mount point; say with which mode a tmpfs there begins, if that is left open.

    A tmpfs over a directory that exists has that directory's: programs expect /run or /tmp as
    their image has it.
    """
    if mount.type in ("proc", "sysfs"):
        return places.open_plain(root, mount), ()
    if mount.type == "tmpfs" and not any(word.startswith("mode=") for word in options.data):
        try:
            place = paths.open_in_root(root.fd, mount.destination)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        else:
            return place, (f"mode={stat.S_IMODE(os.fstat(place).st_mode):o}",)
    return paths.make_in_root(root.fd, mount.destination, directory=True), ()


def new_mount(root: Root, place: int, mount: Mount, options: Options) -> int:
    """Make a filesystem and mount it; give a descriptor of that mount.

    Args:
        place: where, opened before.
    """
    fstype, source, data = mount.type or "none", mount.source or "none", options.data
    if fstype == "devpts":
        data = tuple(word for word in data if word != "newinstance")  # every one is: Linux 4.7
    words = ",".join(mount.options)
    shell = f"mount -t {fstype} {source} {mount.destination}{' -o ' if words else ''}{words}"
    if any("," in word or len(os.fsencode(word)) > mounts.LONGEST_FSCONFIG for word in data):
        return _mount_by_old_call(root, place, mount, options.replace(data=data), shell)
    made = mounts.new_filesystem(fstype, source, options.flags, data, options.attributes.set)
    try:
        _propagate(made, options)
        mounts.move_mount(made, place, where=mount.destination, shell=shell)
    except KernelError:
        os.close(made)
        raise
    return made


def _mount_by_old_call(root: Root, place: int, mount: Mount, options: Options, shell: str) -> int:
    """Mount by mount(2), for option values that fsconfig(2) has no room for.

    Its target is the descriptor's link under /proc: the host's, which the container has no hand
    in, and which leads to the very place that was opened. A word with commas is several options,
    which the filesystem itself takes apart.
    """
    data = ",".join(options.data)
    if len(os.fsencode(data)) > mounts.LONGEST_DATA:
        raise InvalidArgument(
            f"{shortened(mount.destination)}: the mount options are longer than the "
            f"{mounts.LONGEST_DATA} bytes that the kernel takes"
        )
    flags = mounts.old_flags(options.flags, options.attributes.set)
    mounts.mount(
        mount.source or "none", f"/proc/self/fd/{place}", mount.type or "none", flags, data,
        where=mount.destination, shell=shell,
    )  # fmt: skip
    made = paths.open_in_root(root.fd, mount.destination)
    _propagate(made, options)
    return made


def _remount(root: Root, mount: Mount, options: Options) -> None:
    """Change the attributes of a mount that is there; those that no word names stay.

    Of this mount alone, and never of the filesystem below it: that may be the host's.
    """
    others = [*(flag for flag in options.flags if flag != "ro"), *options.data]
    if others:
        raise InvalidArgument(
            f"{mount.destination}: a remount can't change {shortened(others[0])!r}, which is the "
            "filesystem's: give it with the mount itself"
        )
    with files.opened(paths.open_in_root(root.fd, mount.destination)) as place:
        try:
            binds.set_attributes(place, options)
        except KernelError as error:
            if error.errno != errno.EINVAL:
                raise
            raise InvalidArgument(
                f"{mount.destination}: nothing is mounted there that a remount could change"
            ) from None
        _propagate(place, options)


def _propagate(mount_fd: int, options: Options) -> None:
    for kind in options.propagation:
        binds.propagate(mount_fd, kind)
