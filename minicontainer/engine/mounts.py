"""What the user wants mounted: `-v`, `--mount`, `--tmpfs`, as plans and as the runtime's mounts.

A plan says what was asked for. It becomes a mount when its source is known: a bind's is in the
plan, a volume's directory is found or made by `volumes.py`.

See: Docker's "Bind mounts", "Volumes" and "tmpfs mounts".
"""

from __future__ import annotations

import os
import re

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.kernel.mount_options import OPTIONS
from minicontainer.record import NO_ENTRIES, Record
from minicontainer.runtime.config.spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.engine.config import HostConfig, MountRequest

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
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class MountPlan(Record):
    """One thing that shall be mounted.

    Args:
        type: bind, volume, tmpfs or image.
        target: its place in the container.
        source: the host's path of a bind; an image; a volume's name, "" for an anonymous one.
        words: the options of mount(8), without bind or rbind.
        mode: as the user typed it, for `inspect`.
        recursive: what is mounted below a bind's source is there too.
        must_exist: a bind's source is not made where it is missing: with `--mount`.
        listed: `inspect` shows it among the mounts.
        no_copy: a new volume does not get what the image has at the target.
        subpath: the part of the volume that is mounted.
        driver, driver_options, labels: for a volume that is made.
    """

    type: str
    target: str
    source: str = ""
    words: tuple[str, ...] = ()
    mode: str = ""
    recursive: bool = True
    must_exist: bool = False
    listed: bool = True
    no_copy: bool = False
    subpath: str = ""
    driver: str = ""
    driver_options: dict[str, str] = NO_ENTRIES
    labels: dict[str, str] = NO_ENTRIES

    @property
    def writable(self) -> bool:
        """Say whether it can be written to."""
        return "ro" not in self.words

    @property
    def propagation(self) -> str:
        """Give a bind's propagation."""
        return next((word for word in self.words if word in _PROPAGATION), "rprivate")


def plans_for(
    host: HostConfig, volumes: Iterable[str] = (), data_root: str = ""
) -> tuple[MountPlan, ...]:
    """Read all that was asked for, outer directories before inner ones.

    Args:
        volumes: places of anonymous volumes, the image's too; one where something else is mounted
            is left out.
        data_root: the engine's own, if binds are to be checked against it.
    Raises:
        InvalidArgument: naming the option's text and what is wrong with it.
    """
    found = [_from_bind(text) for text in host.binds]
    found += [_from_request(request) for request in host.mounts]
    found += [_tmpfs(target, options, listed=False) for target, options in host.tmpfs.items()]
    found = [_beside_engine(plan, data_root) for plan in found] if data_root else found
    targets = [plan.target for plan in found]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidArgument(f"Duplicate mount point: {target}")
    places = {_place(target): target for target in volumes}
    found += [MountPlan(type="volume", target=place) for place in places if place not in targets]
    return tuple(sorted(found, key=lambda plan: plan.target.count("/")))


def _beside_engine(plan: MountPlan, data_root: str) -> MountPlan:
    """Let a bind of the engine's own files follow what the host mounts and unmounts there.

    Else a container with `-v /:/host` would hold what the engine has mounted below its data root.
    """
    if plan.type != "bind" or not _overlap(plan.source, data_root):
        return plan
    if not set(plan.words) & set(_PROPAGATION):
        return plan.replace(words=(*plan.words, "rslave"))
    if plan.propagation not in ("rslave", "rshared"):
        raise InvalidArgument(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when '
            f'mount source is within the daemon root, daemon root: "{data_root}", bind mount '
            f'source: "{plan.source}", propagation: "{plan.propagation}"'
        )
    return plan


def _overlap(one: str, other: str) -> bool:
    one, other = (f"{os.path.normpath(path).rstrip('/')}/" for path in (one, other))
    return one.startswith(other) or other.startswith(one)


def mount_of(plan: MountPlan, source: str) -> Mount:
    """Turn a plan into the runtime's mount.

    Args:
        source: the host's directory that is mounted; of no meaning for a tmpfs.
    """
    if plan.type == "tmpfs":
        words = ("nosuid", "nodev", "noexec", *plan.words)
        return Mount(destination=plan.target, type="tmpfs", source="tmpfs", options=words)
    kind = "rbind" if plan.recursive else "bind"
    return Mount(
        destination=plan.target,
        type="bind",
        source=os.path.realpath(source),
        options=(kind, *plan.words),
    )


def check_source(plan: MountPlan) -> None:
    """Check that the source of a bind exists.

    Raises:
        InvalidArgument: it does not.
    """
    if not os.path.exists(plan.source):
        raise InvalidArgument(
            f'invalid mount config for type "bind": bind source path does not exist: {plan.source}'
        )


def check_volume_name(name: str) -> None:
    """Check a volume's name.

    Raises:
        InvalidArgument: in Docker's words.
    """
    if not _VOLUME_NAME.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    if len(name) < 2:
        raise InvalidArgument(
            "volume name is too short, names should be at least two alphanumeric characters"
        )


