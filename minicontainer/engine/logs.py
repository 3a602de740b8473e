"""Reading a container's log: `docker logs`.

The files are read as they are, rotated ones first. To follow, this looks again when the file has
grown, and ends with the container.

See: `log_files` for what is in them; Docker Engine API, ContainerLogs.
"""

from __future__ import annotations

import calendar
import os
import threading
import time
from contextlib import ExitStack, suppress

from minicontainer import jsontext
from minicontainer.engine import log_drivers
from minicontainer.engine.journal_reader import JournalReader
from minicontainer.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any, BinaryIO

    from minicontainer.engine.container import Container
    from minicontainer.engine.options import LogOptions

    Entry = dict[str, Any]

_STREAM_NUMBERS = {"stdout": 1, "stderr": 2}
_LOOK_AGAIN_S = 0.05
_BLOCK = 1 << 16
_PAUSE: Entry = {}  # in place of an entry: nothing more is there now


class LogStream:
    """The lines of a log, as bytes for a client: an iterator that `close` ends from any thread.

    Args:
        container: whose log.
        options: which lines.
    Raises:
        Conflict: the log driver keeps none.
    """

    def __init__(self, container: Container, options: LogOptions) -> None:
        self._journal = container.config.host_config.log_config.type == "journald"
        if not container.log_path and not self._journal:
            raise Conflict("configured logging driver does not support reading")
        self._container = container
        self._options = options
        self._raw = container.config.tty
        self._closed = threading.Event()
        source = JournalReader if self._journal else _Follower
        self._entries = source(container, self._closed, options)
        self._parts: Generator[bytes] = self._read()

    @property
    def end(self) -> tuple[int, int]:
        """Say how far a log was read that is not followed: inode and offset; zeros for no log."""
        return self._entries.end

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Give the next frames."""
        return next(self._parts)

    def close(self) -> None:
        """End the stream, and close its file."""
        self._closed.set()
        with suppress(ValueError):  # it is read in another thread, which looks at the event
            self._parts.close()

    def _read(self) -> Generator[bytes]:
        options = self._options
        if options.tail == 0 and not options.follow:
            return
        entries = self._entries
        chosen = entries.last(options.tail, self._is_wanted_stream)
        partial: dict[str, bytes] = {}
        ready: list[bytes] = []
        size = 0
        for entry in chosen:
            if self._closed.is_set():
                return
            if entry is not _PAUSE:
                if not self._is_wanted_stream(entry):
                    continue
                if options.until_ns and _nanoseconds(entry["time"]) > options.until_ns:
                    break
                if options.since_ns and _nanoseconds(entry["time"]) < options.since_ns:
                    continue
                ready.append(self._frame(entry, partial))
                size += len(ready[-1])
            if ready and (entry is _PAUSE or size > _BLOCK):
                yield b"".join(ready)
                ready, size = [], 0
        if ready:
            yield b"".join(ready)

    def _is_wanted_stream(self, entry: Entry) -> bool:
        return self._options.stdout if entry["stream"] == "stdout" else self._options.stderr

    def _frame(self, entry: Entry, partial: dict[str, bytes]) -> bytes:
        """Make what the client gets of an entry; a line's beginning alone has time and details."""
        stream = entry["stream"]
        data: bytes = entry["log"].encode("utf-8", "surrogateescape")
        head = b""
        if not partial.get(stream):
            if self._options.timestamps:
                head += entry["time"].encode() + b" "
            if self._options.details:
                attributes = sorted((entry.get("attrs") or {}).items())
                head += ",".join(f"{name}={value}" for name, value in attributes).encode() + b" "
        partial[stream] = b"" if data.endswith(b"\n") else b"x"
        data = head + data
        if self._raw:
            return data
        return bytes((_STREAM_NUMBERS[stream], 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class _Follower:
    """Reads the entries of a log file, and goes on with a new one when it is rotated."""

    def __init__(self, container: Container, closed: threading.Event, options: LogOptions) -> None:
        self._container = container
        self._closed = closed
        self._follow = options.follow
        self._until_ns = options.until_ns
        self.end = (0, 0)

    def last(self, tail: int, wanted: Any) -> Iterator[Entry]:
        """Yield the last *tail* lines that are wanted, or all (-1), then what follows."""
        # what is written from now on is not part of the tail
        opened = _open(self._container.log_path)
        if tail >= 0:
            size = os.fstat(opened.fileno()).st_size if opened is not None else 0
            found = [*self._older(), *(_beginning(opened, size) if opened is not None else ())]
            lines = _lines_from_end(found, tail, wanted)
            yield from lines
        else:
            yield from self._older()
        if opened is not None:
            yield from self._newer(opened)
        elif self._follow:
            yield from self._once_there()

    def _older(self) -> Iterator[Entry]:
        """Yield the entries of rotated files, the oldest first."""
        most = log_drivers.options_for(self._container).max_file
        for number in range(most - 1, 0, -1):
            path = f"{self._container.log_path}.{number}"
            rotated = _open(path) or _open_packed(f"{path}.gz")
            if rotated is not None:
                with rotated:
                    yield from _complete(rotated.read())

    def _once_there(self) -> Iterator[Entry]:
        while not self._closed.is_set():
            opened = _open(self._container.log_path)
            if opened is not None:
                yield from self._newer(opened)
                return
            if self._has_ended() or self._is_over():
                return
            self._closed.wait(_LOOK_AGAIN_S)

    def _newer(self, opened: BinaryIO) -> Iterator[Entry]:
        with ExitStack() as stack:
            yield from self._read_on(opened, stack)

    def _read_on(self, opened: BinaryIO, stack: ExitStack) -> Iterator[Entry]:
        stack.callback(opened.close)
        rest = b""
        while not self._closed.is_set():
            ended = (
                self._has_ended() or self._is_over()
            )  # looked at before the file, so that nothing is missed
            data = opened.read(_BLOCK)
            if data:
                *lines, rest = (rest + data).split(b"\n")
                yield from map(_parsed, lines)
                continue
            if not self._follow:
                self.end = os.fstat(opened.fileno()).st_ino, opened.tell() - len(rest)
                return
            current = _open(self._container.log_path)
            if current is not None and not os.path.samestat(
                os.fstat(current.fileno()), os.fstat(opened.fileno())
            ):
                # the rest of the old file was read, unless it was written just before it was moved
                *lines, rest = (rest + opened.read()).split(b"\n")
                yield from map(_parsed, lines)
                opened.close()
                opened, rest = current, b""
                stack.callback(opened.close)
                continue
            if current is not None:
                if os.fstat(opened.fileno()).st_size < opened.tell():  # cut, with one file only
                    opened.seek(0)
                current.close()
            if ended:
                return
            yield _PAUSE
            self._closed.wait(_LOOK_AGAIN_S)

    def _is_over(self) -> bool:
        """Say whether the moment has come that the client wants to read until."""
        return bool(self._until_ns) and time.time_ns() > self._until_ns

    def _has_ended(self) -> bool:
        return not self._container.state.is_live()


def _open(path: str) -> BinaryIO | None:
    try:
        return open(path, "rb")  # the reader closes it
    except FileNotFoundError:
        return None


def _open_packed(path: str) -> BinaryIO | None:
    if not os.path.exists(path):
        return None
    from gzip import GzipFile  # 10 ms, for a log that was compressed

    try:
        return GzipFile(path)  # type: ignore[return-value]  # it reads like any other
    except FileNotFoundError:  # moved on just now
        return None


def _beginning(opened: BinaryIO, size: int) -> Iterator[Entry]:
    """Yield the entries of the first *size* bytes; what follows them is read next."""
    data = opened.read(size)
    end = data.rfind(b"\n") + 1
    opened.seek(end - len(data), os.SEEK_CUR)
    yield from _complete(data[:end])


def _complete(data: bytes) -> Iterator[Entry]:
    end = data.rfind(b"\n") + 1
    yield from map(_parsed, data[:end].splitlines())


def _lines_from_end(entries: list[Entry], tail: int, wanted: Any) -> list[Entry]:
    """Give the entries of the last lines: one line may be several entries."""
    chosen: list[Entry] = []
    lines = 0
    for entry in reversed([entry for entry in entries if wanted(entry)]):
        if entry["log"].endswith("\n") or not chosen:
            lines += 1
            if lines > tail:
                break
        chosen.append(entry)
    return chosen[::-1]


def _parsed(line: bytes) -> Entry:
    try:
        entry: Entry = jsontext.parse(line.decode("utf-8", "surrogateescape"))
        if isinstance(entry.get("log"), str) and isinstance(entry.get("time"), str):
            return {"stream": "stdout", **entry}
    except (ValueError, RecursionError, AttributeError):
        pass
    return {"log": "", "stream": "stdout", "time": "1970-01-01T00:00:00.000000000Z"}


def _nanoseconds(moment: str) -> int:
    """Read what `timestamp` wrote."""
    seconds, _, fraction = moment.removesuffix("Z").partition(".")
    try:
        whole = calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S"))
        return whole * 10**9 + int(fraction.ljust(9, "0")[:9])
    except ValueError:
        return 0
