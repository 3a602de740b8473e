"""events: what happens in the engine, as it happens."""

from __future__ import annotations

import sys
import time

from minicontainer.cli import filters, units
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import FILTER, Asked, Flag, command, toggle
from minicontainer.cli.inspect import writer
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


@command(
    "",
    FILTER,
    Flag(name="format", help="'json', or a Go template"),
    Flag(name="since", help="begin with what happened since: a time, or an age such as 10m"),
    Flag(name="until", help="end with what happens until: a time, or an age such as 10m"),
    toggle("kernel", "", "show what the engine does to the kernel, for every container"),
    most=0,
)
def events(asked: Asked) -> int:
    """Get real time events from the server."""
    write = writer("{{json .}}" if asked.format == "json" else asked.format)
    if asked.kernel:
        return _kernel_events(asked, write)
    write = write or line_of
    try:
        since, until = units.timestamp(asked.since), units.timestamp(asked.until)
    except InvalidArgument as error:
        raise Exit(str(error), prefix=True) from None
    query = {"since": since, "until": until, "filters": filters.as_json(asked.filter)}
    template = asked.format not in ("", "json")
    for event in asked.session.client.request("GET", "/events", query).messages():
        # What events without a container lack, and templates may name.
        known = {"status": "", "id": "", "from": "", **event} if template else event
        sys.stdout.write(write(known) + "\n")
        sys.stdout.flush()
    return 0


def _kernel_events(asked: Asked, write: Callable[[Any], str] | None) -> int:
    """Follow the story that has the kernel events of every container: `engine.traces`."""
    from minicontainer.learn.calls import Calls  # only who asks for it pays for it
    from minicontainer.steps import Event

    if extra := asked.given & {"since", "until", "filter"}:
        raise Exit(f"--kernel shows what happens now: leave --{min(extra)} out", prefix=True)
    calls = Calls()
    for message in asked.session.client.request("GET", "/minicontainer/traces/all").messages():
        event = Event.from_json(message)
        if write is not None:
            line = write(message)
        elif event.call:
            line = f"{_who(message)}    {calls.text(event)}"
        else:
            line = f"{_who(message)} {event.step} ({event.source})"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 0


def _who(message: dict[str, Any]) -> str:
    """Write which container an event belongs to, and which process made it."""
    container = message.get("container", "")[:12] or "-"
    return f"{container:<12} {message.get('actor', ''):<7} {message.get('pid', 0):>7} "


def line_of(event: dict[str, Any]) -> str:
    """Write an event as one line: time, type, action, ID, attributes."""
    nanoseconds = event.get("timeNano") or event["time"] * 10**9
    seconds, part = divmod(nanoseconds, 10**9)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{part:09d}{zone}"
    actor = event["Actor"]
    attributes = actor.get("Attributes") or {}
    shown = ", ".join(f"{name}={attributes[name]}" for name in sorted(attributes))
    told = f" ({shown})" if shown else ""
    return f"{when} {event['Type']} {event['Action']} {actor['ID']}{told}"
