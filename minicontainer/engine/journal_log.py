"""The log driver journald: each line of output is an entry of the host's journal.

    journalctl CONTAINER_NAME=web

An entry has the fields that Docker's has. It is written by the journal's own protocol, one datagram
an entry; `logs` reads them back with journalctl(1).

See: systemd.journal-fields(7); "Native Journal Protocol" of systemd; Docker's "Journald logging
driver".
"""

from __future__ import annotations

import socket

from minicontainer.contexts import suppress
from minicontainer.engine.log_files import LogFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.protocol import LogOptions

SOCKET = "/run/systemd/journal/socket"
PRIORITIES = {"stdout": "6", "stderr": "3"}  # information, error: as Docker's


class JournalLog(LogFile):
    """The log of one container, in the journal.

    Args:
        options: its attributes are fields of every entry.
        path: of the journal's socket.
    """

    def __init__(self, options: LogOptions, path: str = SOCKET) -> None:
        super().__init__(options)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._common = b"".join(
            field(name, value.encode()) for name, value in options.attributes.items()
        )
        self._writes = True

    def _write(self, stream: str, entries: list[bytes]) -> None:
        for entry in entries:
            partial = b"" if entry.endswith(b"\n") else b"CONTAINER_PARTIAL_MESSAGE=true\n"
            text = self._common + partial + field("PRIORITY", PRIORITIES[stream].encode())
            text += field("MESSAGE", entry.removesuffix(b"\n"))
            # a journal that restarts must not end the container: what it misses is lost
            with suppress(OSError):
                self._socket.sendto(text, self._path)

    def after(self, inode: int, offset: int) -> list[tuple[str, bytes]]:
        """Give nothing: a client has what the journal gave it."""
        return []

    def reopen(self) -> None:
        """Do nothing: there is no file."""


def field(name: str, value: bytes) -> bytes:
    """Write a field; one with a newline has its length before it."""
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
