"""What a new volume gets: the files that the image has where the volume is mounted.

The image is looked at through an overlay of its layers, in a mount namespace that one thread has
for itself: nobody else sees that mount, and it ends with the thread.

See: Docker's "Volumes", "Populate a volume using a container"; unshare(2).
"""

from __future__ import annotations

import os
import tempfile
import threading

from minicontainer.errors import Error, KernelError
from minicontainer.kernel import mounts, namespaces, overlay, paths
from minicontainer.runtime.mounts.copyup import copy_tree

_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def fill(volume: str, lowers: tuple[str, ...], target: str) -> None:
    """Copy what the image has at *target* into a volume that is empty.

    The volume's own directory gets the owner and the mode of the image's. Links on the way are
    followed inside the image; where it has no directory there, nothing is done.

    Args:
        volume: the volume's directory.
        lowers: the image's directories, the uppermost first.
    Raises:
        KernelError: ENOSPC, …
    """
    if os.listdir(volume):
        return
    if len(lowers) == 1:  # nothing to be laid over one another
        _copy(lowers[0], target, volume)
        return
    failed: list[Error] = []

    def run() -> None:
        try:
            with tempfile.TemporaryDirectory() as place:
                mount_for_this_thread(overlay.Overlay(lowers=lowers), place)
                _copy(place, target, volume)
                mounts.umount2(place)
        except Error as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="minic:copy-up")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def mount_for_this_thread(layers: overlay.Overlay, place: str) -> None:
    """Mount an overlay in a mount namespace that the calling thread has for itself from now on."""
    namespaces.unshare(namespaces.BY_TYPE["mount"].flag)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    fd = os.open(place, _PATH)
    try:
        os.close(overlay.mount(layers, fd, where=place))
    finally:
        os.close(fd)


def _copy(image: str, target: str, volume: str) -> None:
    root = os.open(image, _PATH)
    try:
        source = paths.open_in_root(root, target, os.O_PATH | os.O_DIRECTORY)
    except KernelError:
        return  # the image has nothing there, or no directory
    finally:
        os.close(root)
    try:
        into = os.open(volume, _PATH)
        try:
            copy_tree(source, into, volume, keep_mode=False)
        finally:
            os.close(into)
    finally:
        os.close(source)
