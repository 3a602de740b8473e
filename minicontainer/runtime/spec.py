"""config.json: the specification of one container, as typed values.

The fields are those of the OCI runtime specification, in snake_case; `Record` reads and writes its
own spelling. What the specification leaves open is checked here, before anything is done.

See: runtime-spec config.md, config-linux.md.
"""

from __future__ import annotations

import os

from minicontainer import jsontext
from minicontainer.cgroups.limits import Resources
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.kernel.mounts import OPTIONS
from minicontainer.kernel.namespaces import BY_TYPE, IdMap
from minicontainer.kernel.process import RLIMITS
from minicontainer.kernel.seccomp import Seccomp
from minicontainer.record import NO_ENTRIES, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OCI_VERSION = "1.2.0"
PROPAGATIONS = tuple(word for word, option in OPTIONS.items() if option.propagation)
RLIMIT_INFINITY = 2**64 - 1  # no limit, as the kernel's 64 bits of -1 read without a sign

_HIGHEST_ID = 2**32 - 2  # the last one means "no change" to setresuid(2)
_HIGHEST_SIZE = 2**16 - 1  # struct winsize
_HIGHEST_MAJOR, _HIGHEST_MINOR = 2**12 - 1, 2**20 - 1  # the kernel's dev_t


class User(Record):
    """Who the program runs as, inside the container's user namespace."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(Record):
    """The five capability sets, by names such as CAP_CHOWN."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Record):
    """A resource limit, in the kernel's unit for its type."""

    type: str
    soft: int
    hard: int


class ConsoleSize(Record):
    """Rows and columns of the terminal."""

    height: int
    width: int


class Process(Record):
    """The program and the attributes of its process."""

    args: tuple[str, ...] = ()
    cwd: str
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None


class Root(Record):
    """The container's root file system; a relative path is below the bundle."""

    path: str
    readonly: bool = False


class Mount(Record):
    """One mount.

    A destination of "/" is the root itself: mounted over `Root.path`, before all others. That is
    how an engine asks for an overlay that exists in the container's mount namespace alone.
    """

    destination: str
    type: str | None = None
    source: str | None = None
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()


class NamespaceSpec(Record):
    """A namespace that the container gets: a new one, or the one at *path*."""

    type: str
    path: str | None = None


class Device(Record, json={"file_mode": "fileMode"}):
    """A device file in the container's /dev; the mode is the number that chmod(2) takes."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int = 0
    gid: int = 0


class TimeOffset(Record):
    """What a clock of the time namespace is ahead of the host's."""

    secs: int = 0
    nanosecs: int = 0


class Linux(Record):
    """What is Linux's own."""

    namespaces: tuple[NamespaceSpec, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()
    time_offsets: dict[str, TimeOffset] = NO_ENTRIES
    devices: tuple[Device, ...] = ()
    cgroups_path: str | None = None
    resources: Resources = Resources()
    rootfs_propagation: str | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: Seccomp | None = None


class Spec(Record):
    """A whole config.json."""

    oci_version: str
    root: Root
    process: Process
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] = ()
    annotations: dict[str, str] = NO_ENTRIES
    linux: Linux = Linux()

    def new_namespace(self, kind: str) -> bool:
        """Say whether the container gets a namespace of that type of its own."""
        return any(ns.type == kind and not ns.path for ns in self.linux.namespaces)

    def has_namespace(self, kind: str) -> bool:
        """Say whether its namespace of that type is another than the caller's."""
        return any(ns.type == kind for ns in self.linux.namespaces)


class Bundle(Record):
    """A directory with a config.json, read.

    Args:
        path: the directory, absolute.
        spec: what its config.json says.
    """

    path: str
    spec: Spec

    @property
    def rootfs(self) -> str:
        """The absolute path of the root file system, links followed: it is the host's to name."""
        return os.path.realpath(os.path.join(self.path, self.spec.root.path))


def read_bundle(path: str) -> Bundle:
    """Read and check the bundle at *path*.

    Raises:
        NotFound: no bundle, no config.json, or no root file system there.
        InvalidArgument: it is no JSON, or says what makes no sense; the JSON path is named.
    """
    path = os.path.abspath(path)
    config = os.path.join(path, "config.json")
    try:
        with open(config, encoding="utf-8") as file:
            document = jsontext.parse(file.read())
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{config} does not exist: make one with `minicontainer-oci spec`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{config} can't be read as JSON: {error}") from None
    bundle = Bundle(path=path, spec=Spec.from_json(document))
    check(bundle.spec)
    if not os.path.isdir(bundle.rootfs):
        raise NotFound(f"root.path: {bundle.rootfs} is not a directory")
    return bundle


