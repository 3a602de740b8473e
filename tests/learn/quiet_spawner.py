"""A spawner in which nobody can make an event of a start: for a test that none is made."""

from __future__ import annotations

from minicontainer import steps
from minicontainer.engine import ahead, spawner

_event = steps.Event
_keep, _leave = ahead.Ahead.keep, ahead.Ahead.leave


def _kept(self: ahead.Ahead, actor: str) -> None:
    setattr(steps, "Event", _event)  # noqa: B010  # the type says that it is a class
    _keep(self, actor)


def _left(self: ahead.Ahead) -> None:
    _leave(self)
    setattr(steps, "Event", None)  # noqa: B010


setattr(ahead.Ahead, "keep", _kept)  # noqa: B010
setattr(ahead.Ahead, "leave", _left)  # noqa: B010
main = spawner.main
