"""A start kept in a file, to be replayed anywhere.

One JSON object a line. The first line says what this is; then come the events, as the engine wrote
them; the last line holds the catalogs of what the steps are for (`narration`), in every language
there is, so that a replay says what was true for the engine that was recorded:

    {"recording": 2, "command": "run --net none IMAGE true", "begun": "2026-01-31T12:00:00Z"}
    {"seq": 1, "t": 512345, "actor": "engine", "step": "reserve-name", …}
    {"seq": 2, …, "call": "mkdir", …}
    {"end": true, "events": 2, "catalogs": {"en": "msgctxt \\"reserve-name\\"…", "ru": "…"}}

Nothing of this is read while it is recorded: a start has hundreds of events, and is to be as fast
as one that nobody records. An event can have other fields too, such as the ID of its container.
A file without its last line was cut off, and is refused.
"""

from __future__ import annotations

import time
from _thread import allocate_lock

from minicontainer import jsontext
from minicontainer.event import written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from minicontainer.event import Event

FORMAT = 2


class Recorder:
    """A listener that keeps events in a file.

    Args:
        out: the file.
        command: what the user typed.
        catalogs: gives the catalogs of what the steps are for, by language.
    """

    def __init__(self, out: BinaryIO, command: str, catalogs: Callable[[], dict[str, str]]) -> None:
        self._out = out
        self._catalogs = catalogs
        self._lock = allocate_lock()  # a client tells of its requests in another thread
        self._prepared = b""
        self._rest = b""  # of a line that has not come whole
        self._count = 0
        begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write({"recording": FORMAT, "command": command, "begun": begun})

    def __call__(self, event: Event, line: str = "") -> None:
        """Keep one event.

        Args:
            line: the event as JSON, if somebody has written it already.
        """
        with self._lock:
            self._count += 1
            self._out.write((line or written(event)).rstrip().encode() + b"\n")

    def keep(self, block: bytes) -> None:
        """Keep events, each a line of JSON; the last one may go on in the next block.

        Raises:
            OSError: the file can't be written.
        """
        lines, newline, self._rest = (self._rest + block).rpartition(b"\n")
        with self._lock:
            self._count += lines.count(b"\n") + len(newline)
            self._out.write(lines + newline)
        self._prepare()  # the engine is at work meanwhile, and the command waits for it

    def _prepare(self) -> None:
        """Make the last line but for its number."""
        self._prepared = self._prepared or _json(self._catalogs())

    def finish(self) -> None:
        """Write the last line: without it the recording counts as cut off."""
        self._prepare()
        end = b'{"end":true,"events":%d,"catalogs":%b}\n' % (self._count, self._prepared)
        self._out.write(end)
        self._out.flush()

    def _write(self, line: dict[str, object]) -> None:
        self._out.write(_json(line) + b"\n")


def _json(value: object) -> bytes:
    # A word of the command need not be UTF-8: what is not stands in the JSON as its escapes.
    return jsontext.dump(value, ascii=False).encode(errors="backslashreplace")
