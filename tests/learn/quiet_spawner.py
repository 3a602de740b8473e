"""A spawner in which nobody can make an event: for a test that none is made."""

from __future__ import annotations

from minicontainer import steps
from minicontainer.engine import spawner

setattr(steps, "Event", None)  # noqa: B010  # the type says that it is a class
main = spawner.main
