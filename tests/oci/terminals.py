"""Terminals as a caller of the runtime has them: on a console socket, or its own."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import subprocess
import time
from pathlib import Path

from tests.conftest import PATIENCE_S


class ConsoleSocket:
    """The unix socket on which an engine waits for a terminal's master."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._listening.settimeout(20)

    def receive(self) -> int:
        """Give the descriptor that was sent; the caller closes it."""
        connected, _ = self._listening.accept()
        with connected:
            _, fds, _, _ = socket.recv_fds(connected, 4096, 1)
        assert len(fds) == 1
        return fds[0]

    def close(self) -> None:
        """Stop listening."""
        self._listening.close()


def read_until(master: int, text: str) -> str:
    """Read from a terminal until it has shown this."""
    shown, deadline = "", time.monotonic() + PATIENCE_S
    while text not in shown:
        assert time.monotonic() < deadline, f"waited in vain for {text!r} in {shown!r}"
        if select.select([master], [], [], 1)[0]:
            with contextlib.suppress(OSError):  # EIO: nobody has the other side open
                shown += os.read(master, 4096).decode(errors="replace")
                continue
            break
    assert text in shown
    return shown


def on_a_terminal(words: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """Run a command on a new terminal; give it and the master."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *words], stdin=slave, stdout=slave, stderr=slave
        )
    finally:
        os.close(slave)
    return process, master


def shown_in_a_file(words: list[str], file: Path) -> bytes:
    """Run a command whose output alone does not go to a new terminal; give that output."""
    script = 'file=$1; shift; exec "$@" > "$file"'
    process, master = on_a_terminal(["sh", "-c", script, "sh", str(file), *words])
    try:
        assert process.wait(PATIENCE_S) == 0
    finally:
        os.close(master)
    return file.read_bytes()
