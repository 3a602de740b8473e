"""Id-mapped mounts: mounts that show other owners than their files have.

In a user namespace whose root is user 100000 on the host, the image's files, of user 0, belong to
nobody. An id-mapped mount translates: on it, files of user 0 belong to user 100000, who is user 0
inside; nothing on disk changes. Only the host may make such a mount, so the parent does.

See: mount_setattr(2) "ID-mapped mounts".
"""

from __future__ import annotations

import errno
import os

from minicontainer.contexts import contextmanager
from minicontainer.errors import KernelError
from minicontainer.kernel import files, mounts, namespaces
from minicontainer.runtime.mounts import binds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.kernel.namespaces import IdMap
    from minicontainer.runtime.config.spec import Mount
    from minicontainer.runtime.config.spec_linux import Linux


def open_mount(mount: Mount, linux: Linux) -> int:
    """Make the detached, id-mapped copy of a bind's source.

    Args:
        mount: its own maps are used; if it has none, the container's are.
        linux: has the container's maps.
    Returns:
        A descriptor for move_mount(2).
    Raises:
        KernelError: EINVAL if a filesystem below the source does not support id-mapped mounts.
    """
    tree = binds.open_source(mount)
    recursive = "ridmap" in mount.options
    attributes = mounts.Attributes(set=mounts.MOUNT_ATTR_IDMAP)
    try:
        with _maps_for(mount, linux) as userns:
            mounts.mount_setattr(tree, attributes, userns_fd=userns, recursive=recursive)
    except KernelError as error:
        os.close(tree)
        if error.errno != errno.EINVAL:
            raise
        raise KernelError(
            error.errno,
            "its filesystem (or one mounted below it, with ridmap) does not support id-mapped "
            "mounts; ext4, xfs, btrfs and tmpfs of newer kernels do, unless id-mapped already",
            f"id-mapped mount of {mount.source}",
        ) from None
    return tree


@contextmanager
def _maps_for(mount: Mount, linux: Linux) -> Iterator[int]:
    """Return a user namespace with the maps that a mount needs."""
    joined = [space.path for space in linux.namespaces if space.type == "user" and space.path]
    if mount.uid_mappings:
        with _user_namespace(mount.uid_mappings, mount.gid_mappings) as userns:
            yield userns
    elif joined:
        fd = namespaces.open_namespace(joined[0], namespaces.BY_TYPE["user"])
        with files.opened(fd):
            yield fd
    else:
        with _user_namespace(linux.uid_mappings, linux.gid_mappings) as userns:
            yield userns


@contextmanager
def _user_namespace(uids: tuple[IdMap, ...], gids: tuple[IdMap, ...]) -> Iterator[int]:
    """Return a user namespace that exists only for its maps."""
    with namespaces.held(namespaces.CLONE_NEWUSER) as (pid, _):
        namespaces.write_id_maps(pid, uids, gids)
        with files.opened(
            namespaces.open_namespace(f"/proc/{pid}/ns/user", namespaces.BY_TYPE["user"])
        ) as fd:
            yield fd
