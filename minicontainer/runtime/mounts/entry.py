"""One entry of `mounts`: a new filesystem, a bind, or a change of an existing mount.

All of this happens in the container's own mount namespace, before its program runs. A place inside
the root is opened by `paths` and used by its descriptor. No path in the root is used as a string:
the image, or another container, can choose where it leads.

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
        A descriptor of the mount if it becomes read-only once everything is in it; otherwise None.
    Raises:
        InvalidArgument: its options make no sense there.
        KernelError: an error of the calls.
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
    # These are filled later: with devices, mount points, copies.
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
    """Remove the options that would make a mount read-only from the start."""
    attributes = options.attributes.then(0, mounts.MOUNT_ATTR_RDONLY)
    flags = tuple(flag for flag in options.flags if flag != "ro")
    return options.replace(attributes=attributes, flags=flags)


def _place_for(root: Root, mount: Mount, options: Options) -> tuple[int, tuple[str, ...]]:
    """Open the mount point; return a mode option for a tmpfs, if its options name no mode.

    A tmpfs gets the mode of the directory that it covers: programs expect /run or /tmp to have the
    image's mode.
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
    """Make a filesystem and mount it; return a descriptor of that mount.

    Args:
        place: a descriptor of the mount point.
    """
    fstype, source, data = mount.type or "none", mount.source or "none", options.data
    if fstype == "devpts":
        # every instance is a new one since Linux 4.7
        data = tuple(word for word in data if word != "newinstance")
    words = ",".join(mount.options)
    place_word = files.shell_word(mount.destination)
    shell = f"mount -t {fstype} {source} {place_word}{' -o ' if words else ''}{words}"
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
    """Mount by mount(2), for option values that are too long for fsconfig(2).

    The target is the descriptor's link in the host's /proc, which the container can't change; it
    leads to the very place that was opened. An option with commas counts as several, which the
    filesystem itself takes apart.
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
    """Change the attributes of an existing mount; those that no option names stay.

    Only this mount changes, never the filesystem: that may be the host's.
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
                f"{mount.destination}: there is no mount that a remount could change"
            ) from None
        _propagate(place, options)


def _propagate(mount_fd: int, options: Options) -> None:
    for kind in options.propagation:
        binds.propagate(mount_fd, kind)
