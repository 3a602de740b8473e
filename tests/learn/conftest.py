"""An engine with the built-in image, in a network namespace that plays the host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.engine import protocol
from tests.conftest import PATIENCE_S, Result, command, wait_until

pytest.register_assert_rewrite("tests.learn.traced")


def _open_files(process: Path) -> Iterator[str]:
    """Give what a process has open; it may close something meanwhile."""
    for fd in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(fd)


class Engine:
    """`minicontainer daemon`, and commands that are typed against it.

    Args:
        around: words before the daemon's command line, such as those of strace.
        daemon: the command whose first word is `daemon`; the installed one by default.
    """

    def __init__(self, around: tuple[str, ...] = (), daemon: tuple[str, ...] = ()) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="minicontainer-learn-"))
        self.base.chmod(0o755)
        self.socket = self.base / "api.sock"
        inside = 'ip link set lo up; exec "$@"'
        self._words = [
            "unshare", "--net", "sh", "-c", inside, "sh", *around,
            *(daemon or command("minicontainer")), "daemon",
            "--data-root", str(self.base / "data"), "--exec-root", str(self.base / "exec"),
            "--host", f"unix://{self.socket}", "--cgroup-parent", f"/{self.base.name}",
        ]  # fmt: skip
        self.log = self.base / "log"
        self.start()

    def start(self) -> None:
        """Start it; again, if it has ended."""
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self._words, stdout=log, stderr=log)
        wait_until(self._answers, "the engine to answer")

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self.process.pid

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.socket))
            return True
        return False

    def monitors(self) -> list[str]:
        """List this engine's processes: they have sockets or files below its directory.

        Without those that wait for the next start: other ones wait after each.
        """
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                files = [*_open_files(process)]
                name = (process / "comm").read_text().strip()
                if name.startswith("minic:") and name != protocol.WAITING:
                    found += [process.name for file in files if str(self.base) in file]
        return found

    def words(self, *words: str) -> list[str]:
        """Write a command line of this engine's client."""
        return [*command("minicontainer"), "--host", f"unix://{self.socket}", *words]

    def __call__(self, *words: str, status: int = 0, lang: str = "C") -> Result:
        """Type a command.

        Args:
            status: the exit status that it must have.
            lang: the locale.
        """
        done = subprocess.run(
            self.words(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE_S, env={**os.environ, "LC_ALL": lang},
        )  # fmt: skip
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return Result(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        """Remove all containers and the engine."""
        if ids := self("ps", "-aq").output.split():
            self("rm", "-fv", *ids)
        os.kill(self.pid, signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()[-3000:]
        # by their directory: other engines may come and go meanwhile
        wait_until(lambda: not self.monitors(), "the end of the monitors")
        assert str(self.base) not in Path("/proc/self/mountinfo").read_text()
        shutil.rmtree(self.base)


@contextlib.contextmanager
def begun(around: tuple[str, ...] = ()) -> Iterator[Engine]:
    """Give an engine that has the image busybox, and end it.

    Args:
        around: as of `Engine`.
    """
    if os.geteuid() != 0:
        pytest.skip("an engine needs root")
    made = Engine(around)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Give an engine for all tests of a file."""
    with begun() as made:
        yield made


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """Give an engine that the test may kill."""
    with begun() as made:
        yield made
        if made.process.poll() is not None:
            made.start()  # to remove its containers
