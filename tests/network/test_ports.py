"""Published ports: reachable from the host, the world and other containers; and nothing more is."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from minicontainer.errors import Conflict, KernelError
from minicontainer.kernel.namespaces import in_network
from minicontainer.network.networks import Place
from minicontainer.network.ports import PortRequest, hold

from .conftest import ID, OTHER, Host, Make, Netns, names


def web(first: int = 8080, last: int = 0, host_ip: str = "", protocol: str = "tcp") -> Place:
    """Ask for port 80 of the container at a port of the host."""
    request = PortRequest(port=80, protocol=protocol, first=first, last=last, host_ip=host_ip)
    return Place(ports=(request,))


# ---- who reaches it


def test_the_world_reaches_it_and_is_seen(host: Host, container: Netns, world: Netns) -> None:
    """The container sees who asks: the address is not translated on the way in."""
    (published,) = host.connect(ID, container, web()).published
    assert (published.host_ip, published.host_port, published.port) == ("0.0.0.0", 8080, 80)
    with container.listening(80) as server, world.reach("198.51.100.1", 8080):
        assert server.accept()[1][0] == "198.51.100.2"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "198.51.100.1", "172.29.0.1"])
def test_the_host_reaches_it_at_each_of_its_addresses(
    host: Host, container: Netns, world: Netns, address: str
) -> None:
    """Its loopback too, though a packet from there could never reach a container as it is."""
    endpoint = host.connect(ID, container, web())
    with container.listening(80) as server, host.reach(address, 8080):
        sender = server.accept()[1][0]
    assert sender in (endpoint.gateway, address)
    assert not sender.startswith("127.")


def test_containers_reach_it_through_the_host(host: Host, netns: Make, world: Netns) -> None:
    """Another one on the same bridge, and the very container: a hairpin."""
    one, two = netns(), netns()
    first = host.connect(ID, one, web())
    host.connect(OTHER, two)
    for address in (first.gateway, "198.51.100.1"):
        with one.listening(80), two.reach(address, 8080):
            pass
        with one.listening(80), one.reach(address, 8080):
            pass


def test_a_container_on_another_network_reaches_it_through_the_host(
    host: Host, netns: Make
) -> None:
    """Directly it does not: networks are apart."""
    one, two = netns(), netns()
    first = host.connect(ID, one, web())
    host.network = host.network.replace(bridge="br-other", subnets=("172.30.0.0/16",))
    host.connect(OTHER, two)
    with one.listening(80), two.reach(first.gateway, 8080):
        pass
    with one.listening(80), pytest.raises(TimeoutError):
        two.reach(first.address, 80)


def test_datagrams_are_published_too(host: Host, container: Netns, world: Netns) -> None:
    """Both ways: the answer comes from the address that was asked."""
    host.connect(ID, container, web(protocol="udp"))
    with in_network(container.fd):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("0.0.0.0", 80))
    with in_network(world.fd):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(5)
    with server, client:
        client.sendto(b"question", ("198.51.100.1", 8080))
        question, sender = server.recvfrom(100)
        server.sendto(b"answer", sender)
        assert (question, client.recvfrom(100)) == (
            b"question", (b"answer", ("198.51.100.1", 8080)),
        )  # fmt: skip


# ---- who does not


def test_no_other_port_is_reached(host: Host, container: Netns, world: Netns) -> None:
    """The control: the port beside it, and the container's own address from the world."""
    endpoint = host.connect(ID, container, web())
    world.run("ip route add 172.29.0.0/16 via 198.51.100.1")
    with container.listening(81), pytest.raises(OSError, match="refused"):
        world.reach("198.51.100.1", 8081)
    with container.listening(80), pytest.raises(TimeoutError):
        world.reach(endpoint.address, 80)


def test_on_one_address_it_is_there_alone(host: Host, container: Netns, world: Netns) -> None:
    """127.0.0.1 is for the host alone."""
    host.connect(ID, container, web(host_ip="127.0.0.1"))
    with container.listening(80), host.reach("127.0.0.1", 8080):
        pass
    with container.listening(80), pytest.raises(OSError, match="refused"):
        world.reach("198.51.100.1", 8080)


def test_a_container_does_not_reach_the_hosts_loopback(host: Host, container: Netns) -> None:
    """The way that is opened for answers is not one for questions."""
    endpoint = host.connect(ID, container, web())
    container.run(
        "ip route del local 127.0.0.0/8 dev lo table local;"
        "ip route del local 127.0.0.1 dev lo table local || true;"
        f"ip route add 127.0.0.0/8 via {endpoint.gateway};"
        "sysctl -qw net.ipv4.conf.all.route_localnet=1"
    )
    with in_network(host.fd):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 5432))
        server.settimeout(1)
    with in_network(container.fd):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, client:
        client.sendto(b"kept out", ("127.0.0.1", 5432))
        # The control: it is our rule that keeps it out.
        host.run("nft flush chain ip minicontainer minic0-guard")
        client.sendto(b"let in", ("127.0.0.1", 5432))
        assert server.recv(100) == b"let in"


