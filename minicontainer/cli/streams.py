"""Commands that connect to what a container reads and writes: attach, start, logs."""

from __future__ import annotations

import sys

from minicontainer.cli import hijack, units
from minicontainer.cli.client import EngineError
from minicontainer.cli.exits import EXIT_FAILED, Exit
from minicontainer.cli.flags import Asked, Flag, command, toggle
from minicontainer.cli.lifecycle import path_of
from minicontainer.cli.output import for_each
from minicontainer.contexts import suppress
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.cli.client import Response

_KEYS = Flag(name="detach-keys", help="keys that end the connection, and not the container")


@command(
    "CONTAINER",
    _KEYS,
    toggle("no-stdin", "", "do not connect standard input"),
    toggle("sig-proxy", "", "pass signals on to the program", default=True),
    least=1,
    most=1,
)
def attach(asked: Asked) -> int:
    """Attach local standard input, output, and error streams to a running container."""
    name, client = asked.args[0], asked.session.client
    found = client.get(path_of(name, "json"))
    state = found["State"]
    if not state["Running"]:
        raise Exit("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise Exit("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise Exit("You cannot attach to a restarting container, wait until it is running")
    stdin = bool(found["Config"]["OpenStdin"] and not asked.no_stdin)
    hijack.check_terminal(stdin, found["Config"]["Tty"])
    waiting = client.request("POST", path_of(name, "wait"))
    return connected(asked, found, stdin, waiting, begin=False)


def connected(
    asked: Asked, found: dict[str, Any], stdin: bool, waiting: Response, begin: bool
) -> int:
    """Attach to a container, and give its exit status when it ends.

    Args:
        found: what inspect gives.
        stdin: whether input is sent.
        waiting: the answer to a wait request, whose body comes when the container ends.
        begin: start the container, as soon as its streams are connected.
    """
    client, path, tty = asked.session.client, path_of(found["Id"]), found["Config"]["Tty"]
    keys = asked.detach_keys or asked.session.config.get("detachKeys", "")
    query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": keys}
    stream = client.upgrade(f"{path}/attach", query)

    def resize(rows: int, columns: int) -> None:
        with suppress(EngineError):  # it has ended meanwhile
            client.post(f"{path}/resize", {"h": rows, "w": columns})

    def forward(signal: str) -> None:
        with suppress(EngineError):  # likewise
            client.post(f"{path}/kill", {"signal": signal})

    session = hijack.Session(
        stream, tty, stdin, keys, resize, forward if getattr(asked, "sig_proxy", True) else None
    )

    def start() -> None:
        if begin:
            client.post(f"{path}/start", {"detachKeys": keys})

    late = getattr(asked, "step", False)
    with hijack.raw_terminal(tty and stdin, start, late):
        if (
            not begin and tty and sys.stdout.isatty()
        ):  # another size first: the program then draws its screen
            rows, columns = hijack.console_size()
            resize(rows + 1, columns + 1)
        session.follow_window()
        try:
            session.talk()
        except hijack.Detached:
            if begin:
                return 0
            raise Exit("read escape sequence") from None
    return result_of(waiting)


def result_of(waiting: Response) -> int:
    """Read how a container ended."""
    ended = waiting.json() or {"StatusCode": EXIT_FAILED}
    if message := (ended.get("Error") or {}).get("Message"):
        raise Exit(message)
    return int(ended["StatusCode"])


@command(
    "CONTAINER [CONTAINER...]",
    toggle("attach", "a", "connect to its output, and pass signals on"),
    _KEYS,
    toggle("interactive", "i", "connect standard input too"),
    least=1,
)
def start(asked: Asked) -> int:
    """Start one or more stopped containers."""
    client = asked.session.client
    if asked.attach or asked.interactive:
        if len(asked.args) > 1:
            raise Exit("you cannot start and attach multiple containers at once")
        found = client.get(path_of(asked.args[0], "json"))
        stdin = bool(asked.interactive and found["Config"]["OpenStdin"])
        hijack.check_terminal(stdin, found["Config"]["Tty"])
        removed = (found.get("HostConfig") or {}).get("AutoRemove")
        condition = {"condition": "removed" if removed else "next-exit"}
        waiting = client.request("POST", path_of(found["Id"], "wait"), condition)
        return connected(asked, found, stdin, waiting, begin=True)
    failed = []

    def begin(name: str) -> None:
        try:
            client.post(path_of(name, "start"))
        except EngineError:
            failed.append(name)
            raise

    try:
        return for_each(asked.args, begin)
    except Exit as end:
        names = ", ".join(name for name in asked.args if name in failed)
        raise Exit(f"{end}\nError: failed to start containers: {names}") from None


@command(
    "CONTAINER",
    toggle("details", "", "show what log options attached to each line"),
    toggle("follow", "f", "go on as the container writes"),
    Flag(name="since", help="show what was written since: a time, or an age such as 42m"),
    Flag(name="tail", letter="n", default="all", help="show so many of the last lines"),
    toggle("timestamps", "t", "show when each line was written"),
    Flag(name="until", help="show what was written until: a time, or an age such as 42m"),
    least=1, most=1,
)  # fmt: skip
def logs(asked: Asked) -> int:
    """Fetch the logs of a container."""
    name, client = asked.args[0], asked.session.client
    try:
        since, until = units.timestamp(asked.since), units.timestamp(asked.until)
    except InvalidArgument as error:
        raise Exit(str(error), prefix=True) from None
    tty = client.get(path_of(name, "json"))["Config"]["Tty"]
    query = {
        "stdout": True, "stderr": True, "since": since, "until": until, "tail": asked.tail,
        "timestamps": asked.timestamps, "follow": asked.follow, "details": asked.details,
    }  # fmt: skip
    frames = None if tty else hijack.Frames()
    for block in client.request("GET", path_of(name, "logs"), query).chunks():
        hijack.show(block, frames)
    return 0
