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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from minicontainer.steps import Event

FORMAT = 2
_STEP = '"step":"'  # the field of an event's line: `steps.written`


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
        self._texts: dict[str, dict[str, str]] = {}  # by step, then by language
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
            step = line.partition(_STEP)[2].partition('"')[0]
            if step not in self._texts:
                self._texts[step] = self._explain(step)
        self._out.write("\n".join([*lines, ""]))

    def finish(self) -> None:
        """Write the last line: without it the recording counts as cut off."""
        self._write({"end": True, "events": self._count, "steps": self._texts})
        self._out.flush()

    def _write(self, line: dict[str, object]) -> None:
        self._out.write(jsontext.dump(line, ascii=False) + "\n")
