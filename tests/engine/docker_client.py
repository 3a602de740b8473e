"""An engine on a network of its own, and the docker client that drives it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import PATIENCE_S, wait_until

PROGRAM = Path(sys.executable).parent / "minicontainer"


class EngineProcess:
    """`minicontainer daemon` in a network namespace that plays the host.

    Args:
        options: more options for it.
    """

    def __init__(self, *options: str) -> None:
        # Not pytest's own directory: it keeps the last three, and layers are large.
        self.base = Path(tempfile.mkdtemp(prefix="minicontainer-docker-"))
        self.base.chmod(0o755)
        self.socket = self.base / "run" / "minicontainer.sock"
        self.log = self.base / "log"
        self._options = options
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        inside = 'ip link set lo up; exec "$@"'
        words = [
            "unshare", "--net", "sh", "-c", inside, "sh", str(PROGRAM), "daemon",
            "--data-root", str(self.base / "data"), "--exec-root", str(self.base / "run"),
            "--log-level", "debug", *self._options,
        ]  # fmt: skip
        with self.log.open("a") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        wait_until(self._answers, f"the engine: see {self.log}")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.socket))
            return True
        return False

    def docker(
        self, *words: str, status: int = 0, stdin: str = "", errors: bool | None = False
    ) -> str:
        """Type a docker command; give its output.

        Args:
            status: the exit status that it must have.
            stdin: what it reads.
            errors: give what it wrote to standard error instead; None for both.
        """
        told = subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *words],
            input=stdin, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert told.returncode == status, (
            f"docker {' '.join(words)}: {told.returncode}\n{told.stdout}{told.stderr}"
        )
        if errors is None:
            return told.stdout + told.stderr
        return (told.stderr if errors else told.stdout).rstrip("\n")

    def inside(self, *words: str) -> str:
        """Run a command in the engine's network namespace."""
        enter = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", *words]
        return subprocess.run(enter, capture_output=True, text=True, check=True).stdout

    def signal(self, number: signal.Signals) -> int:
        """Send a signal that ends it; give its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Remove all containers and the engine."""
        if self.process.poll() is not None:
            self.start()
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            if ids := self.docker("ps", "-aq").split():
                self.docker("rm", "-fv", *ids)
        assert self.signal(signal.SIGTERM) == 0, self.log.read_text()[-3000:]
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        assert not [line for line in lines if str(self.base) in line]
        shutil.rmtree(self.base)


def can_run() -> bool:
    """Say whether this host can have an engine and has the docker client."""
    return os.geteuid() == 0 and shutil.which("docker") is not None
