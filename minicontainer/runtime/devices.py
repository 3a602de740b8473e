"""Device files: those of the container's /dev, and a null device that is surely one.

See: runtime-spec config-linux.md "Devices", "Default Devices"; null(4), mknod(2).
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.errors import InvalidArgument, KernelError, Unsupported
from minicontainer.kernel import files, mounts, paths
from minicontainer.kernel.mount_options import parse_options
from minicontainer.runtime.defaults import DEVICE_LINKS, DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.spec import Spec
    from minicontainer.runtime.spec_linux import Device

NULL = (1, 3)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_READONLY = mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY)


def are_the_hosts(spec: Spec) -> bool:
    """Say whether /dev is a directory of the host, in which nothing is to be made."""
    return any(
        os.path.normpath(mount.destination) == "/dev"
        and parse_options(mount.options, mount.type).bind
        for mount in spec.mounts
    )


def make_devices(root_fd: int, spec: Spec) -> None:
    """Make the device files of the container, and the links that programs expect in /dev.

    /dev is opened once, inside the root, and all is made in what was opened: CVE-2026-41579.
    """
    wanted = {os.path.normpath(device.path): device for device in (*DEVICES, *spec.linux.devices)}
    wanted.pop("/dev/ptmx", None)  # a link, below
    for mount in spec.mounts:  # what one shows there already stays, like a file of the image's
        wanted.pop(os.path.normpath(mount.destination), None)
    by_bind = spec.has_namespace("user")  # where mknod(2) is forbidden
    with files.opened(paths.make_in_root(root_fd, "/dev", directory=True)) as dev:
        for path, device in wanted.items():
            directory, _, name = path.rpartition("/")
            try:
                if directory == "/dev":
                    _make(dev, name, device, by_bind=by_bind)
                    continue
                with files.opened(
                    paths.make_in_root(root_fd, directory or "/", directory=True)
                ) as parent:
                    _make(parent, name, device, by_bind=by_bind)
            except KernelError as error:
                raise KernelError(
                    error.errno, error.strerror, f"make device {device.path}: {error.filename}"
                ) from None
        for target, name in DEVICE_LINKS:
            _make_link(dev, target, name)


def _make(parent: int, name: str, device: Device, *, by_bind: bool) -> None:
    if by_bind and device.type != "p":
        _bind(parent, name, device)
        return
    mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    try:
        files.make_node(
            name, mode | _KINDS[device.type], _number(device), at=parent, where=device.path,
            shell=f"mknod -m {mode:o} {device.path} {device.type} {device.major} {device.minor}",
        )  # fmt: skip
    except KernelError as error:
        if error.errno == errno.EPERM:
            _bind(parent, name, device)
        elif error.errno != errno.EEXIST:  # the image's own: it can do no more than this one could
            raise
        return
    if device.uid or device.gid:
        # opened and looked at: somebody else could have put another file there meanwhile
        with files.opened(
            paths.openat2(parent, name, os.O_PATH, paths.RESOLVE_NO_SYMLINKS)
        ) as made:
            _check(made, device, "in the container")
            files.change_owner_of(made, device.uid, device.gid, where=device.path)


def _number(device: Device) -> int:
    return 0 if device.type == "p" else os.makedev(device.major, device.minor)


def _check(fd: int, device: Device, where: str) -> None:
    found = os.fstat(fd)
    if stat.S_IFMT(found.st_mode) != _KINDS[device.type] or found.st_rdev != _number(device):
        raise InvalidArgument(
            f"linux.devices: {device.path} {where} is not the device "
            f"{device.type} {device.major}:{device.minor}"
        )


def _bind(parent: int, name: str, device: Device) -> None:
    """Show the host's file of that name: it can be used, but on this mount not be changed."""
    with (
        files.opened(mounts.open_tree(device.path)) as tree,
        files.opened(paths.make_file_in(parent, name, where=device.path)) as place,
    ):
        _check(tree, device, "of the host")
        mounts.mount_setattr(tree, _READONLY)
        mounts.move_mount(
            tree, place, where=device.path,
            shell=f"mount --bind -o ro {device.path} {device.path}",
        )  # fmt: skip


def _make_link(dev: int, target: str, name: str) -> None:
    try:
        files.make_symlink(target, name, at=dev, where=f"/dev/{name}")
    except KernelError as error:
        # The image's own /dev may have it; its ptmx would open terminals of the host's.
        if error.errno != errno.EEXIST:
            raise
        if name == "ptmx" and not stat.S_ISLNK(
            os.stat(name, dir_fd=dev, follow_symlinks=False).st_mode
        ):
            files.remove_file(name, at=dev, where=f"/dev/{name}")
            files.make_symlink(target, name, at=dev, where=f"/dev/{name}")


def open_null() -> int:
    """Give a mount of the host's null device, on which nobody can change its owner or mode.

    Detached, for `protect` and `streams`: whatever an image has as its /dev/null, and whoever
    exchanges it meanwhile, plays no part (CVE-2025-31133).
    """
    tree = mounts.open_tree("/dev/null")
    if not paths.is_device(tree, *NULL):
        os.close(tree)
        raise Unsupported("/dev/null of this host is not the null device: make it anew, c 1:3")
    mounts.mount_setattr(tree, _READONLY)
    return tree
