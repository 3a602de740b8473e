"""A container that another process has created for this one, which is its parent.

    holder                  creator, its child        init
      │ fork ───────────────► │ create_container        │
      │                       │ clone3 ───────────────► │ a child of the holder: CLONE_PARENT
      │ ◄── pidfd, claim ──── │ …                       │
      │ holds it, and deletes it, as if it had made it itself

See: `lifecycle` for a container whose creator stays; `inputs.Options.for_parent`;
`Spec.may_be_handed_over`.
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.cgroups.cgroup import open_cgroup
from minicontainer.contexts import ExitStack
from minicontainer.runtime.parent import lifecycle
from minicontainer.runtime.parent.foreground import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.runtime.container.state import Store


class Taken(Running):
    """A container that this process holds, and did not create.

    Args:
        name: of the container, in *store*.
        pid, pidfd: its first process, a child of this one.
        claim: the descriptor of its directory, which is locked.
        cgroup_path: finds its cgroup.
    """

    def __init__(
        self, name: str, store: Store, pid: int, pidfd: int, claim: int, cgroup_path: str
    ) -> None:
        super().__init__(pid, pidfd)
        self._name = name
        self._store = store
        self._claim = claim
        self._cgroup_path = cgroup_path

    @property
    def cgroup(self) -> Cgroup:
        """Its cgroup; found again each time, which is rarely."""
        return open_cgroup(self._cgroup_path)

    def delete(self) -> None:
        """Undo what its creator has made, in the order in which `lifecycle` would."""
        claim, cgroup = self._claim, self.cgroup
        with ExitStack() as undo:
            undo.callback(os.close, claim)
            undo.callback(lifecycle.while_claimed, claim, self._store.forget, self._name)
            for step in (lifecycle.remove_cgroup, lifecycle.end_processes):
                undo.callback(lifecycle.while_claimed, claim, steps.take_back, step, cgroup)
            undo.callback(os.close, self.pidfd)
            undo.callback(steps.take_back, lifecycle.end_init, self.pid, self.pidfd)
