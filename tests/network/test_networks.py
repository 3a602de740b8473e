"""A connected container reaches what it should, and nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from minicontainer.kernel.namespaces import in_network
from minicontainer.network import networks
from minicontainer.network.links import Links

from .conftest import ID, OTHER, Host, Make, Netns, names

# ---- what a connection is


def test_the_container_has_an_address_and_a_default_route(host: Host, container: Netns) -> None:
    """What `connect` returns is what the kernel shows inside."""
    endpoint = host.connect(ID, container)
    (eth0,) = container.ip("address show dev eth0")
    assert eth0["address"] == endpoint.mac
    assert "UP" in eth0["flags"]
    (inet,) = [info for info in eth0["addr_info"] if info["family"] == "inet"]
    assert (inet["local"], inet["prefixlen"]) == (endpoint.address, endpoint.prefix)
    (default,) = container.ip("route show default")
    assert (default["gateway"], default["dev"]) == (endpoint.gateway, "eth0")


def test_the_host_has_the_other_end_on_its_bridge(host: Host, container: Netns) -> None:
    """The veth pair's end is a port of the bridge, whose address is the gateway."""
    endpoint = host.connect(ID, container)
    (port,) = host.ip("-details link show master minic0")
    assert port["ifname"] == endpoint.host_interface == "mc4f1c0d112233"
    assert port["linkinfo"]["info_kind"] == "veth"
    (bridge,) = host.ip("-4 address show dev minic0")
    assert bridge["addr_info"][0]["local"] == endpoint.gateway == "172.29.0.1"


def test_host_and_container_reach_each_other(host: Host, container: Netns) -> None:
    """TCP in both directions, without NAT: each sees the other's own address."""
    endpoint = host.connect(ID, container)
    with container.listening() as server, host.reach(endpoint.address):
        assert server.accept()[1][0] == endpoint.gateway
    with host.listening() as server, container.reach(endpoint.gateway):
        assert server.accept()[1][0] == endpoint.address


def test_the_first_packet_passes(host: Host, netns: Make) -> None:
    """When `connect` returns, all links have their carrier, without which packets are dropped.

    Five times, because the kernel is often as fast as we are.
    """
    for _ in range(5):
        container = netns()
        host.connect(ID, container)
        # All at once: asking for a link by its name would make the kernel catch up.
        with in_network(host.fd), Links() as outside:
            running = {link.name: link.running for link in outside.all()}
        with in_network(container.fd), Links() as inside:
            running |= {link.name: link.running for link in inside.all()}
        assert all(running.values()), running
        host.disconnect(ID)


def test_containers_reach_each_other(host: Host, netns: Make) -> None:
    """Two containers on one bridge have different addresses and see each other's own."""
    one, two = netns(), netns()
    first, second = host.connect(ID, one), host.connect(OTHER, two)
    assert first.address != second.address
    with one.listening() as server, two.reach(first.address):
        assert server.accept()[1][0] == second.address
    with two.listening() as server, one.reach(second.address):
        assert server.accept()[1][0] == first.address


def test_without_a_connection_nothing_is_reached(host: Host, netns: Make) -> None:
    """The control: beside a connected container, one that is not has nowhere to send to."""
    endpoint = host.connect(ID, netns())
    with pytest.raises(OSError, match="unreachable"):
        netns().reach(endpoint.gateway)


# ---- the outside world


def test_the_world_is_reached_with_the_hosts_address(
    host: Host, container: Netns, world: Netns
) -> None:
    """The other machine has no route to the container, and answers all the same."""
    host.connect(ID, container)
    with world.listening() as server, container.reach("198.51.100.2"):
        assert server.accept()[1][0] == "198.51.100.1"


def test_without_the_rules_the_world_sees_the_containers_address(
    host: Host, container: Netns, world: Netns
) -> None:
    """The control: no masquerading, so answers come only where the world is told of the subnet."""
    endpoint = host.connect(ID, container)
    host.run("nft delete table ip minicontainer")
    with world.listening() as server:
        with pytest.raises(TimeoutError):
            container.reach("198.51.100.2")
        world.run("ip route add 172.29.0.0/16 via 198.51.100.1")
        with container.reach("198.51.100.2"):
            assert server.accept()[1][0] == endpoint.address


