"""Threads that are started as soon as the host has room for them.

At a limit of processes, which counts threads (systemd's TasksMax), Python can't start one.
"""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_RETRY_S = 0.1  # until a thread or a container may have ended


class LateThreads:
    """Work that each gets a thread of its own, in the order it came; one thread uses this."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def add(self, work: Callable[[], None]) -> None:
        """Have *work* done by a thread, after the next `start`."""
        self._waiting.append(work)

    def retry_s(self) -> float | None:
        """Say how soon `start` should be called again; None: not before more work comes."""
        return _RETRY_S if self._waiting else None

    def start(self) -> None:
        """Start as many threads as there is room for."""
        while self._waiting:
            try:
                threading.Thread(target=self._waiting[0], daemon=True).start()
            except RuntimeError:
                return
            del self._waiting[0]
