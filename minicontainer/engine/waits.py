"""Waiting for a container: until it does not run, until its next end, until it is removed.

See: Docker Engine API, ContainerWait.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.container import Container

    Json = dict[str, Any]

_KILLED = 137


class Waiting:
    """A wait. It counts from when this is made: nothing between that and `result` is lost.

    Args:
        container: to wait for.
        condition: not-running, next-exit or removed.
    """

    def __init__(self, container: Container, condition: str) -> None:
        self._container = container
        self._condition = condition
        self._closed = False
        with container.changed:
            self._exits = container.exits

    def result(self) -> Json:
        """Wait; give Docker's `{"StatusCode": n}`."""
        container = self._container
        with container.changed:
            container.changed.wait_for(self._is_over)
            has_ended = container.exits > self._exits  # it may run again since
            code = container.last_exit_code if has_ended else container.state.exit_code
            found: Json = {"StatusCode": code}
            if reason := _reason(container):
                found["Reason"] = reason  # ours: Docker's clients pass it over
            never_ran = container.state.status == "created" and self._condition == "not-running"
            if never_ran and container.state.error:  # for the other waits, `start` has told it
                found["Error"] = {"Message": container.state.error}
            return found

    def _is_over(self) -> bool:
        container = self._container
        if self._closed or container.removed:
            return True
        if self._condition == "removed":
            return False
        if container.exits > self._exits:  # an end is one, also if the restart policy follows it
            return True
        return self._condition == "not-running" and not container.state.is_live()

    def close(self) -> None:
        """End the wait, from any thread."""
        with self._container.changed:
            self._closed = True
            self._container.changed.notify_all()


def _reason(container: Container) -> str:
    """Say why the kernel killed a container's program; "" where it did not."""
    state = container.state
    if not state.oom_killed or state.exit_code != _KILLED:
        return ""
    peak = f", peak {state.peak_memory >> 20} MiB" if state.peak_memory else ""
    limit = container.config.host_config.memory
    told = f"limit {limit >> 20} MiB" if limit else "no limit of its own"
    return f"killed by the kernel: out of memory ({told}{peak})"
