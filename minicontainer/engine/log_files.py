"""Log files as the monitor writes them: one JSON object a line, and rotation by size.

    {"log":"hello\\n","stream":"stdout","time":"2026-01-31T12:00:00.123456789Z"}

A line of output is one entry. One that is longer than 16 KiB becomes several, and only the last of
them ends in a newline: a reader joins them by that. Bytes that are not UTF-8 are written as lone
surrogates (`\\udc80`), from which `logs` restores them; other readers show U+FFFD, as with Docker.

See: Docker's "JSON File logging driver".
"""

from __future__ import annotations

import os
import time

from minicontainer import jsontext
from minicontainer.contexts import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.protocol import LogOptions

LONGEST_ENTRY = 16 * 1024  # bytes of a line, as Docker's


class LogFile:
    """The log of one container.

    Args:
        options: where, and when it is rotated.
    """

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._writes = options.driver in ("json-file", "local")
        self._partial = {"stdout": b"", "stderr": b""}
        attributes = dict(options.attributes)
        self._attributes = f',"attrs":{jsontext.dump(attributes)}' if attributes else ""
        self._fd = -1
        self._size = 0
        self._torn = False  # the last entry was cut off by a full disk
        if self._writes:
            self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self._options.path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, data: bytes) -> None:
        """Add what the container wrote to one of its streams."""
        if not self._writes:
            return
        rest = self._partial[stream]
        *lines, rest = (rest + data if rest else data).split(b"\n")
        entries = []
        for line in lines:
            line += b"\n"
            while len(line) > LONGEST_ENTRY:
                entries.append(line[:LONGEST_ENTRY])
                line = line[LONGEST_ENTRY:]
            entries.append(line)
        while len(rest) >= LONGEST_ENTRY:
            entries.append(rest[:LONGEST_ENTRY])
            rest = rest[LONGEST_ENTRY:]
        self._partial[stream] = rest
        if entries:
            self._write(stream, entries)

    def finish(self, stream: str) -> None:
        """Write the last line of a stream that has ended, where it has no newline."""
        rest, self._partial[stream] = self._partial[stream], b""
        if rest:
            self._write(stream, [rest])

    def _write(self, stream: str, entries: list[bytes]) -> None:
        tail = f',"stream":"{stream}"{self._attributes},"time":"{timestamp(time.time_ns())}"}}\n'
        lines = [
            f'{{"log":{jsontext.quote(entry.decode("utf-8", "surrogateescape"))}{tail}'
            for entry in entries
        ]
        if not self._options.max_size:
            self._append("".join(lines))
            return
        for line in lines:  # one by one, so that no file becomes larger than it may
            self._append(line)

    def _append(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")  # a lone surrogate as \udc80
        limit = self._options.max_size
        if limit and self._size and self._size + len(data) > limit:
            with suppress(OSError):  # no room for another file: this one grows
                self._rotate()
        if self._torn:
            data = b"\n" + data
        self._size += len(data)
        with suppress(OSError):  # a full disk must not end the container
            self._torn = True
            while data:
                data = data[os.write(self._fd, data) :]
            self._torn = False

    def after(self, inode: int, offset: int) -> list[tuple[str, bytes]]:
        """Give what was written after a place, by stream; also lines that have no end yet.

        Args:
            inode: of the file that the place is in, which may be the older one by now; 0 for none.
        """
        found = []
        path = self._options.path
        for name in (f"{path}.1", path) if self._writes else ():
            with suppress(FileNotFoundError), open(name, "rb") as file:
                is_there = os.fstat(file.fileno()).st_ino == inode
                if name != path and not is_there:
                    continue
                file.seek(offset if is_there else 0)
                for line in file:
                    entry = jsontext.parse(line.decode("utf-8", "surrogateescape"))
                    data = entry["log"].encode("utf-8", "surrogateescape")
                    found.append((entry["stream"], data))
        return [*found, *((stream, rest) for stream, rest in self._partial.items() if rest)]

    def _rotate(self) -> None:
        path, most = self._options.path, self._options.max_file
        if most <= 1:
            os.truncate(self._fd, 0)
            self._size = 0
            return
        for number in range(most - 1, 0, -1):
            older = f"{path}.{number - 1}" if number > 1 else path
            for ending in ("", ".gz"):
                with suppress(FileNotFoundError):
                    os.rename(f"{older}{ending}", f"{path}.{number}{ending}")
        self.reopen()
        if self._options.compress:
            with suppress(OSError):  # a full disk: it stays as it is
                compress(f"{path}.1")

    def reopen(self) -> None:
        """Begin a new file, where the old one was moved away."""
        if self._writes:
            old = self._fd
            self._open()  # if this fails, the old one stays
            os.close(old)
            self._torn = False


def compress(path: str) -> None:
    """Replace a file by one in gzip's format, PATH.gz.

    The container waits meanwhile, so that no second file can become full. Whoever reads finds
    either file, or for a moment both.
    """
    import zlib  # only a log that is compressed pays for it

    packer = zlib.compressobj(1, zlib.DEFLATED, 31)  # 31: with gzip's head
    with open(path, "rb") as source, open(f"{path}.tmp", "wb", opener=_for_owner) as target:
        while block := source.read(1 << 20):
            target.write(packer.compress(block))
        target.write(packer.flush())
    os.rename(f"{path}.tmp", f"{path}.gz")
    os.unlink(path)


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o640)


def timestamp(at_ns: int) -> str:
    """Write a moment as Docker does: RFC 3339 in UTC, with nanoseconds."""
    seconds, nanoseconds = divmod(at_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"
