"""The cgroup that keeps the one above it: a container's group is made in that.

A group of this project is removed with the last group in it. So the first container to start would
make its parent too, in every hierarchy, and the last one to end would remove it: on cgroup v1 that
is half of what cgroups cost a start. While an empty group of the engine's own stands beside those
of containers, the parent stays. It has no process, and no limit.

See: cgroups(7); `directories.remove`.
"""

from __future__ import annotations

import hashlib

from minicontainer import steps
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.contexts import suppress
from minicontainer.errors import Aborted, Error


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
        """Make it, the first time; a host that forbids it will refuse the container's own group.

        Raises:
            Aborted: the reader of a story does not let the step begin.
        """
        if self._made:
            return
        try:
            steps.take(self.keep_parent_cgroup)
        except Aborted:
            raise
        except Error:
            pass
        self._made = True

    def keep_parent_cgroup(self) -> None:
        """Make an empty cgroup, which keeps the one above it: containers' cgroups are made in that.

        Only an engine's first start does this. Without it, the parent would go with the last
        container, and the next start would make it anew, in every hierarchy.
        """
        open_cgroup(self._path).create()

    def remove(self) -> None:
        """Remove it, and the parent if no container's group is left there."""
        with suppress(Error):
            open_cgroup(self._path).remove(timeout_s=0)
