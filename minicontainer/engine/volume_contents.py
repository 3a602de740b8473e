"""What a new volume gets: the files that the image has where the volume is mounted.

The image is looked at through an overlay of its layers: `overlays`.

See: Docker's "Volumes", "Populate a volume using a container".
"""

from __future__ import annotations

import os

from minicontainer.engine import overlays
from minicontainer.errors import KernelError
from minicontainer.kernel import paths
from minicontainer.kernel.overlay import Overlay
from minicontainer.runtime.mounts.copyup import copy_tree


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
    layers = Overlay(lowers=lowers)
    overlays.with_overlay(layers, lambda image: _copy(image, target, volume))


def _copy(image: str, target: str, volume: str) -> None:
    root = os.open(image, paths.DIRECTORY)
    try:
        source = paths.open_in_root(root, target, os.O_PATH | os.O_DIRECTORY)
    except KernelError:
        return  # the image has nothing there, or no directory
    finally:
        os.close(root)
    try:
        into = os.open(volume, paths.DIRECTORY)
        try:
            copy_tree(source, into, volume, keep_mode=False)
        finally:
            os.close(into)
    finally:
        os.close(source)
