"""Engines to drive with clients: Docker's own daemon, that of Docker 28, and ours.

Each engine has a machine of its own (tests/peers/machine.py), so that bridges and firewall rules
are not the host's; the clients run on the host, and reach its socket through /proc.

Docker 28 comes from a Debian sid that `rootfs/dockerd` builds. Its /usr covers that of the host for
the daemon alone.
"""

from __future__ import annotations

import contextlib
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
USUAL = ("dockerd", "minicontainer")  # where no --engine is named
# Where `make test-reference` has the reference built.
REFERENCE = Path(
    os.environ.get("MINICONTAINER_REFERENCE", "/var/cache/minicontainer-tests/dockerd")
)
# Runs a program of it, among the files of the host, or of a machine.
FROM_REFERENCE = ("unshare", "--mount", "sh", "-ec",
                   'mount --rbind "$0/usr" /usr; exec "$@"', str(REFERENCE))  # fmt: skip
_RUNTIME_DIRECTORY = "/run/minicontainer"


class Clients:
    """Both clients, on one engine.

    Args:
        name: of the engine: dockerd, dockerd28 or minicontainer.
        machine: where it runs.
        path: where it listens, on its machine.
        home: the clients' home directory, with no configuration in it.
    """

    def __init__(self, name: str, machine: Machine, path: str, home: Path) -> None:
        self.name = name
        self.machine = machine
        self.path = path
        self.host = f"unix://{machine.path(path)}"
        self.environ = {
            "PATH": os.environ["PATH"], "HOME": str(home), "DOCKER_HOST": self.host,
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


# What each engine is started with, and where it listens; {} is the machine's cgroup.
ENGINES = {
    "dockerd": (("dockerd", "--cgroup-parent", "{}"), "/run/docker.sock"),
    "dockerd28": ((*FROM_REFERENCE, "dockerd", "--cgroup-parent", "{}"), "/run/docker.sock"),
    "minicontainer": (
        (*command("minicontainer"), "daemon", "--cgroup-parent", "{}"),
        f"{_RUNTIME_DIRECTORY}/minicontainer.sock",
    ),
}


@contextlib.contextmanager
def running(name: str, busybox: Path, directory: Path) -> Iterator[Clients]:
    """Start an engine on a machine of its own, with the image; end it, and all that runs in it.

    Args:
        name: one of ENGINES.
        directory: where the clients' home and the engine's log may lie.
    """
    missing = [program for program in NEEDS if not shutil.which(program)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root, and {', '.join(missing) or 'nothing else'}")
    if name == "dockerd28" and not (REFERENCE / "usr/sbin/dockerd").exists():
        pytest.skip(f"needs the reference at {REFERENCE}: make test-reference builds it")
    log, home = directory / f"{name}.log", directory / "home"
    home.mkdir(exist_ok=True)
    machine = Machine(f"client-{name}", busybox, "/usr/sbin/runc")
    words, path = ENGINES[name]
    try:
        machine.start(log, *(machine.cgroup if word == "{}" else word for word in words))
        clients = Clients(name, machine, path, home)
        wait_until(lambda: clients("docker", "version").status == 0, f"the engine: see {log}")
        tree = "/var/lib/minicontainer/rootfs/busybox"
        words_in = f"tar -C {tree} -c . | DOCKER_HOST=unix://{path} docker import - {IMAGE}"
        imported = machine("sh", "-c", words_in)
        assert imported.status == 0, imported.errors + log.read_text()[-2000:]
        yield clients
        left = clients.must("ps", "-aq").split()
        if left:  # our engine's cgroups are not below the machine's
            clients.must("rm", "-f", *left)
    finally:
        machine.stop()
