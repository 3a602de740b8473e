"""events: what happens in the engine, as it happens."""

from __future__ import annotations

import sys
import time

from minicontainer.cli import filters, units
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import FILTER, Asked, Flag, command
from minicontainer.cli.inspect import writer
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@command(
    "",
    FILTER,
    Flag(name="format", help="'json', or a Go template"),
    Flag(name="since", help="begin with what happened since: a time, or an age such as 10m"),
    Flag(name="until", help="end with what happens until: a time, or an age such as 10m"),
    most=0,
)
def events(asked: Asked) -> int:
    """Get real time events from the server."""
    write = writer("{{json .}}" if asked.format == "json" else asked.format) or line_of
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
