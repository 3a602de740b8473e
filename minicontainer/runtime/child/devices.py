"""Device files: those of the container's /dev, and a null device that is certainly one.

See: runtime-spec config-linux.md "Devices", "Default Devices"; null(4), mknod(2).
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.errors import InvalidArgument, KernelError, Unsupported
from minicontainer.kernel import files, mounts, paths
from minicontainer.kernel.mount_options import parse_options
from minicontainer.kernel.namespaces import host_id
from minicontainer.runtime.config.defaults import DEVICE_LINKS, DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.contexts import ExitStack
    from minicontainer.runtime.config.spec import Spec
    from minicontainer.runtime.config.spec_linux import Device

NULL = (1, 3)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_READONLY = mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY)
_USABLE = mounts.Attributes(clear=mounts.MOUNT_ATTR_NODEV)


def are_the_hosts(spec: Spec) -> bool:
    """Report whether /dev is a directory of the host, in which nothing may be made."""
    return any(
        os.path.normpath(mount.destination) == "/dev"
        and parse_options(mount.options, mount.type).bind
        for mount in spec.mounts
    )


def for_the_host(spec: Spec) -> dict[str, Device]:
    """List the devices that only a process of the host can make, since a user namespace can't."""
    listed = {os.path.normpath(device.path): device for device in spec.linux.devices}
    return {
        path: device
        for path, device in listed.items()
        if device.type != "p" and path != "/dev/ptmx" and spec.new_namespace("user")
    }


def make_for_user_namespace(spec: Spec, directory: str, undo: ExitStack) -> dict[str, int]:
    """Make the listed devices for a container whose user namespace forbids mknod(2).

    Args:
        directory: a new one, which only root can read; it stays as long as the container.
    Returns:
        Detached mounts, by the device's path. A device that this process may not make is left out:
        init then binds the host's file.
    """
    found: dict[str, int] = {}
    umask = os.umask(0)  # the modes are meant as they are written
    try:
        files.make_dir(directory, 0o700)
        with files.opened(os.open(directory, os.O_PATH | os.O_DIRECTORY)) as place:
            for number, (path, device) in enumerate(for_the_host(spec).items()):
                if _is_made(place, str(number), device):
                    found[path] = mounts.open_tree(str(number), at=place)
                    undo.callback(os.close, found[path])
                    _give(found[path], device, spec)
    finally:
        os.umask(umask)
    return found


def _is_made(place: int, name: str, device: Device) -> bool:
    """Make a device and return True; return False if this process may not, as it isn't the host's
    root.
    """
    try:
        _make_node(place, name, device)
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise _about(device, error) from None
        return False
    return True


def _give(made: int, device: Device, spec: Spec) -> None:
    """Give a device to its owner, by the host's ids, on a mount without nodev: /run has that."""
    uid = host_id(spec.linux.uid_mappings, device.uid)
    gid = host_id(spec.linux.gid_mappings, device.gid)
    # an owner that the namespace does not map appears as nobody; the mode then decides
    files.change_owner_of(
        made, -1 if uid is None else uid, -1 if gid is None else gid, where=device.path
    )
    mounts.mount_setattr(made, _USABLE)


def _about(device: Device, error: KernelError) -> KernelError:
    return KernelError(error.errno, error.strerror, f"make device {device.path}: {error.filename}")


def make_devices(root_fd: int, spec: Spec, made: dict[str, int]) -> None:
    """Make the device files of the container, and the links that programs expect in /dev.

    /dev is opened once, inside the root, and everything is made below that descriptor:
    CVE-2026-41579.

    Args:
        made: the mounts of `make_for_user_namespace`; they are closed.
    """
    wanted = {os.path.normpath(device.path): device for device in (*DEVICES, *spec.linux.devices)}
    wanted.pop("/dev/ptmx", None)  # a link, below
    for mount in spec.mounts:  # a device of a mount stays, like a file of the image
        wanted.pop(os.path.normpath(mount.destination), None)
    by_bind = spec.has_namespace("user")  # where mknod(2) is forbidden
    for path in made.keys() - wanted.keys():
        os.close(made.pop(path))
    with files.opened(paths.make_in_root(root_fd, "/dev", directory=True)) as dev:
        for path, device in wanted.items():
            directory, _, name = path.rpartition("/")
            try:
                if directory == "/dev":
                    _make(dev, name, device, made.get(path), by_bind=by_bind)
                    continue
                with files.opened(
                    paths.make_in_root(root_fd, directory or "/", directory=True)
                ) as parent:
                    _make(parent, name, device, made.get(path), by_bind=by_bind)
            except KernelError as error:
                raise _about(device, error) from None
        for target, name in DEVICE_LINKS:
            _make_link(dev, target, name)


def _make(parent: int, name: str, device: Device, made: int | None, *, by_bind: bool) -> None:
    if made is not None:
        with files.opened(made):
            _show(made, parent, name, device)
        return
    if by_bind and device.type != "p":
        _bind(parent, name, device)
        return
    try:
        _make_node(parent, name, device)
    except KernelError as error:
        if error.errno == errno.EPERM:
            _bind(parent, name, device)
        elif error.errno != errno.EEXIST:  # the image's own, which can do no more
            raise
        return
    if device.uid or device.gid:
        # opened and checked: another process could have put another file there meanwhile
        with files.opened(
            paths.openat2(parent, name, os.O_PATH, paths.RESOLVE_NO_SYMLINKS)
        ) as made:
            _check(made, device, "in the container")
            files.change_owner_of(made, device.uid, device.gid, where=device.path)


def _make_node(parent: int, name: str, device: Device) -> None:
    mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    files.make_node(
        name, mode | _KINDS[device.type], _number(device), at=parent, where=device.path,
        shell=f"mknod -m {mode:o} {device.path} {device.type} {device.major} {device.minor}",
    )  # fmt: skip


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
    """Bind the host's device of that name: it can be used, but on this mount not be changed."""
    with files.opened(mounts.open_tree(device.path)) as tree:
        _check(tree, device, "of the host")
        mounts.mount_setattr(tree, _READONLY)
        shell = f"mount --bind -o ro {device.path} {device.path}"
        _show(tree, parent, name, device, shell)


def _show(tree: int, parent: int, name: str, device: Device, shell: str | None = None) -> None:
    with files.opened(paths.make_file_in(parent, name, where=device.path)) as place:
        mounts.move_mount(tree, place, where=device.path, shell=shell)


def _make_link(dev: int, target: str, name: str) -> None:
    try:
        files.make_symlink(target, name, at=dev, where=f"/dev/{name}")
    except KernelError as error:
        # The image's own /dev may have such a file; its ptmx would open terminals of the host.
        if error.errno != errno.EEXIST:
            raise
        if name == "ptmx" and not stat.S_ISLNK(
            os.stat(name, dir_fd=dev, follow_symlinks=False).st_mode
        ):
            files.remove_file(name, at=dev, where=f"/dev/{name}")
            files.make_symlink(target, name, at=dev, where=f"/dev/{name}")


def open_null() -> int:
    """Return a mount of the host's null device, on which nobody can change its owner or mode.

    It is detached, for `protect` and `streams`. So it does not matter what file the image has as
    /dev/null, or who exchanges that file meanwhile (CVE-2025-31133).
    """
    tree = mounts.open_tree("/dev/null")
    if not paths.is_device(tree, *NULL):
        os.close(tree)
        raise Unsupported("/dev/null of this host is not the null device: make it anew, c 1:3")
    mounts.mount_setattr(tree, _READONLY)
    return tree
