"""The container's root: mounts, devices, masked and read-only paths.

Everything here happens in the container's own mount namespace, before its program runs. Places
inside the root are opened by `paths` and mounted onto by descriptor; no path in the root is used
as a string, because what it leads to is the image's or another container's choice.

See: runtime-spec config.md "Mounts"; mount_namespaces(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from minicontainer.errors import InvalidArgument, KernelError, Unsupported
from minicontainer.kernel import files, mounts, paths
from minicontainer.runtime.defaults import DEVICE_LINKS, DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minicontainer.cgroups.cgroup import View
    from minicontainer.runtime.spec import Mount
    from minicontainer.runtime.spec_linux import Device

# fsconfig(2) takes values of up to 255 bytes; mount(2) takes a page of options.
_LONGEST_FSCONFIG = 255
# Files of proc that nothing here relies on: lxcfs and its like show a container its own.
_INFORMING = (
    "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo",
    "/proc/stat", "/proc/swaps", "/proc/uptime",
)  # fmt: skip
_CDEV_NULL = os.makedev(1, 3)


@contextlib.contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close *fd* at the end of a with block."""
    try:
        yield fd
    finally:
        os.close(fd)


def mount_root(path: str, layers: Iterable[tuple[Mount, int | None]], propagation: int) -> None:
    """Make *path* a mount of its own, with *layers* (mounts whose destination is "/") on it.

    pivot_root(2) takes only a mount point; and what the container then does to its root's mount
    must not touch the host's.

    Args:
        path: the root file system's directory, on the host.
        layers: overlays, or binds of other directories, each with the detached mount that
            the parent made for it, or None; no layer: *path* itself.
        propagation: MS_PRIVATE and so on, for the root's own mount.
    """
    with (
        opened(mounts.open_tree(path, recursive=True)) as tree,
        opened(open_directory(path)) as place,
    ):
        mounts.move_mount(tree, place, where=path, shell=f"mount --rbind {path} {path}")
    for layer, copy in layers:
        options = mounts.parse_options(layer.options)
        if layer.type == "overlay":
            _mount_overlay(path, layer)
        elif not options.bind:
            raise InvalidArgument(f"mounts: {layer.type} can't be the root: use overlay or bind")
        else:
            with (
                opened(open_source(layer) if copy is None else copy) as tree,
                opened(open_directory(path)) as place,
            ):
                # Made on the host, and so perhaps a peer of a shared mount: as the parent of the
                # new root pivot_root(2) would refuse it.
                _propagate(tree, mounts.MS_PRIVATE | mounts.MS_REC)
                mounts.move_mount(tree, place, where=path)
    with opened(open_directory(path)) as root:
        _propagate(root, propagation | mounts.MS_REC)


