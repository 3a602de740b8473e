"""Interfaces that move into the container: as the kernel tells of them on both sides.

The host's side is a network namespace of the test's own, with veth pairs in it.

See: runtime-spec config-linux.md "Network Devices".
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, NetworkNamespace, Running, start_in_background
from tests.isolation.conftest import Bundles, Spec

WAIT = "echo ready; sleep 60"
MAC = "02:00:00:00:00:07"
SETTING_UP = f"""
ip link add dev0 mtu 1334 address {MAC} type veth peer name far0
ip address add 10.9.8.7/24 broadcast 10.9.8.255 dev dev0
ip address add 10.9.9.7/24 valid_lft 1000 preferred_lft 1000 dev dev0
ip address add 169.254.1.1/16 scope link dev dev0
ip address add fd00:1::7/64 dev dev0
ip link set far0 up
ip link set dev0 up
ip link add dev1 type veth peer name far1
"""


class Host(NetworkNamespace):
    """The host's side."""

    @property
    def prefix(self) -> list[str]:
        """Give the words that run a command there."""
        return ["nsenter", f"--net={self.path}"]

    def links(self) -> dict[str, Any]:
        """Look at its links."""
        return links_of(self.holder.pid)


def links_of(pid: int) -> dict[str, Any]:
    """Ask the kernel for the links and addresses of a process's network namespace, by name."""
    told = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "ip", "-json", "address"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    ).stdout  # fmt: skip
    return {link["ifname"]: link for link in json.loads(told)}


def addresses_of(link: Any) -> set[str]:
    """List a link's addresses but those that the kernel makes by itself."""
    return {
        f"{found['local']}/{found['prefixlen']}"
        for found in link["addr_info"]
        if not found["local"].startswith("fe80:")
    }


@pytest.fixture
def host() -> Iterator[Host]:
    """A host with two interfaces to give away."""
    namespace = Host()
    subprocess.run([*namespace.prefix, "sh", "-ec", SETTING_UP], check=True, timeout=PATIENCE_S)
    yield namespace
    namespace.close()


def start(bundles: Bundles, host: Host, devices: dict[str, Any]) -> Running:
    """Start a container that gets interfaces of *host*."""
    words = bundles.write(WAIT, lambda spec: spec["linux"].update(netDevices=devices))
    state = bundles.directory / "state" / words[-1]
    running = start_in_background([*host.prefix, *words], lambda: state)
    bundles.background.append(running)
    return running


def refusal(bundles: Bundles, host: Host, change: Any) -> str:
    """Run a container that can't be made; give its one line."""
    done = subprocess.run(
        [*host.prefix, *bundles.write("true", change)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    return done.stderr


@pytest.mark.oci("linux.netDevices")
def test_an_interface_moves_as_it_is(bundles: Bundles, host: Host) -> None:
    """Renamed, up, with its MTU, hardware address, and the addresses that were to last."""
    assert "dev0" in host.links()
    running = start(bundles, host, {"dev0": {"name": "eth7"}})
    found = links_of(running.pid)
    assert set(found) == {"lo", "eth7"}
    eth7 = found["eth7"]
    assert (eth7["mtu"], eth7["address"]) == (1334, MAC)
    assert "UP" in eth7["flags"]
    assert addresses_of(eth7) == {"10.9.8.7/24", "fd00:1::7/64"}
    (ipv4,) = (x for x in eth7["addr_info"] if x["family"] == "inet")
    assert ipv4["broadcast"] == "10.9.8.255"
    assert set(host.links()) == {"lo", "far0", "dev1", "far1"}


def test_without_one_the_container_has_loopback_alone(bundles: Bundles, host: Host) -> None:
    """The control."""
    running = start(bundles, host, {})
    assert set(links_of(running.pid)) == {"lo"}
    assert {"dev0", "dev1"} <= set(host.links())


def test_two_of_one_template_are_numbered(bundles: Bundles, host: Host) -> None:
    """By the kernel; an interface that was down is up, and one without a name keeps its own."""
    running = start(bundles, host, {"dev0": {"name": "net%d"}, "dev1": {"name": "net%d"}})
    found = links_of(running.pid)
    assert set(found) == {"lo", "net0", "net1"}
    assert all("UP" in link["flags"] for link in found.values())
    running.stop()


@pytest.mark.oci("linux.netDevices")
def test_one_without_a_name_keeps_its_own(bundles: Bundles, host: Host) -> None:
    """The other end stays where it is."""
    running = start(bundles, host, {"dev1": {}})
    assert set(links_of(running.pid)) == {"lo", "dev1"}


def test_an_interface_that_is_not_there(bundles: Bundles, host: Host) -> None:
    """Found before anything moves: an interface that came back would have another number."""
    before = {name: link["ifindex"] for name, link in host.links().items()}

    def change(spec: Spec) -> None:
        spec["linux"]["netDevices"] = {"dev0": {}, "nosuch": {}}

    assert "linux.netDevices.nosuch: no such network interface here" in refusal(
        bundles, host, change
    )
    assert {name: link["ifindex"] for name, link in host.links().items()} == before


def test_a_bridge_can_not_move(bundles: Bundles, host: Host) -> None:
    """Nor can lo: the kernel ties them to their namespace. What had moved is back as it was."""
    before = host.links()

    def change(spec: Spec) -> None:
        spec["linux"]["netDevices"] = {"dev0": {"name": "x"}, "lo": {"name": "y"}}

    assert "linux.netDevices.lo: this one can't be moved" in refusal(bundles, host, change)
    after = host.links()
    assert set(after) == set(before)
    assert addresses_of(after["dev0"]) == {"10.9.8.7/24", "fd00:1::7/64"}
    assert "UP" in after["dev0"]["flags"]


def test_a_container_that_fails_gives_it_back(bundles: Bundles, host: Host) -> None:
    """After the move init finds no program."""

    def change(spec: Spec) -> None:
        spec["linux"]["netDevices"] = {"dev0": {"name": "x"}}
        spec["process"]["args"] = ["/nosuch"]

    assert "/nosuch" in refusal(bundles, host, change)
    assert host.links()["dev0"]["address"] == MAC


def test_a_name_that_is_taken(bundles: Bundles, host: Host) -> None:
    """In a namespace that is joined there may be one; the interface stays on the host."""
    other = NetworkNamespace()
    try:
        subprocess.run(
            ["nsenter", f"--net={other.path}", "ip", "link", "add", "eth7", "type", "bridge"],
            check=True, timeout=PATIENCE_S,
        )  # fmt: skip

        def change(spec: Spec) -> None:
            for namespace in spec["linux"]["namespaces"]:
                if namespace["type"] == "network":
                    namespace["path"] = other.path
            spec["linux"]["netDevices"] = {"dev0": {"name": "eth7"}}

        assert "has a eth7 already: choose another name" in refusal(bundles, host, change)
        assert "dev0" in host.links()
    finally:
        other.close()


def test_without_a_network_namespace_nothing_moves(bundles: Bundles, host: Host) -> None:
    """There would be nowhere to move to."""

    def change(spec: Spec) -> None:
        rest = [row for row in spec["linux"]["namespaces"] if row["type"] != "network"]
        spec["linux"] |= {"namespaces": rest, "netDevices": {"dev0": {}}}

    assert "linux.netDevices: needs the container's own network" in refusal(bundles, host, change)
    assert "dev0" in host.links()
