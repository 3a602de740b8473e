"""Two clients, and an engine for them: Docker's own daemon, and ours.

Each engine has a machine of its own (tests/peers/machine.py), so that bridges and firewall rules
are not the host's; the clients run on the host, and reach its socket through /proc.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, Result, command, wait_until
from tests.peers.machine import Machine
from tests.terminal import Terminal

NEEDS = ("docker", "dockerd", "containerd", "runc", "iptables", "unshare", "tini")
CLIENTS = {"docker": ["docker"], "minicontainer": command("minicontainer")}
IMAGE = "busybox"
# What a container is that these tests look at: it runs until it is killed.
LABELS = ("--label", "a=b", "--label", "x=y")


class Clients:
    """Both clients, on one engine.

    Args:
        name: of the engine: dockerd or minicontainer.
        socket: where it listens.
        home: the clients' home directory, with no configuration in it.
    """

    def __init__(self, name: str, socket: Path, home: Path) -> None:
        self.name = name
        self.environ = {
            "PATH": os.environ["PATH"], "HOME": str(home), "DOCKER_HOST": f"unix://{socket}",
            "TERM": "xterm",
        }  # fmt: skip

    def __call__(self, client: str, *words: str, stdin: str = "") -> Result:
        """Run a command of one client."""
        done = subprocess.run(
            [*CLIENTS[client], *words], env=self.environ, input=stdin,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def must(self, *words: str) -> str:
        """Run a command of Docker's client that may not fail; give what it says."""
        done = self("docker", *words)
        assert done.status == 0, done.errors
        return done.output.strip()

    def terminal(self, client: str, *words: str) -> Terminal:
        """Run a command in a terminal of 40 rows and 90 columns."""
        environ = [f"{name}={value}" for name, value in self.environ.items()]
        return Terminal(["env", "-i", *environ, *CLIENTS[client], *words], rows=40, columns=90)


# of a module: the engine and what still runs in it must be gone before other tests look around
@pytest.fixture(scope="module", params=["dockerd", "minicontainer"])
def clients(
    request: pytest.FixtureRequest, busybox: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clients]:
    """Both clients, on each of the engines in turn; the image is there."""
    missing = [name for name in NEEDS if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root, and {', '.join(missing) or 'nothing else'}")
    log = tmp_path_factory.mktemp("engine") / "log"
    machine = Machine(f"client-{request.param}", busybox, "/usr/sbin/runc")
    try:
        if request.param == "dockerd":
            path = "/run/docker.sock"
            machine.start(log, "dockerd", "--cgroup-parent", machine.cgroup)
        else:
            path = "/run/minicontainer/minicontainer.sock"
            parent = ("--cgroup-parent", machine.cgroup)
            machine.start(log, *command("minicontainer"), "daemon", *parent)
        clients = Clients(request.param, machine.path(path), tmp_path_factory.mktemp("home"))
        wait_until(lambda: clients("docker", "version").status == 0, "the engine to answer")
        tree = "/var/lib/minicontainer/rootfs/busybox"
        words = f"tar -C {tree} -c . | DOCKER_HOST=unix://{path} docker import - {IMAGE}"
        imported = machine("sh", "-c", words)
        assert imported.status == 0, imported.errors + log.read_text()[-2000:]
        yield clients
        left = clients.must("ps", "-aq").split()
        if left:  # our engine's cgroups are not below the machine's
            clients.must("rm", "-f", *left)
    finally:
        machine.stop()


@pytest.fixture
def web(clients: Clients) -> Iterator[str]:
    """A container that runs: its name."""
    clients.must("run", "-d", "--name", "web", *LABELS, "-v", "kept:/v", IMAGE, "sleep", "1000")
    yield "web"
    clients("docker", "rm", "--force", "web")
    clients("docker", "volume", "rm", "kept")