def open_directory(path: str) -> int:
    """Open a directory of the host as a place: O_PATH needs no permission to read it."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"open root file system {path}") from None


def _mount_overlay(path: str, layer: Mount) -> None:
    # mount(2): its option string holds paths of any length, and Linux before 6.5 knows no other
    # way to name the lower directories.
    options = mounts.parse_options(layer.options)
    data = ",".join(options.data)
    mounts.mount(
        layer.source or "overlay", path, "overlay", 0, data,
        shell=f"mount -t overlay overlay -o {data} {path}",
    )  # fmt: skip


def mount_one(root_fd: int, mount: Mount, views: tuple[View, ...], copy: int | None) -> None:
    """Make one of the specification's mounts.

    Args:
        root_fd: the container's root.
        mount: what and where.
        views: what a mount of type cgroup consists of.
        copy: the detached mount that the parent made for it, if only the host can.
    Raises:
        KernelError: with the mount's destination in its text.
    """
    options = mounts.parse_options(mount.options)
    if mount.type == "cgroup":
        mount_cgroups(root_fd, mount, options, views)
    elif options.bind:
        bind(root_fd, mount, options, copy)
    else:
        place = _filesystem_place(root_fd, mount)
        with opened(place):
            if mount.type != "proc":
                _check_not_over_proc(root_fd, place, mount)
            mount_filesystem(place, mount, options)
        # opened anew: the propagation is the new mount's, which now covers the place
        _set_propagation(root_fd, mount.destination, options)


def _filesystem_place(root_fd: int, mount: Mount) -> int:
    if mount.type not in ("proc", "sysfs"):
        return paths.make_in_root(root_fd, mount.destination, directory=True)
    # What is trusted later as /proc must not be somewhere that the image chose by a link:
    # CVE-2019-19921, CVE-2023-27561.
    try:
        return paths.make_plain_in_root(root_fd, mount.destination, directory=True)
    except KernelError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InvalidArgument(
            f"{mount.destination} is a symbolic link in the root file system: "
            f"{mount.type} is mounted on real directories only"
        ) from None


def mount_filesystem(place: int, mount: Mount, options: mounts.Options) -> None:
    """Mount a new filesystem: proc, sysfs, tmpfs, devpts, mqueue, …"""
    fstype, source = mount.type or "none", mount.source or "none"
    flags, data = options.flags, options.data
    shell = (
        f"mount -t {fstype} {source} {mount.destination}"
        f"{' -o ' if mount.options else ''}{','.join(mount.options)}"
    )
    if any(len(word) > _LONGEST_FSCONFIG for word in data):
        raise InvalidArgument(f"{mount.destination}: a mount option is longer than 255 bytes")
    if fstype == "devpts":
        data = tuple(word for word in data if word != "newinstance")  # every one is: Linux 4.7
    fd = mounts.new_filesystem(fstype, source, flags, data, options.attributes.set)
    with opened(fd):
        mounts.move_mount(fd, place, where=mount.destination, shell=shell)


def bind(root_fd: int, mount: Mount, options: mounts.Options, copy: int | None) -> None:
    """Show a file or directory of the host at another place: a bind mount.

    The copy is made detached, gets its flags, and only then appears: no moment at which a
    read-only bind is writable.
    """
    recursive = bool(options.bind & mounts.MS_REC)
    source = mount.source or ""
    with opened(open_source(mount) if copy is None else copy) as tree:
        _set_flags(tree, options, recursive)
        place = paths.make_in_root(root_fd, mount.destination, directory=paths.is_directory(tree))
        with opened(place):
            _check_bind_place(root_fd, place, tree, mount)
            flags = ",".join(word for word in mount.options if word not in ("bind", "rbind"))
            mounts.move_mount(
                tree, place, where=mount.destination,
                shell=f"mount --{'r' if recursive else ''}bind {source} {mount.destination}"
                f"{' -o ' + flags if flags else ''}",
            )  # fmt: skip


def comes_from_the_host(mount: Mount) -> bool:
    """Say whether only a process of the host can copy what *mount* shall show.

    With id maps, because they are the host's root's to give; linked to the host's mounts (slave,
    shared), because a container's mount namespace has no links left.
    """
    options = mounts.parse_options(mount.options)
    linked = any(kind & (mounts.MS_SLAVE | mounts.MS_SHARED) for kind in options.propagation)
    return bool(mount.uid_mappings) or bool(options.bind and linked)


def open_source(mount: Mount) -> int:
    """Give a detached copy of what a bind shall show.

    Raises:
        KernelError: the source does not exist, or is not for this user.
    """
    options = mounts.parse_options(mount.options)
    try:
        return mounts.open_tree(mount.source or "", recursive=bool(options.bind & mounts.MS_REC))
    except KernelError as error:
        raise KernelError(error.errno, error.strerror, f"bind {mount.source}") from None


def _check_bind_place(root_fd: int, place: int, tree: int, mount: Mount) -> None:
    kinds = ["a directory" if paths.is_directory(fd) else "a file" for fd in (tree, place)]
    if kinds[0] != kinds[1]:
        raise InvalidArgument(
            f"can't mount {mount.source} on {mount.destination}: it is {kinds[0]}, and there is "
            f"{kinds[1]} in the container"
        )
    _check_not_over_proc(root_fd, place, mount)


def _check_not_over_proc(root_fd: int, place: int, mount: Mount) -> None:
    """Refuse to cover what is trusted as /proc, but for files that only inform.

    Where the place is, and not what the specification called it: a link may lead there. See:
    CVE-2019-16884, CVE-2019-19921, CVE-2025-52881.
    """
    root, found = (os.readlink(f"/proc/self/fd/{fd}") for fd in (root_fd, place))
    inside = "/" + found.removeprefix(root).lstrip("/")
    if inside == mount.source == "/proc":
        return  # the host's, as a whole: for who shares its PID namespace
    if (inside == "/proc" or inside.startswith("/proc/")) and inside not in _INFORMING:
        raise InvalidArgument(
            f"can't mount {mount.source} on {mount.destination}: what is in /proc must be the "
            f"kernel's; mount it elsewhere (these may be covered: {', '.join(_INFORMING)})"
        )


def _set_flags(tree: int, options: mounts.Options, recursive: bool) -> None:
    """Give a bind's copy its attributes and its propagation, in as few calls as that takes."""
    kinds = options.propagation or (mounts.MS_PRIVATE | mounts.MS_REC,)
    if not recursive and options.recursive == mounts.Attributes():  # one mount: one call
        kind = kinds[-1] & ~mounts.MS_REC
        mounts.mount_setattr(tree, options.attributes, propagation=kind)
        return
    if options.attributes != mounts.Attributes():
        mounts.mount_setattr(tree, options.attributes)
    if options.recursive != mounts.Attributes():
        mounts.mount_setattr(tree, options.recursive, recursive=True)
    for kind in kinds:
        _propagate(tree, kind)


