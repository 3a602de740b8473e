"""A start kept in a file, to be replayed anywhere.

One JSON object a line. The first line says what this is; then come the events, as the engine wrote
them. Somewhere between them a line holds the catalogs of what the steps are for (`narration`), in
every language there is, so that a replay says what was true for the engine that was recorded:

    {"recording": 3, "command": "run --net none IMAGE true", "begun": "2026-01-31T12:00:00Z"}
    {"seq": 1, "t": 512345, "actor": "engine", "step": "reserve-name", …}
    {"catalogs": {"en": "msgctxt \\"reserve-name\\"…", "ru": "…"}}
    {"seq": 2, …, "call": "mkdir", …}
    {"end": true, "events": 2}

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
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from minicontainer.event import Event

FORMAT = 3
_FIRST_OF_START = 2  # block 1 is of the create; a start takes longer, and the command waits for it


class Recorder:
    """A listener that keeps events in a file.

    A file that can't be written must not disturb the command: `finish` says so.

    Args:
        out: the file, which `finish` closes.
        command: what the user typed.
        catalogs: gives the catalogs of what the steps are for: each language, and its text.
    """

    def __init__(
        self, out: BinaryIO, command: str, catalogs: Callable[[], Iterable[tuple[str, bytes]]]
    ) -> None:
        self._out = out
        self._catalogs = catalogs
        self._lock = allocate_lock()  # a client tells of its requests in another thread
        self._blocks = 0
        self._has_catalogs = False
        self._rest = b""  # of a line that has not come whole
        self._count = 0
        self._error: OSError | None = None  # after it nothing is written any more
        self._ended = False
        begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write(_line({"recording": FORMAT, "command": command, "begun": begun}))

    def __call__(self, event: Event, line: str = "") -> None:
        """Keep one event.

        Args:
            line: the event as JSON, if somebody has written it already.
        """
        self._write((line or written(event)).rstrip().encode() + b"\n", 1)

    def keep(self, block: bytes) -> None:
        """Keep events, each a line of JSON; the last one may go on in the next block."""
        lines, newline, self._rest = (self._rest + block).rpartition(b"\n")
        self._write(lines + newline, lines.count(b"\n") + len(newline))
        self._blocks += 1
        if self._blocks == _FIRST_OF_START:
            self._keep_catalogs()

    def _keep_catalogs(self) -> None:
        self._has_catalogs = True
        texts = [b'"%b":"%b"' % (lang.encode(), _escaped(text)) for lang, text in self._catalogs()]
        self._write(b'{"catalogs":{%b}}\n' % b",".join(texts))

    def finish(self) -> OSError | None:
        """Write the last line: without it the recording counts as cut off.

        Returns:
            Why the file could not be written; None if it was.
        """
        if not self._has_catalogs:
            self._keep_catalogs()
        self._write(_line({"end": True, "events": self._count}))
        with self._lock:
            self._ended = True
            try:
                self._out.close()
            except OSError as error:
                self._error = self._error or error
        return self._error

    def _write(self, lines: bytes, events: int = 0) -> None:
        with self._lock:
            if self._error is not None or self._ended:
                return
            try:
                self._out.write(lines)
            except OSError as error:
                self._error = error
            self._count += events


def _escaped(text: bytes) -> bytes:
    """Escape a text for JSON; one with no control characters but the ends of lines.

    The catalogs are long: to decode them, quote them and encode them again takes four times as
    long, at the expense of the start.
    """
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")


def _line(value: object) -> bytes:
    # A word of the command need not be UTF-8: what is not stands in the JSON as its escapes.
    return jsontext.dump(value, ascii=False).encode(errors="backslashreplace") + b"\n"
