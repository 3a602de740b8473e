"""A spawner in which nobody can make an event: for a test that none is made."""

from __future__ import annotations

from minicontainer import steps
from minicontainer.engine import spawner

steps.Event = None  # type: ignore[misc,assignment]
main = spawner.main
