"""What the user wants mounted: `-v`, `--mount`, `--tmpfs`, `--device`, as the runtime's mounts.

See: Docker's "Bind mounts" and "tmpfs mounts".
"""

from __future__ import annotations

import os
import stat

from minicontainer.cgroups.limits import DeviceRule
from minicontainer.errors import InvalidArgument
from minicontainer.kernel.mount_options import OPTIONS
from minicontainer.runtime.config.spec import Mount
from minicontainer.runtime.config.spec_linux import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minicontainer.engine.config import (
        ContainerConfig,
        DeviceMapping,
        HostConfig,
        MountRequest,
    )

_PROPAGATION = (
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
)  # fmt: skip
# z and Z label for SELinux, which is not on here; the others tune file sharing of Docker Desktop
_IGNORED_MODES = ("z", "Z", "cached", "delegated", "consistent")
_MODES = ("ro", "rw", "nocopy", *_PROPAGATION, *_IGNORED_MODES)
# A tmpfs's own words, which take a value, and the characters of that. See: tmpfs(5).
_DIGITS = "0123456789"
_TMPFS_VALUES = {
    "size": f"{_DIGITS}kmgKMG%",
    "nr_blocks": f"{_DIGITS}kmgKMG",
    "nr_inodes": f"{_DIGITS}kmgKMG",
    "mode": "01234567",
    "uid": _DIGITS,
    "gid": _DIGITS,
}
_DEVICE_TYPES = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}


class Volumes:
    """The named and anonymous volumes of an engine."""

    def list(self, filters: dict[str, list[str]]) -> dict[str, Any]:
        """List them."""
        return {"Volumes": [], "Warnings": None}


def mounts_for(host: HostConfig) -> tuple[Mount, ...]:
    """Turn all that was asked for into mounts, outer directories before inner ones.

    Raises:
        InvalidArgument: naming the option's text and what is wrong with it.
    """
    found = [_from_bind(text) for text in host.binds]
    found += [_from_request(request) for request in host.mounts]
    found += [_tmpfs(target, options) for target, options in host.tmpfs.items()]
    targets = [mount.destination for mount in found]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidArgument(f"Duplicate mount point: {target}")
    return tuple(sorted(found, key=lambda mount: mount.destination.count("/")))


def _from_bind(text: str) -> Mount:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidArgument(
            f"invalid volume specification: '{text}': use HOST-PATH:CONTAINER-PATH[:ro]"
        )
    source, target = parts[:2]
    if not source.startswith("/"):
        raise InvalidArgument(
            f"invalid volume specification: '{text}': {source} is not an absolute path "
            "(named volumes need the engine)"
        )
    modes = parts[2].split(",") if len(parts) == 3 else []
    for mode in modes:
        if mode not in _MODES:
            raise InvalidArgument(f"invalid volume specification: '{text}': invalid mode: {mode}")
    options = tuple(mode for mode in modes if mode in ("ro", *_PROPAGATION))
    return _bind(source, target, options)


def _from_request(request: MountRequest) -> Mount:
    words = ("ro" if request.read_only else "", request.propagation)
    if request.type == "tmpfs":
        return _tmpfs(request.target, ",".join((request.mount_words, *words)))
    if not request.source.startswith("/"):
        raise InvalidArgument(f"invalid mount source: '{request.source}': must be an absolute path")
    if request.propagation not in ("", *_PROPAGATION):
        raise InvalidArgument(
            f"invalid propagation '{request.propagation}' of mount {request.target}: "
            f"use {', '.join(_PROPAGATION)}"
        )
    return _bind(request.source, request.target, tuple(filter(None, words)))


def _bind(source: str, target: str, options: tuple[str, ...]) -> Mount:
    place = _place(target)
    if not os.path.exists(source):
        raise InvalidArgument(
            f'invalid mount config for type "bind": bind source path does not exist: {source}'
        )
    # A read-only tree is read-only all the way down, as in Docker 25 and later.
    below = ("rro",) if "ro" in options else ()
    return Mount(
        destination=place,
        type="bind",
        source=os.path.realpath(source),
        options=("rbind", *options, *below),
    )


def _tmpfs(target: str, options: str) -> Mount:
    place = _place(target)
    words = tuple(word for word in options.split(",") if word)
    for word in words:
        _check_tmpfs_option(target, word)
    return Mount(
        destination=place,
        type="tmpfs",
        source="tmpfs",
        options=("nosuid", "nodev", "noexec", *words),
    )


def _check_tmpfs_option(target: str, word: str) -> None:
    name, equals, value = word.partition("=")
    if equals and name in _TMPFS_VALUES:
        good = value and not set(value) - set(_TMPFS_VALUES[name])
    else:
        good = word in OPTIONS and not OPTIONS[word].bind
    if not good:
        raise InvalidArgument(f"invalid tmpfs option '{word}' of {target}: see tmpfs(5)")


def _place(target: str) -> str:
    """Give a mount's place in its one spelling."""
    place = os.path.normpath(f"/{target.lstrip('/')}")  # which would keep two slashes: POSIX
    if not target.startswith("/") or place == "/":
        raise InvalidArgument(
            f"invalid mount path: '{target}': must be an absolute path in the container, not /"
        )
    return place


def devices_for(host: HostConfig) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """Turn `--device` into device files and the rules that let them be used.

    Raises:
        InvalidArgument: no such device on the host, or permissions other than r, w, m.
    """
    pairs = [_device(mapping) for mapping in host.devices]
    if host.privileged:
        pairs += [_device_at(path, path, "rwm") for path in _host_devices("/dev")]
    return tuple(device for device, _ in pairs), tuple(rule for _, rule in pairs)


def _device(mapping: DeviceMapping) -> tuple[Device, DeviceRule]:
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
    return _device_at(mapping.path_on_host, inside, permissions)


def _device_at(path: str, inside: str, permissions: str) -> tuple[Device, DeviceRule]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidArgument(
            f"error gathering device information for {path}: {error.strerror}"
        ) from None
    kind = _DEVICE_TYPES.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise InvalidArgument(f"{path} is not a device: use -v to mount a file or directory")
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


def mount_points(config: ContainerConfig) -> list[dict[str, Any]]:
    """Give what `inspect` shows of a container's mounts: Docker's MountPoint."""
    found = []
    for text in config.host_config.binds:
        source, target, *mode = text.split(":")
        words = mode[0].split(",") if mode else []
        found.append(_mount_point("bind", source, target, ",".join(words), "ro" not in words))
    return found + [
        _mount_point(request.type, request.source, request.target, "", not request.read_only)
        for request in config.host_config.mounts
    ]


def _mount_point(kind: str, source: str, target: str, mode: str, writable: bool) -> dict[str, Any]:
    shown = {"Type": kind, "Source": source, "Destination": target, "Mode": mode, "RW": writable}
    return {**shown, "Propagation": "rprivate" if kind == "bind" else ""}
