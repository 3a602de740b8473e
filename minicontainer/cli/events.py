"""events: what happens in the engine, as it happens."""

from __future__ import annotations

import sys
import time

from minicontainer.cli import filters, units
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import FILTER, Asked, Flag, command, toggle
from minicontainer.cli.inspect import writer
from minicontainer.errors import InvalidArgument
from minicontainer.event import Event

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
    """Follow the story that has the kernel events of every container: `engine.traces`.

    A heading says which process of which container takes which step; its calls stand below it,
    until another process, or another step, has its say.
    """
    from minicontainer.learn.calls import Calls  # only who asks for it pays for it
    from minicontainer.learn.explain import folded_call

    if extra := asked.given & {"since", "until", "filter"}:
        raise Exit(f"--kernel shows what happens now: leave --{min(extra)} out", prefix=True)
    calls, heading = Calls(), ""
    for message in asked.session.client.request("GET", "/minicontainer/traces/all").messages():
        event = Event.from_json(message)
        lines = [write(message)] if write is not None else []
        if write is None:
            before, heading = heading, _heading(event, message.get("container", ""))
            if heading != before or not event.call:
                lines.append(heading)
            if not event.call:
                calls.forget(event.pid)
            else:
                lines += folded_call("    ", calls.text(event))
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    return 0


def _heading(event: Event, container: str) -> str:
    """Write which container an event belongs to, which process made it, and in which step."""
    who = f"{container[:12] or '-':<12} {event.actor:<7} {event.pid:>7}"
    return f"{who}  {event.step} ({event.source})" if event.step else f"{who}  between the steps"


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