def _propagate(mount_fd: int, kind: int) -> None:
    recursive = bool(kind & mounts.MS_REC)
    mounts.mount_setattr(
        mount_fd, mounts.Attributes(), propagation=kind & ~mounts.MS_REC, recursive=recursive
    )


def _set_propagation(root_fd: int, destination: str, options: mounts.Options) -> None:
    for kind in options.propagation:
        with opened(paths.open_in_root(root_fd, destination)) as place:
            _propagate(place, kind)


def mount_cgroups(
    root_fd: int, mount: Mount, options: mounts.Options, views: tuple[View, ...]
) -> None:
    """Show the container its own cgroup: one mount on v2, one for each hierarchy on v1."""
    with opened(paths.make_in_root(root_fd, mount.destination, directory=True)) as place:
        if len(views) == 1 and not views[0].name:
            whole = mount.replace(type=views[0].filesystem, source="cgroup")
            try:
                mount_filesystem(place, whole, options.replace(data=()))
            except KernelError as error:
                # A user namespace that shares its cgroup namespace does not own it.
                if error.errno != errno.EPERM:
                    raise
                bind(root_fd, mount.replace(source=views[0].source), options, None)
            return
        # a tmpfs to hold them, writable until its directories are made
        holder = mount.replace(type="tmpfs", source="tmpfs")
        writable = options.attributes.then(mounts.OPTIONS["rw"])
        mount_filesystem(
            place, holder, options.replace(attributes=writable, data=("mode=755", "size=1m"))
        )
    for view in views:
        below = mount.replace(
            destination=os.path.join(mount.destination, view.name), source=view.source
        )
        bind(root_fd, below, options, None)
    with opened(paths.open_in_root(root_fd, mount.destination)) as top:
        for view in views:
            for name in view.links:
                where = os.path.join(mount.destination, name)
                files.make_symlink(view.name, name, at=top, where=where)
        mounts.mount_setattr(top, options.attributes)


def make_devices(root_fd: int, devices: Iterable[Device], *, by_bind: bool) -> None:
    """Make the device files of the container's /dev, and the links that programs expect there.

    Args:
        root_fd: the container's root.
        devices: more than the default ones.
        by_bind: bind them from the host's /dev: in a user namespace mknod(2) is forbidden.
    """
    wanted = {device.path: device for device in (*DEVICES, *devices)}
    for device in wanted.values():
        try:
            _make_device(root_fd, device, by_bind=by_bind)
        except KernelError as error:
            raise KernelError(
                error.errno, error.strerror, f"make device {device.path}: {error.filename}"
            ) from None
    with opened(paths.make_in_root(root_fd, "/dev", directory=True)) as dev:
        for target, name in DEVICE_LINKS:
            try:
                files.make_symlink(target, name, at=dev, where=f"/dev/{name}")
            except KernelError as error:
                if error.errno != errno.EEXIST:  # the image's own /dev may have it
                    raise


