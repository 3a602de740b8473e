"""A terminal with a command in it, as a person would have: pty(7)."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

from tests.conftest import PATIENCE_S, wait_until


class Terminal:
    """A terminal with a command in it, as a person would have."""

    def __init__(self, arguments: list[str], rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = ""

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            arguments,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=take_terminal,
        )

    def resize(self, rows: int, columns: int) -> None:
        """Change the window; the kernel tells the foreground processes."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def expect(self, text: str) -> str:
        """Read until *text* appears; give what came before it. What was read is not seen again."""
        deadline = time.monotonic() + PATIENCE_S / 2
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited in vain for {text!r}, saw {self.seen!r}"
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def read(self) -> None:
        """Read what is there now."""
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536).decode(errors="replace")

    def end(self) -> int:
        """Wait for the command, reading meanwhile; give its exit status."""

        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        wait_until(ended, "the command's end")
        ended()  # what it wrote last
        return self.process.returncode

    def close(self) -> bool:
        """End the command, and say whether it still ran."""
        running = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)
        return running
