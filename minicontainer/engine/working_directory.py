"""The working directory of a container: made with it, so that `cp` finds it before the first start.

    docker create --name web -w /srv/app busybox
    docker cp index.html web:/srv/app/

See: Docker's `docker create` reference, "--workdir"; overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import os

from minicontainer.engine import overlays
from minicontainer.errors import Error, KernelError
from minicontainer.kernel import paths
from minicontainer.kernel.overlay import Overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.container import Container


def make(container: Container, lowers: tuple[str, ...]) -> None:
    """Make a new container's working directory, if its image has none.

    In a user namespace it is left to the start: only there its owner is the container's root. What
    can't be made here, such as a directory below a file, is told by the start too.

    Args:
        lowers: the directories below the writable layer, uppermost first.
    """
    path, upper = container.config.working_dir, f"{container.directory}/upper"
    if path in ("", "/") or container.config.host_config.userns_mode == "private":
        return
    if any(_has(layer, path) for layer in lowers):
        return
    if container.copied:
        with contextlib.suppress(KernelError):
            _make(upper, path)
        return
    layers = Overlay(lowers=lowers, upper=upper, work=f"{container.directory}/work")
    with contextlib.suppress(Error, OSError):
        overlays.with_overlay(layers, lambda root: _make(root, path))


def _has(layer: str, path: str) -> bool:
    """Say whether a layer has the directory by itself, which is usual."""
    root = os.open(layer, paths.DIRECTORY)
    try:
        os.close(paths.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
    except KernelError:
        return False
    finally:
        os.close(root)
    return True


def _make(tree: str, path: str) -> None:
    root = os.open(tree, paths.DIRECTORY)
    try:
        os.close(paths.make_in_root(root, path, directory=True))
    finally:
        os.close(root)