def _make_device(root_fd: int, device: Device, *, by_bind: bool) -> None:
    directory, _, name = device.path.rpartition("/")
    if by_bind:
        with (
            opened(mounts.open_tree(device.path)) as tree,
            opened(paths.make_in_root(root_fd, device.path, directory=False)) as place,
        ):
            mounts.move_mount(
                tree, place, where=device.path, shell=f"mount --bind {device.path} {device.path}"
            )
        return
    kind = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
    if device.type not in kind:
        raise InvalidArgument(f"{device.path}: a device is of type c, u, b or p, not {device.type}")
    mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    with opened(paths.make_in_root(root_fd, directory or "/", directory=True)) as parent:
        try:
            files.make_node(
                name, mode | kind[device.type], os.makedev(device.major, device.minor), at=parent,
                where=device.path,
                shell=f"mknod -m {mode:o} {device.path} {device.type} "
                f"{device.major} {device.minor}",
            )  # fmt: skip
        except KernelError as error:
            if error.errno == errno.EEXIST:
                return
            raise
        if device.uid or device.gid:
            files.change_owner(name, device.uid, device.gid, at=parent, where=device.path)


def enter(root_path: str) -> None:
    """Make the container's root the root of this mount namespace, and let go of the host's.

    With "." for both, the old root is stacked on the new one at the same place, and there needs no
    directory in the image to hold it: pivot_root(2) "pivot_root(".", ".")".
    """
    with opened(open_directory(root_path)) as root:
        os.fchdir(root)
    mounts.pivot_root(".", ".")
    mounts.umount2(".", mounts.MNT_DETACH)
    os.chdir("/")


def mask(root_fd: int, masked: Iterable[str]) -> None:
    """Hide files behind the null device, and directories behind one empty read-only tmpfs."""
    with contextlib.ExitStack() as stack:
        null: int | None = None
        empty: int | None = None
        for path in masked:
            place = _if_there(root_fd, path)
            if place is None:
                continue  # this kernel does not have it
            stack.callback(os.close, place)
            if paths.is_directory(place):
                shell = f"mount -t tmpfs -o ro,nr_inodes=2 tmpfs {path}"
                if empty is None:
                    # The first directory gets the tmpfs itself: before Linux 6.15 only a mount
                    # that is attached somewhere can be copied.
                    empty = stack.enter_context(opened(_empty_directory()))
                    mounts.move_mount(empty, place, where=path, shell=shell)
                    continue
                hidden_by = empty
            else:
                shell = f"mount --bind /dev/null {path}"
                if null is None:
                    null = stack.enter_context(opened(_null_device(root_fd)))
                hidden_by = null
            with opened(mounts.open_tree("", at=hidden_by)) as copy:
                mounts.move_mount(copy, place, where=path, shell=shell)


def _if_there(root_fd: int, path: str) -> int | None:
    try:
        return paths.open_in_root(root_fd, path)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def _empty_directory() -> int:
    """Make the tmpfs that hides every masked directory: read-only, with no room for a file."""
    return mounts.new_filesystem(
        "tmpfs", "tmpfs", data=("nr_inodes=2", "mode=555"), attributes=mounts.MOUNT_ATTR_RDONLY
    )


def _null_device(root_fd: int) -> int:
    """Open the container's /dev/null, and make sure that it is one: CVE-2025-31133."""
    fd = paths.open_in_root(root_fd, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _CDEV_NULL:
        os.close(fd)
        raise Unsupported(
            "/dev/null of the root file system is not the null device: can't mask paths"
        )
    return fd


def make_readonly(root_fd: int, readonly: Iterable[str]) -> None:
    """Bind paths over themselves, read-only."""
    for path in readonly:
        place = _if_there(root_fd, path)
        if place is None:
            continue
        with opened(place), opened(mounts.open_tree("", recursive=True, at=place)) as tree:
            attributes = mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY)
            mounts.mount_setattr(tree, attributes, recursive=True)
            mounts.move_mount(tree, place, where=path, shell=f"mount --rbind -o ro {path} {path}")


def remount_root_readonly(root_fd: int) -> None:
    """Make the root's own mount read-only; what is mounted below keeps its own flags."""
    mounts.mount_setattr(root_fd, mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY))
