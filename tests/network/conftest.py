"""A host, containers and an outside world, each a network namespace of its own.

The machine's own network is never touched: the test process enters the namespace that plays the
host for the call under test, and the properties are read with iproute2 and sockets.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from minicontainer.kernel.namespaces import in_network
from minicontainer.network import networks
from tests.conftest import NetworkNamespace

ID = "4f1c0d1122334455667788"
OTHER = "99be270011223344556677"
EVENTS_OF_A_CONNECT = 12  # of the first one on a host, which makes the bridge too

NOT_THERE = [tool for tool in ("ip", "nft", "unshare", "nsenter") if not shutil.which(tool)]


class Netns(NetworkNamespace):
    """A network namespace whose descriptor can be handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """End it; twice is once."""
        if self.fd != -1:
            os.close(self.fd)
            self.fd = -1
            super().close()

    def run(self, command: str) -> str:
        """Run a shell command in it and return what it prints."""
        return subprocess.run(
            ["nsenter", f"--net={self.path}", "sh", "-ec", command],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def ip(self, command: str) -> Any:
        """Ask iproute2: the kernel's own view, as JSON."""
        return json.loads(self.run(f"ip -json {command}") or "[]")

    @contextmanager
    def listening(self, port: int = 80) -> Iterator[socket.socket]:
        """Listen on a TCP port of every address; the kernel completes the handshakes."""
        with in_network(self.fd):
            server = socket.create_server(("0.0.0.0", port))
        with server:
            yield server

    def reach(self, address: str, port: int = 80) -> socket.socket:
        """Open a TCP connection from in here."""
        with in_network(self.fd):
            return socket.create_connection((address, port), timeout=1.5)


class Host(Netns):
    """The namespace that plays the host, with the calls under test made in it."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__()
        self.state_dir = str(state_dir)
        self.network = networks.Network()

    def connect(
        self, container_id: str, container: Netns, place: networks.Place | None = None
    ) -> networks.Endpoint:
        """Call `networks.connect` on this host."""
        with in_network(self.fd):
            return networks.connect(self.network, container_id, container.fd, self.state_dir, place)

    def disconnect(self, container_id: str) -> None:
        """Call `networks.disconnect` on this host."""
        with in_network(self.fd):
            networks.disconnect(self.network, container_id, self.state_dir)

    def everything(self) -> dict[str, Any]:
        """Show all that a connection could leave behind, to be compared."""
        return {
            "links": sorted(link["ifname"] for link in self.ip("link")),
            "addresses": self.run("ip -o -4 address"),
            "routes": self.run("ip -4 route show table all"),
            "rules": self.run("nft list ruleset"),
            "forwarding": self.run("cat /proc/sys/net/ipv4/ip_forward"),
            "state": sorted(
                str(path) for path in Path(self.state_dir).rglob("*") if not path.is_dir()
            ),
        }


Make = Callable[[], Netns]


def names(netns: Netns) -> set[str]:
    """Name the links of a namespace."""
    return {link["ifname"] for link in netns.ip("link")}


@pytest.fixture(autouse=True)
def _able() -> None:
    """Skip where there is no root or a tool is missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if NOT_THERE:
        pytest.skip(f"needs {', '.join(NOT_THERE)}")


@pytest.fixture
def netns() -> Iterator[Make]:
    """Make network namespaces; they end with the test."""
    made: list[Netns] = []

    def make() -> Netns:
        made.append(Netns())
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A fresh host."""
    it = Host(tmp_path / "network")
    # One connection's lock file stays in any case; with it there, states can be compared.
    Path(it.state_dir).mkdir()
    Path(it.state_dir, "lock").touch()
    yield it
    it.close()


@pytest.fixture
def container(netns: Make) -> Netns:
    """A namespace for a container, not connected yet."""
    return netns()


@pytest.fixture
def world(netns: Make, host: Host) -> Netns:
    """Another machine, 198.51.100.2, on a wire to the host, 198.51.100.1."""
    it = netns()
    host.run(
        f"ip link add uplink type veth peer name eth0 netns {it.holder.pid};"
        "ip address add 198.51.100.1/24 dev uplink; ip link set uplink up"
    )
    it.run("ip address add 198.51.100.2/24 dev eth0; ip link set eth0 up")
    return it
