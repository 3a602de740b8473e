"""A start kept in a file, to be replayed anywhere.

One JSON object a line. The first line says what this is; then come the events, as the engine wrote
them; the last line holds what the steps are for, in every language there is, so that a replay says
what was true for the engine that was recorded:

    {"recording": 2, "command": "run --net none IMAGE true", "begun": "2026-01-31T12:00:00Z"}
    {"seq": 1, "t": 512345, "actor": "engine", "step": "reserve-name", …}
    {"seq": 2, …, "call": "mkdir", …}
    {"end": true, "events": 2, "steps": {"reserve-name": {"en": "Claim …", "ru": "…"}}}

Nothing of an event is read while it is recorded: a start has hundreds of them, and is to be as fast
as one that nobody records. It can have other fields too, such as the ID of its container.
A file without its last line was cut off, and is refused.
"""

from __future__ import annotations

import time

from minicontainer import jsontext, steps
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.record import Record
from minicontainer.steps import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

FORMAT = 2
_STEP = '"step":"'  # the field of an event's line: `steps.written`


class Entry(Record):
    """One event of a recording, and the call as a reader sees it ("" for the begin of a step)."""

    event: Event
    text: str = ""


class Recording(Record):
    """What a recording holds.

    Args:
        command: what the user typed.
        begun: when, by the wall clock.
        entries: the events, in their order.
        steps: what each step does and why: by its name, then by language.
    """

    command: str
    begun: str
    entries: tuple[Entry, ...]
    steps: dict[str, dict[str, str]]


class Recorder:
    """A listener that keeps events in a file.

    Args:
        out: the file.
        command: what the user typed.
        explain: gives what a step does, by language.
    """

    def __init__(
        self,
        out: TextIO,
        command: str,
        explain: Callable[[str], dict[str, str]],
    ) -> None:
        self._out = out
        self._explain = explain
        self._steps: dict[str, None] = {}  # in their order
        self._count = 0
        begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write({"recording": FORMAT, "command": command, "begun": begun})

    def __call__(self, event: Event, line: str = "") -> None:
        """Keep one event.

        Args:
            line: the event as JSON, if somebody has written it already.
        """
        self.keep([line or steps.written(event).rstrip()])

    def keep(self, lines: list[str]) -> None:
        """Keep events, each a line of JSON.

        Raises:
            OSError: the file can't be written.
        """
        self._count += len(lines)
        for line in lines:
            self._steps[line.partition(_STEP)[2].partition('"')[0]] = None
        self._out.write("\n".join([*lines, ""]))

    def finish(self) -> None:
        """Write the last line: without it the recording counts as cut off."""
        texts = {step: self._explain(step) for step in self._steps}
        self._write({"end": True, "events": self._count, "steps": texts})
        self._out.flush()

    def _write(self, line: dict[str, object]) -> None:
        self._out.write(jsontext.dump(line, ascii=False) + "\n")


def read(path: str) -> Recording:
    """Read a recording.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it is no recording, one of another version, or it was cut off.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise NotFound(f"no recording at {path}: make one with `run --record {path}`") from None
    except IsADirectoryError:
        raise InvalidArgument(f"{path} is not a recording: it is a directory") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path} is not a recording: it is not text") from None
    if not lines:
        raise InvalidArgument(f"{path} is not a recording: it is empty")
    head = _parsed(lines[0], path)
    version = head.get("recording")
    if version is None:
        raise InvalidArgument(f"{path} is not a recording: its first line does not say so")
    if version != FORMAT:
        raise InvalidArgument(
            f"{path} is a recording of version {version}, and this program reads version {FORMAT}: "
            "record it again"
        )
    return _whole(path, head, lines[1:])


def _whole(path: str, head: dict[str, object], lines: list[str]) -> Recording:
    try:
        last = jsontext.parse(lines[-1]) if lines else {}
    except ValueError:
        last = {}
    if not isinstance(last, dict) or not last.get("end") or last.get("events") != len(lines) - 1:
        raise InvalidArgument(f"{path} was cut off: its last line is missing: record it again")
    return Recording(
        command=str(head.get("command", "")),
        begun=str(head.get("begun", "")),
        entries=tuple(_entries(path, lines[:-1])),
        steps=last.get("steps", {}),
    )


def _entries(path: str, lines: list[str]) -> Iterator[Entry]:
    from minicontainer.learn.calls import Calls  # who records does without

    calls = Calls()
    for number, line in enumerate(lines, 2):
        event = Event.from_json(_parsed(line, path), f"line {number}")
        try:
            yield Entry(event=event, text=calls.text(event) if event.call else "")
        except (ValueError, TypeError, IndexError, KeyError):
            message = f"{path} is not a recording: a call in it can't be read"
            raise InvalidArgument(message) from None


def _parsed(line: str, path: str) -> dict[str, object]:
    try:
        value = jsontext.parse(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{path} is not a recording: a line of it is no JSON object")
    return value