def _from_bind(text: str) -> MountPlan:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidArgument(
            f"invalid volume specification: '{text}': use HOST-PATH:CONTAINER-PATH[:ro]"
        )
    source, target = parts[:2]
    mode = parts[2] if len(parts) == 3 else ""
    modes = mode.split(",") if mode else []
    for word in modes:
        if word not in _MODES:
            raise InvalidArgument(f"invalid mode: {mode}")
    words = tuple(word for word in modes if word in ("ro", *_PROPAGATION))
    if source.startswith("/"):
        return MountPlan(
            type="bind", source=source, target=_place(target), words=_read_only_below(words),
            mode=mode,
        )  # fmt: skip
    check_volume_name(source)
    if set(words) - {"ro"}:
        raise InvalidArgument(
            f"invalid volume specification: '{text}': invalid mount config for type "
            '"volume": field Mode must not hold a propagation'
        )
    return MountPlan(
        type="volume", source=source, target=_place(target), words=_read_only_below(words),
        mode=mode or "z", no_copy="nocopy" in modes,
    )  # fmt: skip


def _from_request(request: MountRequest) -> MountPlan:
    read_only = ("ro",) if request.read_only else ()
    if not request.target:
        raise InvalidArgument(
            f'invalid mount config for type "{request.type}": field Target must not be empty'
        )
    target = _place(request.target)
    if request.type == "tmpfs":
        return _tmpfs_of_request(request, read_only)
    if request.type == "volume":
        return _volume_of_request(request, target, read_only)
    if request.type == "image":
        return _image_of_request(request, target)
    if request.type != "bind":
        raise InvalidArgument(f'invalid mount config for type "{request.type}": mount type unknown')
    if request.volume_options:
        raise InvalidArgument(
            'invalid mount config for type "bind": field VolumeOptions must not be specified'
        )
    if not request.source:
        raise InvalidArgument(
            'invalid mount config for type "bind": field Source must not be empty'
        )
    if not request.source.startswith("/"):
        raise InvalidArgument(
            f"invalid mount config for type \"bind\": invalid mount path: '{request.source}' mount "
            "path must be absolute"
        )
    options = request.bind_options
    propagation = options.propagation if options else ""
    if propagation not in ("", *_PROPAGATION):
        raise InvalidArgument(
            f"invalid propagation '{propagation}' of mount {request.target}: "
            f"use {', '.join(_PROPAGATION)}"
        )
    words = (*read_only, propagation) if propagation else read_only
    shallow = options is not None and options.read_only_non_recursive
    return MountPlan(
        type="bind",
        source=request.source,
        target=target,
        words=words if shallow else _read_only_below(words),
        recursive=not (options and options.non_recursive),
        must_exist=not (options and options.create_mountpoint),
    )


def _volume_of_request(request: MountRequest, target: str, words: tuple[str, ...]) -> MountPlan:
    if request.source:
        check_volume_name(request.source)
    options = request.volume_options
    driver = options.driver_config if options else None
    subpath = options.subpath if options else ""
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise InvalidArgument(f"subpath must be a relative path within the volume: {subpath}")
    return MountPlan(
        type="volume",
        source=request.source,
        target=target,
        words=_read_only_below(words),
        mode="z",
        no_copy=bool(options and options.no_copy),
        subpath=subpath,
        driver=driver.name if driver else "",
        driver_options=driver.options if driver else {},
        labels=options.labels if options else {},
    )


def _image_of_request(request: MountRequest, target: str) -> MountPlan:
    """Read an image to be mounted; it can't be written to in any case."""
    for name, given in (
        ("BindOptions", request.bind_options),
        ("VolumeOptions", request.volume_options),
        ("TmpfsOptions", request.tmpfs_options),
    ):
        if given:
            raise InvalidArgument(
                f'invalid mount config for type "image": field {name} must not be specified'
            )
    if not request.source:
        raise InvalidArgument(
            'invalid mount config for type "image": field Source must not be empty'
        )
    if request.image_options and request.image_options.subpath:
        raise Unsupported("a part of an image can't be mounted: leave image-subpath out")
    return MountPlan(
        type="image", source=request.source, target=target, words=_read_only_below(("ro",))
    )


def _tmpfs_of_request(request: MountRequest, words: tuple[str, ...]) -> MountPlan:
    if request.source:
        raise InvalidArgument(
            'invalid mount config for type "tmpfs": field Source must not be specified'
        )
    options = request.tmpfs_options
    own = []
    if options and options.size_bytes:
        own.append(f"size={options.size_bytes}")
    if options and options.mode:
        own.append(f"mode={options.mode:o}")
    return _tmpfs(request.target, ",".join((*own, *words)))


def _read_only_below(words: tuple[str, ...]) -> tuple[str, ...]:
    """Make a read-only tree read-only all the way down, as in Docker 25 and later."""
    return (*words, "rro") if "ro" in words else words


def _tmpfs(target: str, options: str, *, listed: bool = True) -> MountPlan:
    place = _place(target)
    words = tuple(word for word in options.split(",") if word)
    for word in words:
        _check_tmpfs_option(word)
    return MountPlan(type="tmpfs", target=place, words=words, listed=listed)


def _check_tmpfs_option(word: str) -> None:
    name, equals, value = word.partition("=")
    if equals and name in _TMPFS_VALUES:
        good = value and not set(value) - set(_TMPFS_VALUES[name])
    else:
        good = word in OPTIONS and not OPTIONS[word].bind
    if not good:
        raise InvalidArgument(f'invalid tmpfs option "{name}"')


def _place(target: str) -> str:
    """Give a mount's place in its one spelling."""
    place = os.path.normpath(f"/{target.lstrip('/')}")  # which would keep two slashes: POSIX
    if not target.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{target}' mount path must be absolute")
    if place == "/":
        raise InvalidArgument("invalid specification: destination can't be '/'")
    return place
