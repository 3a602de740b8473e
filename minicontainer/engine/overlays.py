"""An overlay of layers that one thread of the engine sees, and nobody else: to look into an image.

The mount is made in a mount namespace of that thread, which ends with it.

See: unshare(2), overlayfs.rst.
"""

from __future__ import annotations

import os
import tempfile
import threading

from minicontainer.errors import Error
from minicontainer.kernel import mounts, namespaces, overlay, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def with_overlay(layers: overlay.Overlay, act: Callable[[str], None]) -> None:
    """Mount an overlay, call *act* with its place, and unmount it.

    Args:
        act: called in the thread that sees the mount.
    Raises:
        Error, OSError: the overlay can't be mounted; or what *act* raises.
    """
    failed: list[Error | OSError] = []

    def run() -> None:
        try:
            _run(layers, act)
        except (Error, OSError) as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="minic:overlay")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _run(layers: overlay.Overlay, act: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory() as place:
        _mount_for_this_thread(layers, place)
        try:
            act(place)
        finally:
            # In any case, and lazily, since nothing may keep it: the directory is removed next,
            # and with it all that is still mounted there.
            mounts.umount2(place, mounts.MNT_DETACH)


def _mount_for_this_thread(layers: overlay.Overlay, place: str) -> None:
    namespaces.unshare(namespaces.BY_TYPE["mount"].flag)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    fd = os.open(place, paths.DIRECTORY)
    try:
        os.close(overlay.mount(layers, fd, where=place))
    finally:
        os.close(fd)
