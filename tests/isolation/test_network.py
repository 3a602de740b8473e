"""Network namespaces: network_namespaces(7). The bridge itself is tested in tests/network."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, Engine, NetworkNamespace, Run, wait_until

from .conftest import HOST_PYTHON, enter, is_ours, leaks, namespace_of, python


def _links(pid: int) -> dict[str, list[str]]:
    """Ask the kernel for a process's links and their flags, by the host's iproute2."""
    shown = json.loads(enter(pid, "ip -json link", "-n"))
    return {link["ifname"]: link["flags"] for link in shown}


def test_without_a_network_there_is_lo_alone(run: Run) -> None:
    """--net none: lo, up, and routes to nowhere else."""
    container = run.start("echo ready; sleep 60", "--net", "none")
    assert not is_ours(container.pid, "net")
    links = _links(container.pid)
    # a kernel may give every namespace tunnels of its own: down, and to nowhere
    assert [name for name, flags in links.items() if "UP" in flags] == ["lo"]
    assert enter(container.pid, "ip -json route", "-n").strip() in ("[]", "[ ]", "")
    assert leaks(container.pid, "network") == {}


def test_the_host_has_its_own_links(run: Run) -> None:
    """The control: the same look at a container in the host's namespace finds the host's."""
    container = run.start("echo ready; sleep 60", "--net", "host")
    assert is_ours(container.pid, "net")
    assert "links" in leaks(container.pid, "network")
    assert set(_links(container.pid)) == set(os.listdir("/sys/class/net")) - {"bonding_masters"}
    assert run("ls /sys/class/net", "--net", "host").output.split() == sorted(
        os.listdir("/sys/class/net")
    )


def test_sysfs_shows_the_containers_links(run: Run) -> None:
    """A fresh sysfs is tagged with the network namespace of who mounts it."""
    assert "lo" in run("ls /sys/class/net").output.split()
    assert not set(run("ls /sys/class/net").output.split()) & set(_with_hardware())


def _with_hardware() -> list[str]:
    """List the host's links that no other namespace has by itself."""
    own = Path("/sys/class/net")
    return [path.name for path in own.iterdir() if path.name.startswith(("eth", "en", "wl"))]


_PAGE = "mkdir /www; echo hello > /www/index.html"
_ASK_ONESELF = "httpd -p 127.0.0.1:80 -h /www && wget -q -O - http://127.0.0.1/index.html"


def test_lo_carries_packets(run: Run) -> None:
    """A server on it is reached from inside."""
    assert run(f"{_PAGE}; {_ASK_ONESELF}", "--net", "none").output == "hello\n"


def test_a_namespace_can_be_another_containers(run: Run) -> None:
    """`container:NAME`: what one serves on its lo, the other reaches; a third does not."""
    server = run.start(f"{_PAGE}; httpd -p 127.0.0.1:80 -h /www; echo ready; sleep 60")
    ask = "wget -q -O - http://127.0.0.1/index.html"
    joined = run(ask, "--net", f"container:{server.state['id']}")
    assert joined.output == "hello\n"
    assert "Connection refused" in run(ask).errors  # the control


def test_a_namespace_can_be_joined_by_path(run: Run) -> None:
    """`ns:PATH`."""
    other = run.start("echo ready; sleep 60")
    joined = run.start("echo ready; sleep 60", "--net", f"ns:/proc/{other.pid}/ns/net")
    assert namespace_of(joined.pid, "net") == namespace_of(other.pid, "net")


# ---- the bridge, from end to end


class PlayedHost(NetworkNamespace):
    """A network namespace that plays the host, so that this machine's own is not touched."""

    def words(self, *words: str) -> list[str]:
        """Give the words that run a command in it."""
        return ["nsenter", f"--net={self.path}", *words]

    def run(self, *words: str) -> str:
        """Run a command in it; give its output."""
        return subprocess.run(
            self.words(*words), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        ).stdout

    def json(self, *words: str) -> Any:
        """Run iproute2 in it."""
        return json.loads(self.run("ip", "-json", *words) or "[]")


@pytest.fixture
def played_host() -> Iterator[PlayedHost]:
    """The host of one test."""
    host = PlayedHost()
    yield host
    host.close()


@pytest.fixture
def run_there(run: Run, roots: tuple[Path, Path], played_host: PlayedHost) -> Iterator[Run]:
    """A way to run containers by an engine that has the played host's network."""
    base = roots[0].parent / "engine"
    base.mkdir(mode=0o711)
    engine = Engine(base, f"{run.engine.cgroup}-there", tuple(played_host.words()))
    runner = Run(run.rootfs, engine)
    yield runner
    for running in runner.background:
        running.stop()
    engine.close()


_SERVE = f"""
{_PAGE}
ip -o -4 addr show dev eth0 | sed 's/.*inet //; s,/.*,,'
exec httpd -f -p 80 -h /www
"""


def test_a_server_is_reached_over_the_bridge(run_there: Run, played_host: PlayedHost) -> None:
    """From the host's own namespace; and with the container, its link and its rules go."""
    before = played_host.json("link")
    server = subprocess.Popen(
        run_there.arguments(("/bin/sh", "-c", _SERVE), ("--net", "bridge", "--name", "server")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        address = server.stdout.readline().strip()
        page = ("busybox", "wget", "-q", "-O", "-", f"http://{address}/index.html")
        wait_until(lambda: played_host.run(*page) == "hello\n", "the server's page")
        assert "masquerade" in played_host.run("nft", "list", "ruleset")
        assert len(played_host.json("link")) == len(before) + 2  # the bridge, and one end of a pair
    finally:
        run_there.engine.remove_all()
        server.communicate(timeout=PATIENCE_S)
    wait_until(lambda: played_host.json("link") == before, "the links' end")
    assert played_host.run("nft", "list", "ruleset") == ""


def test_a_killed_containers_link_is_taken_away(run_there: Run, played_host: PlayedHost) -> None:
    """By the kernel, with the namespace; address and rules by the engine."""
    before = played_host.json("link")
    container = run_there.start("echo ready; sleep 600", "--net", "bridge")
    assert "masquerade" in played_host.run("nft", "list", "ruleset")  # the look can find it
    container.stop()
    wait_until(lambda: played_host.json("link") == before, "the links' end")
    wait_until(lambda: played_host.run("nft", "list", "ruleset") == "", "the rules' end")


_ASK_THE_HOST = r"""
ip route
grep $(hostname) /etc/hosts
ping -c 1 $(ip route | sed -n 's/^default via \([^ ]*\).*/\1/p')
"""


def test_the_host_is_reached_over_the_bridge(run_there: Run) -> None:
    """The default route leads there; /etc/hosts knows the container's own address."""
    done = run_there(_ASK_THE_HOST, "--net", "bridge")
    assert done.status == 0, done.errors
    assert "1 packets received" in done.output
    own = done.output.split("src ")[1].split()[0]
    assert f"{own}\t" in done.output
    # the control: without a network the same look finds no way
    assert run_there(_ASK_THE_HOST, "--net", "none").status != 0


@pytest.mark.parametrize("options", [(), ("--userns", "private")])
def test_every_user_may_ping_and_listen_on_any_port(run: Run, options: tuple[str, ...]) -> None:
    """As with Docker: in a network of the container's own, neither is a privilege."""
    tries = (
        "import socket;"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP);"
        "socket.socket().bind(('127.0.0.1', 80))"
    )
    done = run(python(tries), *HOST_PYTHON, "-u", "1000", *options)
    assert done.status == 0, done.errors
