"""Commands that change the state of containers: stop, kill, rm, pause, rename, update, wait."""

from __future__ import annotations

import sys

from minicontainer.cli.client import EngineError, quoted
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Asked, Flag, command, number, toggle
from minicontainer.cli.output import for_each, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIGNAL = Flag(name="signal", letter="s", help="signal to send: its name or number")
_TIMEOUT = Flag(name="timeout", letter="t", read=number, metavar="int", default=None,
                aliases=("time",), help="seconds before SIGKILL; -1 waits for ever")  # fmt: skip
_CONTAINERS = "CONTAINER [CONTAINER...]"


def path_of(name: str, verb: str = "") -> str:
    """Give the path of a container, or of something that can be done with it."""
    return f"/containers/{quoted(name).replace('/', '%2F')}" + (f"/{verb}" if verb else "")


@command(_CONTAINERS, _SIGNAL, _TIMEOUT, least=1)
def stop(asked: Asked) -> int:
    """Stop one or more running containers."""
    query = {"t": asked.timeout, "signal": asked.signal}
    return for_each(asked.args, lambda name: _post(asked, name, "stop", query))


@command(_CONTAINERS, _SIGNAL, _TIMEOUT, least=1)
def restart(asked: Asked) -> int:
    """Restart one or more containers."""
    query = {"t": asked.timeout, "signal": asked.signal}
    return for_each(asked.args, lambda name: _post(asked, name, "restart", query))


@command(_CONTAINERS, _SIGNAL, least=1)
def kill(asked: Asked) -> int:
    """Kill one or more running containers."""
    return for_each(asked.args, lambda name: _post(asked, name, "kill", {"signal": asked.signal}))


@command(_CONTAINERS, least=1)
def pause(asked: Asked) -> int:
    """Pause all processes within one or more containers."""
    return for_each(asked.args, lambda name: _post(asked, name, "pause"))


@command(_CONTAINERS, least=1)
def unpause(asked: Asked) -> int:
    """Unpause all processes within one or more containers."""
    return for_each(asked.args, lambda name: _post(asked, name, "unpause"))


def _post(asked: Asked, name: str, verb: str, query: dict[str, Any] | None = None) -> None:
    asked.session.client.post(path_of(name, verb), query)


@command(
    _CONTAINERS,
    toggle("force", "f", "kill a running container, and remove it"),
    toggle("link", "l", "remove a link, and not the container"),
    toggle("volumes", "v", "remove the anonymous volumes of the container too"),
    least=1,
)
def rm(asked: Asked) -> int:
    """Remove one or more containers."""
    query = {"force": asked.force, "link": asked.link, "v": asked.volumes}
    missing: list[str] = []

    def remove(name: str) -> None:
        trimmed = name.strip("/")
        if not trimmed:
            raise EngineError(400, "container name cannot be empty")
        try:
            asked.session.client.delete(path_of(trimmed), query)
        except EngineError as error:
            if not (asked.force and error.status == 404):
                raise
            missing.append(name)
            tell(str(error))

    present = [name for name in asked.args if name]
    if len(present) == 1:  # the usual case, where a missing container is not named
        remove(present[0])
        if not missing:
            sys.stdout.write(f"{present[0]}\n")
        return 0
    return for_each(asked.args, remove, show=True)


@command("CONTAINER NEW_NAME", least=2, most=2)
def rename(asked: Asked) -> int:
    """Rename a container."""
    old, new = (name.strip() for name in asked.args)
    if not old or not new:
        raise Exit("Error: Neither old nor new names may be empty")
    try:
        asked.session.client.post(path_of(old, "rename"), {"name": new})
    except EngineError as error:
        tell(str(error))
        raise Exit(f"Error: failed to rename container named {old}") from None
    return 0


@command(_CONTAINERS, least=1)
def wait(asked: Asked) -> int:
    """Block until one or more containers stop, then print their exit codes."""
    errors = []
    for name in asked.args:
        try:
            ended = asked.session.client.post(path_of(name, "wait"))
        except EngineError as error:
            errors.append(str(error))
            continue
        if message := (ended.get("Error") or {}).get("Message"):
            errors.append(message)
        else:
            sys.stdout.write(f"{ended['StatusCode']}\n")
            sys.stdout.flush()
    if errors:
        raise Exit("\n".join(errors))
    return 0