def test_the_world_does_not_reach_a_container(host: Host, container: Netns, world: Netns) -> None:
    """Forwarding, switched on for the container's sake, opens it to nobody who knows a route."""
    endpoint = host.connect(ID, container)
    world.run("ip route add 172.29.0.0/16 via 198.51.100.1")
    with container.listening(), pytest.raises(TimeoutError):
        world.reach(endpoint.address)
    # The control: it is our rule that keeps it out.
    host.run("nft delete table ip minicontainer")
    with container.listening(), world.reach(endpoint.address):
        pass


def test_rules_that_were_flushed_come_back(host: Host, netns: Make, world: Netns) -> None:
    """A restarted firewall flushes every table; the next connection puts ours back, once."""
    host.connect(ID, netns())
    rules = host.everything()["rules"]
    host.run("nft flush ruleset")
    host.connect(OTHER, netns())
    assert host.everything()["rules"] == rules


# ---- what is left


def test_after_the_last_disconnect_all_is_as_before(host: Host, netns: Make) -> None:
    """Links, addresses, routes, rules, forwarding and state; the first disconnect keeps them."""
    before = host.everything()
    host.connect(ID, netns())
    host.connect(OTHER, netns())
    host.disconnect(ID)
    assert names(host) == {"lo", "minic0", "mc99be27001122"}
    assert "masquerade" in host.everything()["rules"]
    assert host.everything()["forwarding"] == "1\n"
    host.disconnect(OTHER)
    assert host.everything() == before


def test_disconnect_is_idempotent(host: Host, container: Netns) -> None:
    """Never connected, connected and disconnected twice: all fine."""
    before = host.everything()
    host.disconnect(ID)
    host.connect(ID, container)
    host.disconnect(ID)
    host.disconnect(ID)
    assert host.everything() == before
    assert names(container) == {"lo"}


def test_disconnect_after_the_container_is_gone(host: Host, container: Netns) -> None:
    """Whether the kernel has removed the dead container's links yet or not."""
    before = host.everything()
    host.connect(ID, container)
    container.close()
    host.disconnect(ID)
    assert host.everything() == before


def test_forwarding_that_was_on_stays_on(host: Host, container: Netns) -> None:
    """What was not switched on here is not switched off."""
    host.run("echo 1 > /proc/sys/net/ipv4/ip_forward")
    host.connect(ID, container)
    host.disconnect(ID)
    assert host.everything()["forwarding"] == "1\n"


def test_tables_of_others_are_not_touched(host: Host, container: Netns) -> None:
    """Another firewall's table is the same during and after."""
    theirs = "table ip theirs { chain c { type nat hook postrouting priority srcnat; }; }"
    host.run(f"nft '{theirs}'")
    before = host.everything()["rules"]
    host.connect(ID, container)
    assert before in host.everything()["rules"]
    host.disconnect(ID)
    assert host.everything()["rules"] == before


def test_a_bridge_that_somebody_else_uses_stays(host: Host, container: Netns) -> None:
    """A link that was attached by hand keeps the bridge."""
    host.connect(ID, container)
    host.run("ip link add theirs master minic0 type veth peer name end")
    host.disconnect(ID)
    assert names(host) == {"lo", "minic0", "theirs", "end"}


def test_networks_do_not_take_each_others_rules(host: Host, netns: Make) -> None:
    """Two bridges, one table: the first to go takes its own chains alone."""
    before = host.everything()
    default, second = host.network, networks.Network(name="second", bridge="minic1")
    host.connect(ID, netns())
    host.network = second
    assert host.connect(OTHER, netns()).address == "172.28.0.2"
    host.disconnect(OTHER)
    rules = host.everything()["rules"]
    assert "minic1" not in rules
    assert "minic0-postrouting" in rules
    host.network = default
    host.disconnect(ID)
    assert host.everything() == before


def test_no_descriptor_and_no_thread_is_left(host: Host, container: Netns) -> None:
    """pyroute2 works with an event loop and a socket; both go with the call."""
    host.connect(ID, container)
    host.disconnect(ID)
    descriptors = os.listdir("/proc/self/fd")
    own = os.readlink("/proc/thread-self/ns/net")
    host.connect(ID, container)
    host.disconnect(ID)
    assert os.listdir("/proc/self/fd") == descriptors
    assert threading.active_count() == 1
    assert os.readlink("/proc/thread-self/ns/net") == own


def test_pyroute2_is_not_loaded_before_it_is_needed() -> None:
    """Importing the module is cheap: whoever uses no bridge does not pay for netlink."""
    program = (
        "import sys; sys.path[:] = eval(sys.argv[1]); import minicontainer.network.networks\n"
        "print({'pyroute2', 'asyncio', 'subprocess', 'ipaddress'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, repr(sys.path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "set()\n"