# ---- which port it is


def test_an_ephemeral_port_is_the_lowest_free_one(host: Host, netns: Make) -> None:
    """From 32768 on; one that a program of the host has is passed over."""
    with in_network(host.fd):
        taken = socket.create_server(("127.0.0.1", 32769))
    with taken:
        ports = [
            host.connect(identifier, netns(), web(0)).published[0].host_port
            for identifier in (ID, OTHER)
        ]
    assert ports == [32768, 32770]


def test_a_range_is_searched_and_can_be_full(host: Host, netns: Make) -> None:
    """Two ports for three containers."""
    assert host.connect("a" * 64, netns(), web(8000, 8001)).published[0].host_port == 8000
    assert host.connect("b" * 64, netns(), web(8000, 8001)).published[0].host_port == 8001
    with pytest.raises(Conflict, match=r"Bind for 0.0.0.0:8001 failed: port is already allocated"):
        host.connect("c" * 64, netns(), web(8000, 8001))


@pytest.mark.parametrize("second", [web(), web(host_ip="127.0.0.1")])
def test_a_port_that_another_container_has_is_refused(
    host: Host, netns: Make, second: Place
) -> None:
    """Nothing of the second one stays; the first one's port leads where it led."""
    one, two = netns(), netns()
    host.connect(ID, one, web())
    before = host.everything()
    with pytest.raises(Conflict, match=r":8080 failed: port is already allocated"):
        host.connect(OTHER, two, second)
    assert host.everything() == before
    assert names(two) == {"lo"}
    with one.listening(80), host.reach("127.0.0.1", 8080):
        pass


def test_the_same_number_is_free_elsewhere(host: Host, netns: Make, world: Netns) -> None:
    """For another protocol, and on another address."""
    host.connect(ID, netns(), web(host_ip="127.0.0.1"))
    host.connect(OTHER, netns(), web(host_ip="198.51.100.1"))
    host.connect("c" * 64, netns(), web(protocol="udp"))
    assert len(list(Path(host.state_dir, "ports/minic0").iterdir())) == 3


def test_a_port_of_a_program_of_the_host_is_refused(host: Host, container: Netns) -> None:
    """It would be cut off by the rules; all is as before."""
    before = host.everything()
    with (
        host.listening(8080),
        pytest.raises(Conflict, match=r"host port 0.0.0.0:8080/tcp: address already in use"),
    ):
        host.connect(ID, container, web())
    assert host.everything() == before


def test_an_address_that_the_host_has_not_is_refused(host: Host, container: Netns) -> None:
    """Named, with the kernel's reason."""
    before = host.everything()
    with pytest.raises(KernelError, match=r"192.0.2.9:8080/tcp: Cannot assign requested address"):
        host.connect(ID, container, web(host_ip="192.0.2.9"))
    assert host.everything() == before


def test_held_ports_are_free_for_nobody(host: Host, container: Netns) -> None:
    """Until the sockets are closed."""
    with in_network(host.fd):
        held = hold(host.connect(ID, container, web()).published)
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", 8080), reuse_port=False)
    with container.listening(80), host.reach("127.0.0.1", 8080):
        pass
    for one in held:
        one.close()
    with host.listening(8080):
        pass


# ---- what is left


def test_after_the_disconnect_all_is_as_before(host: Host, netns: Make, world: Netns) -> None:
    """With one container left, its port works, and the other's is free."""
    before = host.everything()
    one, two = netns(), netns()
    host.connect(ID, one, web(8080))
    host.connect(OTHER, two, web(8081))
    host.disconnect(ID)
    with two.listening(80), world.reach("198.51.100.1", 8081):
        pass
    with pytest.raises(OSError, match="refused"):
        world.reach("198.51.100.1", 8080)
    host.disconnect(OTHER)
    assert host.everything() == before


def test_a_dead_containers_port_is_free_for_the_next(host: Host, netns: Make) -> None:
    """Its network namespace ended without a disconnect."""
    one = netns()
    endpoint = host.connect(ID, one, web())
    one.close()
    while endpoint.host_interface in names(host):
        pass
    assert host.connect(OTHER, netns(), web()).published[0].host_port == 8080
