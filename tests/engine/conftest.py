"""An engine for each test: in the test's own process, or as a daemon that can be killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from minicontainer.engine.engine import Engine
from minicontainer.engine.options import AttachOptions, LogOptions
from tests.network.conftest import Host

from .network_places import Place

Socket = socket.socket
PATIENCE_S = 60 * float(os.environ.get("MINICONTAINER_PATIENCE", "1"))
ROOT = Path(__file__).parents[2]


def eventually(true: Callable[[], object], what: str) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


@pytest.fixture
def roots() -> Iterator[Path]:
    """A directory for an engine's data and state."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    base = Path(tempfile.mkdtemp(prefix="minicontainer-engine-"))
    base.chmod(0o755)
    yield base
    eventually(lambda: not processes_of(base), "the end of all processes")
    assert not mounts_below(base)
    shutil.rmtree(base)


def processes_of(base: Path) -> list[str]:
    """List the monitors and exec processes that work below a directory: by their sockets."""
    found = []
    for status in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if status.read_text().startswith("minic:mon") and str(base) in _files(status.parent):
                found.append(status.parent.name)
    return found


def _files(process: Path) -> str:
    return " ".join(os.readlink(fd) for fd in (process / "fd").iterdir())


def mounts_below(base: Path) -> list[str]:
    """List the host's mounts below a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f" {base}" in line]


def cgroups_of(identifier: str) -> list[str]:
    """List a container's cgroups, in all hierarchies."""
    hierarchies = Path("/sys/fs/cgroup")
    own = hierarchies / "minicontainer" / identifier
    return [
        str(path)
        for path in (own, *(one / "minicontainer" / identifier for one in hierarchies.iterdir()))
        if path.exists()
    ]


@dataclass
class Stream:
    """A client's connection, as the API hands it to the engine; the test has its other end."""

    socket: Socket
    client: Socket
    buffered: bytes = b""

    def accept(self) -> None:
        """Hear that the stream begins."""

    def received(self) -> bytes:
        """Read all that comes until the connection is closed."""
        self.client.settimeout(PATIENCE_S)
        parts = []
        while part := self.client.recv(65536):
            parts.append(part)
        return b"".join(parts)


def stream(buffered: bytes = b"") -> Stream:
    """Make a connection of a client."""
    server, client = socket.socketpair()
    return Stream(server, client, buffered)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Take a multiplexed stream apart: stream number, payload."""
    found = []
    place = 0
    while place < len(data):
        end = place + 8 + int.from_bytes(data[place + 4 : place + 8], "big")
        assert end <= len(data)
        found.append((data[place], data[place + 8 : end]))
        place = end
    return found


def payload(data: bytes, number: int = 0) -> bytes:
    """Join what one stream, or all, of a multiplexed stream carried."""
    return b"".join(part for kind, part in frames(data) if number in (0, kind))


@dataclass
class Lab:
    """An engine and shortcuts."""

    engine: Engine
    rootfs: Path
    made: list[str] = field(default_factory=list)

    def create(self, *program: str, host: dict[str, Any] | None = None, **config: Any) -> str:
        """Create a container without a network; give its ID."""
        body = {
            "Rootfs": str(self.rootfs),
            "Cmd": list(program),
            "HostConfig": {"NetworkMode": "none", **(host or {})},
            **config,
        }
        name = str(body.pop("name", ""))
        identifier: str = self.engine.containers.create(body, name)["Id"]
        self.made.append(identifier)
        return identifier

    def run(self, *program: str, **options: Any) -> tuple[str, int]:
        """Run a container to its end; give its ID and exit status."""
        identifier = self.create(*program, **options)
        waiting = self.engine.containers.wait(identifier, "next-exit")
        self.engine.containers.start(identifier)
        return identifier, waiting.result()["StatusCode"]

    def start(self, *program: str, **options: Any) -> str:
        """Start a container; give its ID."""
        identifier = self.create(*program, **options)
        self.engine.containers.start(identifier)
        return identifier

    def attach(self, identifier: str, *, stdin: bool = False, early: bytes = b"") -> Stream:
        """Attach a client to all streams."""
        made = stream(early)
        options = AttachOptions(stream=True, stdin=stdin, stdout=True, stderr=True)
        self.engine.containers.attach(identifier, options, made)
        made.socket.close()
        return made

    def logs(self, identifier: str, **options: Any) -> bytes:
        """Read a container's log as frames."""
        chosen = LogOptions(**{"stdout": True, "stderr": True, **options})
        return b"".join(self.engine.containers.logs(identifier, chosen))

    def state(self, identifier: str) -> dict[str, Any]:
        """Give the state that `inspect` shows."""
        state: dict[str, Any] = self.engine.containers.inspect(identifier)["State"]
        return state

    def close(self) -> None:
        """Remove all containers, and end the engine."""
        for container in self.engine.containers.all():
            with contextlib.suppress(Exception):
                self.engine.containers.remove(container.id, force=True)
        self.engine.close()


