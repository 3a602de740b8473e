"""Reads the log of a container back from the journal, as `logs` wants its entries.

See: journalctl(1), "json"; systemd.journal-fields(7).
"""

from __future__ import annotations

import subprocess
import threading

from minicontainer import jsontext
from minicontainer.engine.log_files import timestamp
from minicontainer.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minicontainer.engine.container import Container
    from minicontainer.engine.options import LogOptions

    Entry = dict[str, Any]

_LOOK_AGAIN_S = 0.2


class JournalReader:
    """The entries of a container's log, from journalctl.

    Args:
        container: whose log;  closed: set when the client has left;  options: which entries.
    """

    end = (0, 0)

    def __init__(self, container: Container, closed: threading.Event, options: LogOptions) -> None:
        self._container = container
        self._closed = closed
        self._follow = options.follow

    def last(self, tail: int, wanted: Any) -> Iterator[Entry]:
        """Yield the last *tail* entries, or all (-1), then what follows.

        Raises:
            Conflict: there is no journalctl.
        """
        words = ["journalctl", "--quiet", "--output=json", "--all",
                 f"CONTAINER_ID_FULL={self._container.id}"]  # fmt: skip
        words += ["--lines=all"] if tail < 0 else [f"--lines={tail}"]
        words += ["--follow"] if self._follow else []
        try:
            reader = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            raise Conflict("journalctl is missing: the journal can't be read") from None
        threading.Thread(target=self._end, args=(reader,), daemon=True).start()
        assert reader.stdout is not None
        try:
            for line in reader.stdout:
                if wanted(entry := _entry(line)):
                    yield entry
        finally:
            reader.kill()
            reader.wait()
            reader.stdout.close()

    def _end(self, reader: subprocess.Popen[bytes]) -> None:
        """End a reader that follows, when the client has left or the container has ended."""
        while self._follow and reader.poll() is None:
            ended = not self._container.state.is_running()
            if self._closed.wait(_LOOK_AGAIN_S) or ended:
                reader.terminate()
                return


def _entry(line: bytes) -> Entry:
    found = jsontext.parse(line.decode("utf-8", "replace"))
    message = found.get("MESSAGE") or ""
    if isinstance(message, list):  # bytes that are no text
        message = bytes(message).decode("utf-8", "surrogateescape")
    ending = "" if found.get("CONTAINER_PARTIAL_MESSAGE") == "true" else "\n"
    at_us = found.get("_SOURCE_REALTIME_TIMESTAMP") or found.get("__REALTIME_TIMESTAMP") or 0
    stream = "stderr" if found.get("PRIORITY") == "3" else "stdout"
    return {"log": f"{message}{ending}", "stream": stream, "time": timestamp(int(at_us) * 1000)}
