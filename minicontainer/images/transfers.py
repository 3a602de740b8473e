"""What a user sees of a transfer: Docker's progress messages, one line for each layer.

    {"status": "Downloading", "id": "6e4b9d9b8a3f",
     "progressDetail": {"current": 512, "total": 4096}}

See: Docker Engine API, "Create an image", "Push an image".
"""

from __future__ import annotations

import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Progress = Callable[[dict[str, Any]], object]

_PAUSE_S = 0.1  # between two messages about one layer: a terminal shows no more


def ignore(message: dict[str, Any]) -> None:
    """Take a message, and do nothing with it."""


class Teller:
    """Passes on messages, one at a time, from whichever thread they come.

    Args:
        progress: where they go.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()

    def status(self, text: str, identifier: str = "") -> None:
        """Say a line that belongs to no layer."""
        message = {"status": text}
        if identifier:
            message["id"] = identifier
        self.send(message)

    def send(self, message: dict[str, Any]) -> None:
        """Pass on one message."""
        with self._lock:
            self._progress(message)


class Line:
    """The line of one layer.

    Args:
        teller: where it is said.
        identifier: twelve digits of a digest; "" for the only thing that is transferred.
        total: bytes of the blob.
    """

    def __init__(self, teller: Teller, identifier: str, total: int) -> None:
        self._teller = teller
        self._identifier = identifier
        self._total = total
        self._next = 0.0
        self._last = ("", -1)

    def say(self, status: str) -> None:
        """Say what the layer is at."""
        self._teller.send({"status": status, "progressDetail": {}, "id": self._identifier})

    def advance(self, status: str) -> Callable[[int], None]:
        """Give a function that says how many bytes are done; it leaves out what comes too fast."""

        def tell(done: int) -> None:
            now = time.monotonic()
            if (now < self._next and done < self._total) or self._last == (status, done):
                return
            self._next = now + _PAUSE_S
            self._last = (status, done)
            detail = {"current": done, "total": self._total}
            message = {"status": status, "progressDetail": detail}
            self._teller.send(message | ({"id": self._identifier} if self._identifier else {}))

        return tell
