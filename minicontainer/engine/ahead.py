"""What a process does before its task comes, kept for the story of that task.

A monitor and its creator are forked, and take their first steps, before there is a container for
them: `spawning`. If somebody follows the start of that container, these steps are told first, with
the times at which they were taken. They lie before the story's beginning, so they are negative.

See: `minicontainer.steps` for the events.
"""

from __future__ import annotations

import os
import time

from minicontainer import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.steps import Event


class Ahead:
    """The steps that a process, and those from which it was forked, have taken ahead."""

    def __init__(self) -> None:
        self._begun_ns = time.time_ns()
        self._events: list[Event] = []

    def keep(self, actor: str) -> None:
        """Keep what this process does from now on, until `leave`.

        Args:
            actor: its name in the events.
        """
        steps.listen(self._events.append, actor, self._begun_ns)

    def leave(self) -> None:
        """Keep no more: the task's own steps are told as they are taken."""
        steps.listen(None, "")
        steps.leave_steps()

    def fork(self, step: Callable[[], int]) -> int:
        """Take a step that forks, and give the child's pid, or 0 in the child.

        The child inherits what was kept. The result of fork(2), which its parent notes, is its own
        number.
        """
        pid = steps.take(step)
        if pid == 0 and self._events:  # none in a build without notes, which a benchmark makes
            own = os.getpid()
            begun = self._events[-1]
            self._events.append(begun.replace(call="fork", result=own, object=f"process:{own}"))
        return pid

    def tell(self, begun_ns: int) -> None:
        """Send all that was kept to who listens in this process.

        Args:
            begun_ns: when the story began, by the wall clock in nanoseconds.
        """
        for event in self._events:
            steps.deliver(event.replace(t=event.t + self._begun_ns - begun_ns))