@pytest.fixture
def lab(roots: Path, busybox: Path) -> Iterator[Lab]:
    """An engine in this process."""
    made = Lab(Engine(str(roots / "data"), str(roots / "exec")), busybox)
    yield made
    made.close()
    for identifier in made.made:
        eventually(lambda one=identifier: not cgroups_of(one), "the cgroups to go")  # type: ignore[misc]  # one is bound at once


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(self._path))


class Daemon:
    """An engine as a process of its own, which can be killed and started again."""

    def __init__(self, base: Path, rootfs: Path) -> None:
        self.base = base
        self.rootfs = rootfs
        self.socket = base / "api.sock"
        self.start()

    def start(self) -> None:
        """Start the engine; return when it answers."""
        program = Path(sys.executable).parent / "minicontainer"
        self.process = subprocess.Popen([
            program, "daemon", "--data-root", self.base / "data", "--exec-root",
            self.base / "exec", "--host", f"unix://{self.socket}",
        ])  # fmt: skip
        eventually(self._answers, "the engine to answer")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.call("GET", "/_ping", raw=True)[0] == 200
        return False

    def kill(self) -> None:
        """Kill the engine by SIGKILL."""
        self.process.kill()
        self.process.wait()

    def call(
        self, method: str, path: str, body: Any = None, *, raw: bool = False
    ) -> tuple[int, Any]:
        """Send a request; give the status and the JSON of the answer."""
        connection = _Connection(self.socket)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data if raw or not data else json.loads(data)

    def run(self, *program: str, host: dict[str, Any] | None = None) -> str:
        """Start a container; give its ID."""
        body = {
            "Rootfs": str(self.rootfs),
            "Cmd": list(program),
            "HostConfig": {"NetworkMode": "none", **(host or {})},
        }
        status, made = self.call("POST", "/containers/create", body)
        assert status == 201, made
        status, answer = self.call("POST", f"/containers/{made['Id']}/start")
        assert status == 204, answer
        identifier: str = made["Id"]
        return identifier

    def inspect(self, identifier: str) -> dict[str, Any]:
        """Show a container."""
        status, found = self.call("GET", f"/containers/{identifier}/json")
        assert status == 200, found
        shown: dict[str, Any] = found
        return shown

    def close(self) -> None:
        """Remove all containers, and end the engine."""
        if self.process.poll() is not None:
            self.start()
        for one in self.call("GET", "/containers/json?all=1")[1]:
            self.call("DELETE", f"/containers/{one['Id']}?force=1")
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=PATIENCE_S)


@pytest.fixture
def daemon(roots: Path, busybox: Path) -> Iterator[Daemon]:
    """An engine as a process of its own."""
    made = Daemon(roots, busybox)
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Networks on a fresh host."""
    it = Place(Host(tmp_path / "network"))
    yield it
    for netns in it.made:
        netns.close()
    it.host.close()
