"""What a process does before its task comes, kept for the story of that task.

A monitor and its creator are forked, and the creator takes its first step, before there is a
container for them: `spawning`. If somebody follows the start of that container, this is told first,
with the times at which it was done. They lie before the story's beginning, so they are negative.

See: `minicontainer.steps` for the events.
"""

from __future__ import annotations

import os
import time

from minicontainer import steps
from minicontainer.event import where_written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.event import Unwritten

    Fork = tuple[str, int, Callable[[], int], int, int]  # actor, its pid, step, time, child's pid


class Ahead:
    """The steps that a process, and those from which it was forked, have taken ahead."""

    def __init__(self) -> None:
        self._begun_ns = time.time_ns()
        self._forks: list[Fork] = []
        self._events: list[Unwritten | str] = []

    def keep(self, actor: str) -> None:
        """Keep what this process does from now on, until `leave`.

        Args:
            actor: its name in the events.
        """
        steps.pass_on(self._events.append, actor, self._begun_ns)

    def leave(self) -> None:
        """Keep no more: the task's own steps are told as they are taken."""
        steps.listen(None, "")
        steps.leave_steps()

    def fork(self, step: Callable[[], int], actor: str) -> int:
        """Take a step that forks, and give the child's pid, or 0 in the child.

        The child keeps it: fork(2) returns the child's number to its parent, and the child knows it
        too. To make an event of it can wait: a monitor that did so would be larger, as long as its
        container lives.

        Args:
            actor: the name of the process that forks.
        """
        parent = os.getpid()
        pid = step()
        if pid == 0:
            self._forks.append((actor, parent, step, time.time_ns(), os.getpid()))
        return pid

    def tell(self, put: Callable[[Unwritten | str], object], actor: str, begun_ns: int) -> None:
        """Pass on every event from now on, and before them all that was kept.

        Args:
            put, actor: as for `steps.pass_on`.
            begun_ns: when the story began, by the wall clock in nanoseconds.
        """
        steps.pass_on(put, actor, begun_ns)
        for actor, parent, step, at_ns, pid in self._forks:
            t = at_ns - begun_ns
            where = where_written(actor, steps.step_name(step), steps.step_source(step))
            nothing = None, None, None
            steps.pass_on_kept(parent, t, where, "", (), 0, 0, None, *nothing)
            steps.pass_on_kept(parent, t, where, "fork", (), pid, 0, f"process:{pid}", *nothing)
        for event in self._events:
            assert not isinstance(event, str)  # lines come from a child, and there was none yet
            _, t, *fields = event
            steps.pass_on_kept(os.getpid(), t + self._begun_ns - begun_ns, *fields)
