"""A container's directory, and the OCI bundle in it that the monitor starts.

<data-root>/containers/<id>/
    config.json                      the specification of the next start
    rootfs/                          where the overlay is mounted, in the container alone
    upper/ work/                     the overlay's writable layer
    hostname hosts resolv.conf       shown in the container's /etc
    <id>-json.log                    the log
    exit.json                        how the last start ended
"""

from __future__ import annotations

import contextlib
import os

from minicontainer import jsontext
from minicontainer.engine import parts, resolvers, specs
from minicontainer.errors import InvalidArgument, KernelError, NotFound
from minicontainer.images.directories import copy_attributes
from minicontainer.kernel import files, trees
from minicontainer.runtime.config.spec_check import check
from minicontainer.runtime.container.state import for_its_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from minicontainer.engine.config import ContainerConfig
    from minicontainer.engine.container import Container
    from minicontainer.engine.trash import Trash
    from minicontainer.runtime.config.spec import Mount, Spec

# The lines of /etc/hosts that every container has.
_HOSTS = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)
_LAYER = ("rootfs", "upper", "work")


def find_rootfs(asked: str, data_root: str) -> str:
    """Find a root file system: a directory, or the name of one that rootfs/NAME built.

    Raises:
        NotFound: saying how to build it.
        InvalidArgument: it is no directory, or can't be read.
    """
    is_name = "/" not in asked
    if not is_name and not asked.startswith("/"):
        raise InvalidArgument(
            f"root file system {asked}: it must be an absolute path, or the name of what "
            "rootfs/NAME built"
        )
    path = os.path.join(data_root, "rootfs", asked) if is_name else asked
    try:
        os.listdir(path)
    except FileNotFoundError:
        how = f"build it with rootfs/{asked}" if is_name else "name another directory"
        raise NotFound(f"no root file system at {path}: {how}") from None
    except NotADirectoryError:
        raise InvalidArgument(
            f"root file system {path} is not a directory: unpack it into one first"
        ) from None
    except OSError as error:
        raise InvalidArgument(f"root file system {path} can't be read: {error.strerror}") from None
    return os.path.realpath(path)


def make_directory(container: Container) -> None:
    """Make the container's directory, with an empty writable layer.

    Nobody else of the host comes in: a set-id program of the container would be one of the host's
    root (CVE-2021-41091). The root of a user namespace passes through, by its group.
    """
    os.makedirs(os.path.dirname(container.directory), mode=0o711, exist_ok=True)
    os.mkdir(container.directory, 0o700)
    for name in _LAYER:
        os.mkdir(f"{container.directory}/{name}", 0o755)
    if container.config.host_config.userns_mode == "private":
        mapped = specs.MAPPED.host_id
        os.chown(container.directory, 0, mapped)
        os.chmod(container.directory, 0o710)
        for name in ("upper", "work"):
            os.chown(f"{container.directory}/{name}", mapped, mapped)


def first_id_of(container: Container) -> int:
    """Say what uid and gid 0 of a container are in its writable layer."""
    is_mapped = container.config.host_config.userns_mode == "private"
    # A plain copy is shown by an id-mapped mount; an overlay's upper directory can't be.
    return specs.MAPPED.host_id if is_mapped and not container.copied else 0


def dress_root(container: Container, lower: str) -> None:
    """Give the writable layer's root what the image's root has: overlay shows the uppermost one.

    Args:
        lower: the image's uppermost layer.
    Raises:
        KernelError: as the calls say.
    """
    upper = f"{container.directory}/upper"
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with files.opened(os.open(lower, flags)) as source, files.opened(os.open(upper, flags)) as own:
        copy_attributes(source, own)
        if container.config.host_config.userns_mode == "private":
            found, first = os.fstat(source), specs.MAPPED.host_id
            os.fchown(own, first + found.st_uid, first + found.st_gid)


def discard_directory(container: Container, trash: Trash) -> None:
    """Move the container's directory away: its bundle, its log, and all that its program wrote.

    rename(2) takes the directory away at once, however large it is. A thread of the engine then
    removes the files.
    """
    trash.throw(container.directory)


def sweep(data_root: str, known: set[str]) -> None:
    """Remove directories that a killed engine left: of containers half made, or half removed.

    Args:
        known: IDs of the containers that exist.
    """
    parent = os.path.join(data_root, "containers")
    for name in os.listdir(parent) if os.path.isdir(parent) else ():
        directory = os.path.join(parent, name)
        if name not in known:
            with contextlib.suppress(KernelError):  # a later engine tries again
                trees.remove_if_there(directory)


