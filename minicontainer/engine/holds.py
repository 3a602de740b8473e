"""A story whose steps wait for its reader: `--step`.

    reader                                  engine                        creator, init
      │                                       │ ◄──────────── Waiting ──────│ before a step
      │ ◄── the step, with "waiting": true ── │                             │
      │ looks at /proc, thinks                │                             │
      │ POST …/traces/NAME/continue ────────► │ ── Proceed, or Abort ─────► │ takes it, or undoes

The engine's own steps wait in the same way, in the thread of their request.

Where a monitor creates its container itself, it stands in the creator's place.

See: `traces` for stories; `minicontainer.steps.hold`; `minicontainer.runtime.sync` for the way
between creator and init.
"""

from __future__ import annotations

import os
import select
import threading

from minicontainer import jsontext
from minicontainer.errors import Aborted, Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.event import Event


class Hold:
    """Where the steps of a story wait, one at a time.

    Args:
        show: passes what waits on to the reader.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._answer = -1  # the eventfd(2) of the step that waits
        self.aborted = False

    def wait(self, event: Event, container: str = "", other: int = -1) -> None:
        """Wait until the reader lets a step begin.

        Args:
            event: the first event of the step.
            container: the ID of the container that the step is about, if there is one.
            other: the connection to the process that will take it; its end ends the wait.
        Raises:
            Aborted: the reader gave the story up, or has left.
        """
        with self._turn:
            answer = os.eventfd(0, os.EFD_CLOEXEC)
            with self._lock:
                self._answer = answer
            try:
                if not self.aborted:
                    told = event.to_json() | {"waiting": True}
                    told |= {"container": container} if container else {}
                    self._show(f"{jsontext.dump(told)}\n")
                    _wait_readable(answer, other)
            finally:
                with self._lock:
                    self._answer = -1
                os.close(answer)
        if self.aborted:
            raise Aborted(f"aborted before {event.step}: everything was undone")

    def proceed(self) -> None:
        """Let the step begin that waits.

        Raises:
            Conflict: none does.
        """
        with self._lock:
            if self._answer < 0:
                raise Conflict("no step of this story waits")
            os.eventfd_write(self._answer, 1)

    def abort(self) -> None:
        """Let neither the step begin that waits, nor a later one."""
        with self._lock:
            self.aborted = True
            if self._answer >= 0:
                os.eventfd_write(self._answer, 1)

    def make_way(self, name: str, force: bool) -> None:
        """Give the start of a container up, if it waits, because somebody removes the container.

        Raises:
            Conflict: it waits, and *force* is false.
        """
        if self._answer < 0:
            return
        if not force:
            raise Conflict(
                f'cannot remove container "/{name}": its start waits for a reader (--step): '
                "continue there, or force remove"
            )
        self.abort()


def _wait_readable(*descriptors: int) -> None:
    poll = select.poll()
    for fd in descriptors:
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    poll.poll()
