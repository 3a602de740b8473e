"""config.json: the specification of one container, as typed values, and its bundle.

The fields are those of the OCI runtime specification, in snake_case; `Record` reads and writes the
specification's spelling. `spec_process` and `spec_linux` have those two parts, and `spec_check`
finds what makes no sense before anything is done.

See: runtime-spec config.md, bundle.md.
"""

from __future__ import annotations

import os

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.kernel.namespaces import IdMap
from minicontainer.record import NO_ENTRIES, Record
from minicontainer.runtime.config import spec_check
from minicontainer.runtime.config.spec_linux import Linux
from minicontainer.runtime.config.spec_process import Process

_LONGEST = 16 << 20  # characters; engines write a thousandth of that

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Root(Record):
    """The container's root file system; a relative path is below the bundle."""

    path: str
    readonly: bool = False


class Mount(Record):
    """One mount.

    A destination of "/" is the root itself: it is mounted over `Root.path`, before all others. This
    is how an engine requests an overlay that exists in the container's mount namespace alone.
    """

    destination: str
    type: str | None = None
    source: str | None = None
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()


class Hook(Record):
    """A program that runs at one point of a container's life, with the state on its stdin.

    Args:
        args: the first one is the program's own name, as for execv(3).
        env: None for the environment of the process that runs it.
        timeout: seconds until it is killed; None to wait for ever.
    """

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    timeout: int | None = None


class Hooks(Record):
    """The programs to run at each point, in order.

    See: runtime-spec config.md "POSIX-platform Hooks"; runtime.md "Lifecycle".
    """

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()

    def listed(self) -> Iterator[tuple[str, Hook]]:
        """Yield every hook with its JSON path."""
        for field in self.fields():
            for i, hook in enumerate(getattr(self, field)):
                yield f"hooks.{self.json_names()[field]}[{i}]", hook


class Spec(Record):
    """A whole config.json."""

    oci_version: str
    root: Root
    process: Process
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks = Hooks()
    annotations: dict[str, str] = NO_ENTRIES
    linux: Linux = Linux()

    def new_namespace(self, kind: str) -> bool:
        """Report whether the container gets a new namespace of that type."""
        return any(ns.type == kind and not ns.path for ns in self.linux.namespaces)

    def has_namespace(self, kind: str) -> bool:
        """Report whether its namespace of that type is not the caller's: new, or joined."""
        return any(ns.type == kind for ns in self.linux.namespaces)

    def may_be_handed_over(self) -> bool:
        """Report whether one process can make the container, and its parent hold it: `taken`.

        Where namespaces are joined, a process in between forks init. Hooks, devices that are
        mounted and interfaces that are moved have an undo that only their maker knows.
        """
        made = all(not ns.path and ns.type not in ("user", "time") for ns in self.linux.namespaces)
        return made and self.hooks == Hooks() and not self.linux.net_devices


class Bundle(Record):
    """A directory with a config.json.

    Args:
        path: the directory, absolute.
        spec: the contents of its config.json;  text: that file as it is.
    """

    path: str
    spec: Spec
    text: str

    @property
    def rootfs(self) -> str:
        """The absolute path of the root file system, with links followed: it is the host's path."""
        return os.path.realpath(os.path.join(self.path, self.spec.root.path))


def read_bundle(path: str, config: str = "config.json") -> Bundle:
    """Read and check the bundle at *path*.

    Args:
        config: the specification's file, if it has another name; a relative path is below *path*.
    Raises:
        NotFound: no bundle, no config.json, or no root file system there.
        InvalidArgument: it is not JSON, or a value makes no sense; the JSON path is named.
    """
    path = os.path.abspath(path)
    config = os.path.join(path, config)
    try:
        with open(config, encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise InvalidArgument(f"{config} is longer than {_LONGEST >> 20} MiB")
        document = jsontext.parse(text)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{config} does not exist: make one with `minicontainer-oci spec`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{config} can't be read as JSON: {error}") from None
    spec = Spec.from_json(document)
    if spec.new_namespace("user") and not (spec.linux.uid_mappings or spec.linux.gid_mappings):
        from minicontainer.runtime.config import id_maps

        document = id_maps.completed(document)
        spec, text = Spec.from_json(document), jsontext.dump(document) + "\n"
    bundle = Bundle(path=path, spec=spec, text=text)
    spec_check.check(spec)
    if not os.path.isdir(bundle.rootfs):
        raise NotFound(f"root.path: {bundle.rootfs} is not a directory")
    return bundle