def write_etc(container: Container, linked: Iterable[str] = ()) -> None:
    """Write what a container can't take from its image: its name, and the host's resolvers.

    Args:
        linked: lines of /etc/hosts for the containers that it is linked to.
    """
    for name, text in etc_texts(container, linked).items():
        write_file(f"{container.directory}/{name}", text)


def etc_texts(
    container: Container, linked: Iterable[str] = (), places: Iterable[dict[str, Any]] | None = None
) -> dict[str, str]:
    """Give the texts of the files that `write_etc` writes, by their names in /etc.

    Args:
        places: the container's places in networks, if they are not those that it has.
    """
    config = container.config
    hostname = specs.hostname_for(config, container.id)
    name, dot, _ = hostname.partition(".")  # it may have its domain in it
    full = f"{hostname} {name}" if dot and name else hostname
    full = f"{hostname}.{config.domainname} {hostname}" if config.domainname else full
    known = container.endpoints.values() if places is None else places
    ends = [end for end in known if end.get("IPAddress")]
    own = "".join(f"{end['IPAddress']}\t{full}\n" for end in ends)
    gateway = ends[0]["Gateway"] if ends else "127.0.0.1"
    extra = "".join(_host_line(entry, gateway) for entry in config.host_config.extra_hosts)
    hosts = _HOSTS
    if config.host_config.network_mode == "host":  # the host's names hold there
        with contextlib.suppress(OSError, KernelError):
            hosts = files.read_file("/etc/hosts").rstrip("\n") + "\n"
    return {
        "hostname": hostname + "\n",
        "hosts": f"{hosts}{extra}{''.join(linked)}{own}",
        "resolv.conf": _resolv_conf(config),
    }


def _host_line(entry: str, gateway: str) -> str:
    """Write a line for NAME:ADDRESS, where the address `host-gateway` stands for the host."""
    name, _, address = entry.partition(":")
    address = gateway if address == "host-gateway" else address
    return f"{address}\t{name}\n"


def _resolv_conf(config: ContainerConfig) -> str:
    host = config.host_config
    if not (host.dns or host.dns_search or host.dns_options):
        return resolvers.for_network(host.network_mode == "host")
    lines = [f"nameserver {server}" for server in host.dns]
    if not lines:
        given = resolvers.for_network(host.network_mode == "host").splitlines()
        lines = [line for line in given if line.startswith("nameserver")]
    if host.dns_search:
        lines.append(f"search {' '.join(host.dns_search)}")
    if host.dns_options:
        lines.append(f"options {' '.join(host.dns_options)}")
    return "\n".join(lines) + "\n"


def write_file(path: str, text: str, mode: int = 0o644) -> None:
    """Write a file, in place: it may be mounted in a container by now.

    Args:
        mode: whatever the caller's umask.
    """
    try:
        with open(path, "w", encoding="utf-8", opener=for_its_owner) as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"write {path}") from None


def make_spec(
    container: Container,
    lowers: tuple[str, ...],
    pid_of: Callable[[str, str], int],
    mounts: tuple[Mount, ...],
    cgroup_parent: str = "",
    etc: str = "",
    config: ContainerConfig | None = None,
) -> Spec:
    """Write the specification of the container's next start, and check it.

    Args:
        lowers: the directories of its image, uppermost first.
        pid_of: finds the first process of another container, whose namespaces it shares.
        mounts: binds, volumes and tmpfs that the user wants.
        cgroup_parent: the engine's own; the container's goes before it.
        etc: the directory with its files for /etc; "": the container's own.
        config: with the variables of its links; None: without them.
    """
    config = config or container.config
    if not config.host_config.cgroup_parent:
        config = config.replace(host_config=config.host_config.replace(cgroup_parent=cgroup_parent))
    mode = config.host_config.network_mode
    if mode not in ("none", "host") and ":" not in mode:  # the name of a network: one of its own
        config = config.replace(host_config=config.host_config.replace(network_mode="bridge"))
    if container.copied:
        lowers = (f"{container.directory}/upper",)
    spec = specs.make_spec(config, container.id, container.directory, pid_of, lowers, mounts, etc)
    spec = parts.without_mounts(spec, config.host_config.without)
    check(spec)
    return spec


def write_bundle(container: Container, spec: Spec) -> None:
    """Write config.json for the monitor."""
    text = jsontext.dump(spec.to_json()) + "\n"
    write_file(f"{container.directory}/config.json", text, 0o600)  # variables may be secrets
