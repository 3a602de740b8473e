"""A course's exercise on Docker, typed with each client: a redis server from import to removal.

In the middle the engine is killed and started again. The server does not notice: a connection to
its published port stays open.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minicontainer.kernel.namespaces import in_network
from tests.conftest import PATIENCE_S, NetworkNamespace, command, wait_until

CHANGES = ('CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"]', "WORKDIR /data",
           "EXPOSE 6379")  # fmt: skip
PORT = 6379

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.timeout(900),
]


class Lab:
    """A machine with an engine, where commands are typed.

    Args:
        client: the words of the client.
    """

    def __init__(self, client: list[str]) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="minicontainer-course-"))
        self.base.chmod(0o755)
        self.network = NetworkNamespace()
        self._client = client
        self.start()

    def start(self) -> None:
        """Start the engine; return when it answers."""
        words = [
            "nsenter", f"--net={self.network.path}", *command("minicontainer"), "daemon",
            "--data-root", str(self.base / "data"), "--exec-root", str(self.base / "run"),
            "--host", f"unix://{self.base}/sock", "--cgroup-parent", f"/{self.base.name}",
        ]  # fmt: skip
        with (self.base / "log").open("a") as log:
            self.engine = subprocess.Popen(words, stdout=log, stderr=log)
        wait_until(self._answers, "the engine to answer")

    def _answers(self) -> bool:
        assert self.engine.poll() is None, (self.base / "log").read_text()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{self.base}/sock")
            return True
        return False

    def kill(self) -> None:
        """Kill the engine by SIGKILL."""
        self.engine.kill()
        self.engine.wait()

    def __call__(self, *words: str, status: int = 0) -> str:
        """Type a command; give what it prints."""
        done = subprocess.run(
            [*self._client, *words], capture_output=True, text=True, timeout=PATIENCE_S,
            env={**os.environ, "DOCKER_HOST": f"unix://{self.base}/sock"},
        )  # fmt: skip
        told = f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == status, told
        return (done.stdout + done.stderr).strip()

    def connect(self) -> socket.socket:
        """Connect to the published port, as a program of the machine does."""
        fd = os.open(self.network.path, os.O_RDONLY)
        try:
            with in_network(fd):
                return socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE_S)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Remove everything."""
        if self.engine.poll() is not None:
            self.start()
        self("rm", "--force", "--volumes", "my-redis")
        self.engine.send_signal(signal.SIGTERM)
        self.engine.wait(PATIENCE_S)
        self.network.close()
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        assert not [line for line in lines if str(self.base) in line]
        shutil.rmtree(self.base)


@pytest.fixture(params=["docker", "minicontainer"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A machine for each of the clients."""
    if request.param == "docker" and not shutil.which("docker"):
        pytest.skip("docker is not installed")
    made = Lab(["docker"] if request.param == "docker" else command("minicontainer"))
    yield made
    made.close()


def say(connection: socket.socket, words: str) -> str:
    """Send redis a command on a connection that is open; give the answer's first line."""
    connection.sendall(f"{words}\r\n".encode())
    return connection.recv(1000).decode().strip()


def ready(lab: Lab) -> Callable[[], bool]:
    """Say how to see that the server answers."""
    return lambda: "PONG" in lab("exec", "my-redis", "sh", "-c", "redis-cli ping || true")


def rows(table: str) -> list[list[str]]:
    """Take a table apart, without its head: columns have at least three spaces between them."""
    lines = table.splitlines()[1:]
    return [[part.strip() for part in line.split("   ") if part.strip()] for line in lines]


def test_a_course_on_docker(lab: Lab, redis_archive: Path) -> None:
    """Import, run, look, use, stop, start, remove."""
    options = [word for change in CHANGES for word in ("--change", change)]
    lab("import", *options, str(redis_archive), "redis")
    made = lab("run", "-d", "--name", "my-redis", "-p", f"{PORT}:{PORT}", "redis")
    assert len(made) == 64
    wait_until(ready(lab), "the server")

    (row,) = rows(lab("ps"))
    assert row[:2] == [made[:12], "redis"]
    assert row[5].startswith(f"0.0.0.0:{PORT}->{PORT}/tcp")
    assert row[6] == "my-redis"
    assert row[4].startswith("Up ")
    assert "Ready to accept connections" in lab("logs", "my-redis")
    (row,) = rows(lab("stats", "--no-stream", "my-redis"))
    assert row[:2] == [made[:12], "my-redis"]
    assert float(row[2].removesuffix("%")) >= 0
    assert lab("exec", "my-redis", "redis-cli", "set", "key", "value") == "OK"

    with lab.connect() as connection:
        assert say(connection, "INCR visits") == ":1"
        lab.kill()
        assert say(connection, "INCR visits") == ":2"  # while no engine is there
        lab.start()
        assert say(connection, "INCR visits") == ":3"
        assert rows(lab("container", "ls"))[0][4].startswith("Up ")
        assert lab("exec", "my-redis", "redis-cli", "get", "visits") == "3"

    assert lab("exec", "my-redis", "redis-cli", "save") == "OK"
    assert lab("stop", "my-redis") == "my-redis"
    assert rows(lab("ps")) == []
    (row,) = rows(lab("ps", "-a"))
    assert row[4].startswith("Exited (0) ")
    assert "User requested shutdown" in lab("container", "logs", "my-redis")

    assert lab("start", "my-redis") == "my-redis"
    wait_until(ready(lab), "the server")
    assert lab("exec", "my-redis", "redis-cli", "get", "key") == "value"
    assert lab("container", "stop", "my-redis") == "my-redis"
    assert lab("container", "start", "my-redis") == "my-redis"
    (row,) = rows(lab("container", "stats", "--no-stream", "my-redis"))
    assert row[1] == "my-redis"
    assert "running" in lab("rm", "my-redis", status=1)
    assert lab("rm", "--force", "my-redis") == "my-redis"
    assert rows(lab("ps", "-a")) == []
    assert "No such container: my-redis" in lab("logs", "my-redis", status=1)
