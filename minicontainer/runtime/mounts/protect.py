"""Paths that reveal the host, or change it: masked or write-protected.

See: runtime-spec config-linux.md "Masked Paths", "Readonly Paths".
"""

from __future__ import annotations

import errno
import os

from minicontainer.errors import KernelError
from minicontainer.kernel import files, mounts, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_READONLY = mounts.Attributes(set=mounts.MOUNT_ATTR_RDONLY)


def mask(root_fd: int, masked: Iterable[str], null: int) -> None:
    """Cover files with the null device, and directories with one empty read-only tmpfs.

    Args:
        null: a detached mount of the null device, from `devices.open_null`.
    """
    covers = {"file": null}
    attached: set[str] = set()
    try:
        for path in masked:
            place = _if_there(root_fd, path)
            if place is None:
                continue  # this kernel does not have it
            with files.opened(place):
                kind = "directory" if paths.is_directory(place) else "file"
                if kind not in covers:
                    covers[kind] = _empty_directory()
                _cover(place, covers[kind], path, kind, attached)
    finally:
        for fd in covers.values():
            os.close(fd)


def _cover(place: int, cover: int, path: str, kind: str, attached: set[str]) -> None:
    by = "--bind -o ro /dev/null" if kind == "file" else "-t tmpfs -o ro,nr_inodes=2 tmpfs"
    shell = f"mount {by} {path}"
    if kind in attached:
        with files.opened(mounts.open_tree("", at=cover)) as copy:
            mounts.move_mount(copy, place, where=path, shell=shell)
    else:
        # The first directory gets the mount itself: before Linux 6.15, only an attached mount can
        # be copied.
        mounts.move_mount(cover, place, where=path, shell=shell)
        attached.add(kind)


def _if_there(root_fd: int, path: str) -> int | None:
    try:
        return paths.open_in_root(root_fd, path)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def _empty_directory() -> int:
    """Make the tmpfs that covers every masked directory: read-only, with no room for a file."""
    return mounts.new_filesystem(
        "tmpfs", "tmpfs", data=("nr_inodes=2", "mode=555"), attributes=mounts.MOUNT_ATTR_RDONLY
    )


def make_readonly(root_fd: int, readonly: Iterable[str]) -> None:
    """Bind paths over themselves, read-only."""
    for path in readonly:
        place = _if_there(root_fd, path)
        if place is None:
            continue
        with (
            files.opened(place),
            files.opened(mounts.open_tree("", recursive=True, at=place)) as tree,
        ):
            mounts.mount_setattr(tree, _READONLY, recursive=True)
            mounts.move_mount(tree, place, where=path, shell=f"mount --rbind -o ro {path} {path}")


def make_mount_readonly(mount_fd: int) -> None:
    """Make one mount read-only; the mounts below it keep their own flags."""
    mounts.mount_setattr(mount_fd, _READONLY)
