"""The cgroup that keeps the one above it: a container's group is made in that.

A group of this project is removed with the last group in it. So the first container to start would
make its parent too, in every hierarchy, and the last one to end would remove it: on cgroup v1 that
is half of what cgroups cost a start. While an empty group of the engine's own stands beside those
of containers, the parent stays. It has no process, and no limit.

See: cgroups(7); `directories.remove`.
"""

from __future__ import annotations

import hashlib

from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.contexts import suppress
from minicontainer.errors import Error


class KeptGroup:
    """The group, from the first start to the engine's end.

    Args:
        parent: the cgroup that those of containers are made in.
        exec_root: of the engine; another engine's group has another name, and the next engine
            there finds what a killed one has left.
    """

    def __init__(self, parent: str, exec_root: str) -> None:
        own = hashlib.sha256(exec_root.encode()).hexdigest()[:12]
        self._path = f"/{parent.strip('/')}/engine-{own}"
        self._made = False

    def make(self) -> None:
        """Make it, the first time; a host that forbids it will refuse the container's own group."""
        if not self._made:
            self._made = True
            with suppress(Error):
                open_cgroup(self._path).create()

    def remove(self) -> None:
        """Remove it, and the parent if no container's group is left there."""
        with suppress(Error):
            open_cgroup(self._path).remove(timeout_s=0)
