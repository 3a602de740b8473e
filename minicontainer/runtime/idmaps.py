"""Mounts that show other owners than their files have: id-mapped mounts.

A user namespace whose root is user 100000 on the host finds the image's files owned by nobody it
knows. An id-mapped mount translates: on it, files of user 0 belong to user 100000, which inside is
0 again; nothing on disk changes. Only the host may make one, so the parent does, and hands it on.

See: mount_setattr(2) "ID-mapped mounts".
"""

from __future__ import annotations

import contextlib
import os

from minicontainer.kernel import mounts, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.kernel.namespaces import IdMap
    from minicontainer.runtime.spec import Mount


def open_mount(mount: Mount) -> int:
    """Make the detached, id-mapped copy of what *mount* shall show.

    Returns:
        A descriptor for move_mount(2).
    Raises:
        KernelError: EINVAL when the filesystem knows no id-mapped mounts.
    """
    options = mounts.parse_options(mount.options)
    recursive = bool(options.bind & mounts.MS_REC)
    tree = mounts.open_tree(mount.source or "", recursive=recursive)
    with _user_namespace(mount.uid_mappings, mount.gid_mappings) as userns:
        attributes = mounts.Attributes(set=mounts.MOUNT_ATTR_IDMAP)
        mounts.mount_setattr(tree, attributes, userns_fd=userns)
    return tree


@contextlib.contextmanager
def _user_namespace(uids: tuple[IdMap, ...], gids: tuple[IdMap, ...]) -> Iterator[int]:
    """Give a user namespace that exists only for its maps: an empty process holds it meanwhile."""
    held, holder = os.pipe()
    pid, pidfd = namespaces.clone3(namespaces.CLONE_NEWUSER)
    if pid == 0:
        os.close(holder)
        os.read(held, 1)  # until the parent closes it, or is killed
        os._exit(0)
    try:
        namespaces.write_id_maps(pid, uids, gids)
        fd = namespaces.open_namespace(f"/proc/{pid}/ns/user", namespaces.BY_TYPE["user"])
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        for fd in (held, holder, pidfd):
            os.close(fd)
        os.waitpid(pid, 0)