def check(spec: Spec) -> None:
    """Find what is well-formed but makes no sense.

    Raises:
        InvalidArgument: naming the JSON path and what was expected.
    """
    if not spec.process.args:
        raise InvalidArgument("process.args: must name a program")
    if not spec.process.cwd.startswith("/"):
        raise InvalidArgument(f"process.cwd: must be an absolute path, got {spec.process.cwd!r}")
    _check_namespaces(spec.linux.namespaces)
    _check_what_needs_namespaces(spec)
    for where, value, low, high in _numbers(spec):
        if value is not None and not low <= value <= high:
            raise InvalidArgument(f"{where}: expected {low} to {high}, got {value}")
    for i, limit in enumerate(spec.process.rlimits):
        _check_rlimit(f"process.rlimits[{i}]", limit)
    for i, mount in enumerate(spec.mounts):
        if not mount.destination:
            raise InvalidArgument(f"mounts[{i}].destination: must be a path")
    if spec.linux.rootfs_propagation not in (None, *PROPAGATIONS):
        raise InvalidArgument(
            f"linux.rootfsPropagation: expected one of {', '.join(PROPAGATIONS)}, "
            f"got {spec.linux.rootfs_propagation!r}"
        )


def _numbers(spec: Spec) -> Iterator[tuple[str, int | None, int, int]]:
    """Yield what the kernel keeps in fewer bits than JSON can write: path, value, and its range."""
    process, linux = spec.process, spec.linux
    yield "process.oomScoreAdj", process.oom_score_adj, -1000, 1000
    yield "process.user.uid", process.user.uid, 0, _HIGHEST_ID
    yield "process.user.gid", process.user.gid, 0, _HIGHEST_ID
    yield "process.user.umask", process.user.umask, 0, 0o777
    for i, gid in enumerate(process.user.additional_gids):
        yield f"process.user.additionalGids[{i}]", gid, 0, _HIGHEST_ID
    if process.console_size is not None:
        yield "process.consoleSize.height", process.console_size.height, 0, _HIGHEST_SIZE
        yield "process.consoleSize.width", process.console_size.width, 0, _HIGHEST_SIZE
    for i, device in enumerate(linux.devices):
        yield f"linux.devices[{i}].major", device.major, 0, _HIGHEST_MAJOR
        yield f"linux.devices[{i}].minor", device.minor, 0, _HIGHEST_MINOR
        yield f"linux.devices[{i}].uid", device.uid, 0, _HIGHEST_ID
        yield f"linux.devices[{i}].gid", device.gid, 0, _HIGHEST_ID
    for name, runs in (("uid", linux.uid_mappings), ("gid", linux.gid_mappings)):
        for i, run in enumerate(runs):
            where = f"linux.{name}Mappings[{i}]"
            yield f"{where}.containerID", run.container_id, 0, _HIGHEST_ID
            yield f"{where}.hostID", run.host_id, 0, _HIGHEST_ID
            yield f"{where}.size", run.size, 1, _HIGHEST_ID


def _check_rlimit(where: str, limit: Rlimit) -> None:
    if limit.type not in RLIMITS:
        known = ", ".join(sorted(RLIMITS))
        raise InvalidArgument(f"{where}.type: expected one of {known}, got {limit.type!r}")
    for name, value in (("soft", limit.soft), ("hard", limit.hard)):
        if not (0 <= value < 2**63 or value == RLIMIT_INFINITY):
            raise InvalidArgument(f"{where}.{name}: expected 0 to {2**63 - 1}, got {value}")


def _check_what_needs_namespaces(spec: Spec) -> None:
    linux = spec.linux
    if spec.hostname is not None and not spec.has_namespace("uts"):
        raise InvalidArgument("hostname: needs a uts namespace, or it would be the host's")
    if spec.domainname is not None and not spec.has_namespace("uts"):
        raise InvalidArgument("domainname: needs a uts namespace, or it would be the host's")
    if linux.time_offsets and not spec.new_namespace("time"):
        raise InvalidArgument("linux.timeOffsets: needs a new time namespace")
    if spec.new_namespace("user") and not (linux.uid_mappings and linux.gid_mappings):
        raise InvalidArgument("linux.uidMappings, gidMappings: a new user namespace needs both")
    if linux.uid_mappings and not spec.has_namespace("user"):
        raise InvalidArgument("linux.uidMappings: needs a user namespace")


def _check_namespaces(namespaces: tuple[NamespaceSpec, ...]) -> None:
    if not any(namespace.type == "mount" for namespace in namespaces):
        raise InvalidArgument(
            "linux.namespaces: a mount namespace is needed, or the host's own root would change"
        )
    seen = set()
    for i, namespace in enumerate(namespaces):
        where = f"linux.namespaces[{i}]"
        if namespace.type not in BY_TYPE:
            known = ", ".join(sorted(BY_TYPE))
            raise InvalidArgument(f"{where}.type: expected one of {known}, got {namespace.type!r}")
        if namespace.type in seen:
            raise InvalidArgument(f"{where}.type: {namespace.type} is listed twice")
        if namespace.path is not None and not namespace.path.startswith("/"):
            raise InvalidArgument(f"{where}.path: must be absolute, got {namespace.path!r}")
        seen.add(namespace.type)
