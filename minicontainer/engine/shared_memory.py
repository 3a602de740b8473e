"""/dev/shm of a container that shares its IPC namespace: `--ipc shareable`, `--ipc container:NAME`.

System V shared memory and POSIX message queues belong to the IPC namespace, but POSIX shared memory
is files in /dev/shm. So that both containers have the same ones, their tmpfs is a mount of the
host, as Docker's is, and each of them has it bound:

    <exec-root>/shm/ID      a tmpfs, from the container's start to its end

See: shm_overview(7), ipc_namespaces(7), tmpfs(5).
"""

from __future__ import annotations

import contextlib
import os

from minicontainer import steps
from minicontainer.engine.merging import DEFAULT_SHM_SIZE
from minicontainer.errors import KernelError, NotFound
from minicontainer.kernel import mounts
from minicontainer.runtime.config.spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from minicontainer.engine.container import Container

_PLACE = "/dev/shm"
_FLAGS = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
_OPTIONS = ("rbind", "nosuid", "nodev", "noexec")


def make(exec_root: str, container: Container) -> None:
    """Mount the tmpfs of a container that starts, if it is one to share."""
    host = container.config.host_config
    if host.ipc_mode == "shareable":
        place = _place(exec_root, container.id)
        steps.take(share_memory, place, host.shm_size or DEFAULT_SHM_SIZE)


def share_memory(place: str, size: int) -> None:
    """Mount a tmpfs for /dev/shm that other containers can have, too.

    Such a container lets others join its IPC namespace. But POSIX shared memory is files, which
    belong to no namespace: so each of these containers gets this mount.

    Args:
        place: where on the host;  size: in bytes.
    """
    if os.path.isdir(place):  # of a start that failed
        unshare_memory(place)
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    os.mkdir(place, 0o700)
    mounts.mount("shm", place, "tmpfs", _FLAGS, f"mode=1777,size={size}")


def remove(exec_root: str, identifier: str) -> None:
    """Unmount it, if it is there."""
    place = _place(exec_root, identifier)
    if os.path.isdir(place):
        steps.take_back(unshare_memory, place)


def unshare_memory(place: str) -> None:
    """Unmount the tmpfs that other containers could have; those that do keep it."""
    with contextlib.suppress(KernelError):  # it was not mounted yet
        mounts.umount2(place, mounts.MNT_DETACH)
    with contextlib.suppress(OSError):
        os.rmdir(place)


def sweep(exec_root: str, running: set[str]) -> None:
    """Unmount what a killed engine left.

    Args:
        running: IDs of the containers that run.
    """
    with contextlib.suppress(FileNotFoundError):
        for identifier in set(os.listdir(f"{exec_root}/shm")) - running:
            remove(exec_root, identifier)


def with_shared(
    exec_root: str,
    container: Container,
    wanted: Iterable[Mount],
    find: Callable[[str], Container],
) -> tuple[Mount, ...]:
    """Add the mount of /dev/shm to a container's mounts, if it shares that and has none there.

    Args:
        wanted: the user's own mounts.
        find: finds the container whose namespace it joins.
    """
    own = tuple(wanted)
    source = _source(exec_root, container, find)
    if not source or any(mount.destination == _PLACE for mount in own):
        return own
    return (Mount(destination=_PLACE, type="bind", source=source, options=_OPTIONS), *own)


def _source(exec_root: str, container: Container, find: Callable[[str], Container]) -> str:
    kind, _, ref = container.config.host_config.ipc_mode.partition(":")
    if kind == "shareable":
        return _place(exec_root, container.id)
    if kind != "container":
        return ""
    try:
        other = find(ref)
    except NotFound:  # who joins the namespace says so
        return ""
    if other.config.host_config.ipc_mode == "host":
        return _PLACE
    return _source(exec_root, other, find) if other is not container else ""


def _place(exec_root: str, identifier: str) -> str:
    return f"{exec_root}/shm/{identifier}"
