"""Devices of the host that a container may use: `--device`, and all of them with `--privileged`.

See: Docker's `docker run` reference, "--device".
"""

from __future__ import annotations

import os
import stat

from minicontainer.cgroups.limits import DeviceRule
from minicontainer.errors import InvalidArgument
from minicontainer.runtime.config.spec_linux import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.engine.config import DeviceMapping, HostConfig

_DEVICE_TYPES = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}


def devices_for(host: HostConfig) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """Turn `--device` into device files and the rules that let them be used.

    Raises:
        InvalidArgument: no such device on the host, or permissions other than r, w, m.
    """
    pairs = [pair for mapping in host.devices for pair in _devices(mapping)]
    if host.privileged:
        pairs += [_device_at(path, path, "rwm") for path in _host_devices("/dev")]
    return tuple(device for device, _ in pairs), tuple(rule for _, rule in pairs)


def _devices(mapping: DeviceMapping) -> list[tuple[Device, DeviceRule]]:
    """Find what an option names: a device, or all that are in a directory such as /dev/snd."""
    permissions = mapping.cgroup_permissions
    if not permissions or set(permissions) - set("rwm"):
        raise InvalidArgument(
            f"invalid device permissions {permissions!r} of {mapping.path_on_host}: use r, w, m"
        )
    inside = mapping.path_in_container
    if not inside.startswith("/") or os.path.normpath(inside) != inside or inside == "/":
        raise InvalidArgument(
            f"invalid path {inside!r} for device {mapping.path_on_host}: must be absolute, without "
            "'.', '..' or a '/' at its end"
        )
    path = os.path.realpath(mapping.path_on_host)
    if os.path.isdir(path):
        below = [found.removeprefix(path) for found in _devices_below(path)]
        if below:
            return [_device_at(path + rest, inside + rest, permissions) for rest in below]
    return [_device_at(mapping.path_on_host, inside, permissions)]


def _devices_below(directory: str) -> Iterator[str]:
    for place, _, files in os.walk(directory):
        for name in sorted(files):
            path = f"{place}/{name}"
            if stat.S_IFMT(os.lstat(path).st_mode) in _DEVICE_TYPES:
                yield path


def _device_at(path: str, inside: str, permissions: str) -> tuple[Device, DeviceRule]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{path}": '
            f"{(error.strerror or '').lower()}"
        ) from None
    kind = _DEVICE_TYPES.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{path}": '
            "not a device node"
        )
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    device = Device(
        path=inside, type=kind, major=major, minor=minor,
        file_mode=stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid,
    )  # fmt: skip
    return device, DeviceRule(allow=True, type=kind, major=major, minor=minor, access=permissions)


def _host_devices(directory: str) -> Iterator[str]:
    """Yield the host's device files, for a privileged container; terminals stay the host's."""
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in ("pts", "shm", "mqueue", "fd"):
                yield from _host_devices(entry.path)
        elif (
            entry.name != "console"
            and stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) in _DEVICE_TYPES
        ):
            yield entry.path
