"""A spawner in which nobody can make an event of a start: for a test that none is made."""

from __future__ import annotations

from minicontainer import steps
from minicontainer.engine import ahead, spawner

_MAKERS = {name: getattr(steps, name) for name in ("Event", "where_written")}
_keep, _leave = ahead.Ahead.keep, ahead.Ahead.leave


def _kept(self: ahead.Ahead, actor: str) -> None:
    for name, maker in _MAKERS.items():
        setattr(steps, name, maker)
    _keep(self, actor)


def _left(self: ahead.Ahead) -> None:
    _leave(self)
    for name in _MAKERS:
        setattr(steps, name, None)


setattr(ahead.Ahead, "keep", _kept)  # noqa: B010  # the type says that it is a method
setattr(ahead.Ahead, "leave", _left)  # noqa: B010
main = spawner.main
