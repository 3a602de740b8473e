"""Networks of the engine, on a network namespace that plays the host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minicontainer.errors import Conflict, Error, Forbidden, InvalidArgument, NotFound, Unsupported
from tests.network.conftest import names

from .network_places import SUBNET, Place

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

Json = dict[str, Any]


# ---- the predefined ones


def test_three_networks_are_there_from_the_start(place: Place) -> None:
    """In Docker's shapes; their IDs are the same after a restart of the engine."""
    listed = place(place.networks.list, {})
    assert [(one["Name"], one["Driver"], one["Scope"]) for one in listed] == [
        ("bridge", "bridge", "local"), ("host", "host", "local"), ("none", "null", "local"),
    ]  # fmt: skip
    config = listed[0]["IPAM"]["Config"]
    assert config == [{"Subnet": "172.29.0.0/16", "Gateway": "172.29.0.1"}]
    assert (listed[0]["Containers"], listed[0]["Internal"]) == ({}, False)
    assert place(place.again().list, {}) == listed


@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_the_predefined_ones_stay(place: Place, name: str) -> None:
    """Neither removed nor made again."""
    with pytest.raises(Forbidden, match=f"{name} is a pre-defined network and cannot be removed"):
        place(place.networks.remove, name)
    with pytest.raises(Forbidden, match=f"not permitted on predefined {name} network"):
        place.create(name)


def test_a_container_on_the_bridge(place: Place) -> None:
    """Its settings are what the kernel shows; stopped, it has none."""
    web, netns = place.run("web")
    settings = web.endpoints["bridge"]
    (eth0,) = netns.ip("address show dev eth0")
    inet = next(info for info in eth0["addr_info"] if info["family"] == "inet")
    assert settings["IPAddress"] == inet["local"] == "172.29.0.2"
    assert (settings["Gateway"], settings["IPPrefixLen"]) == ("172.29.0.1", 16)
    assert settings["MacAddress"] == eth0["address"]
    assert len(settings["EndpointID"]) == 64
    shown = place(place.networks.inspect, "bridge")
    assert settings["NetworkID"] == shown["Id"]
    assert shown["Containers"][web.id] == {
        "Name": "web", "EndpointID": settings["EndpointID"],
        "MacAddress": settings["MacAddress"], "IPv4Address": "172.29.0.2/16", "IPv6Address": "",
    }  # fmt: skip
    place.stop(web)
    assert web.endpoints["bridge"]["IPAddress"] == web.endpoints["bridge"]["EndpointID"] == ""
    assert place(place.networks.inspect, "bridge")["Containers"] == {}
    assert [action for action, _ in place.events] == ["network connect", "network disconnect"]
    assert place.events[0][1] == {"container": web.id, "name": "bridge", "type": "bridge"}


@pytest.mark.parametrize("mode", ["host", "none"])
def test_host_and_none_have_an_endpoint_without_an_address(place: Place, mode: str) -> None:
    """As with Docker; the container's links are left alone."""
    one, netns = place.run("one", mode)
    assert list(one.endpoints) == [mode]
    assert one.endpoints[mode]["IPAddress"] == ""
    assert names(netns) == {"lo"}


def test_another_containers_network_is_none_of_its_own(place: Place) -> None:
    """`container:web` has no endpoint."""
    one, _ = place.run("one", "container:web")
    assert one.endpoints == {}


# ---- those of users


def test_a_network_is_made_shown_and_removed(place: Place) -> None:
    """With what was asked for; found by name, ID and the begin of the ID."""
    identifier = place.create(
        "back", IPAM=SUBNET, Internal=True, Labels={"a": "b"}, Options={"x": "y"}
    )
    shown = place(place.networks.inspect, "back")
    assert shown["Id"] == identifier
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.9"}]
    assert (shown["Internal"], shown["Labels"], shown["Options"]) == (True, {"a": "b"}, {"x": "y"})
    assert place(place.again().inspect, identifier[:6]) == shown
    place(place.networks.remove, identifier)
    with pytest.raises(NotFound, match="network back not found"):
        place(place.networks.inspect, "back")
    assert [action for action, _ in place.events] == ["network create", "network destroy"]


def test_subnets_are_chosen_apart(place: Place) -> None:
    """From each other's, the default bridge's, and those that the host has a route to."""
    place.host.run(
        "ip link add other type bridge; ip link set other up; ip route add 172.18.0.0/16 dev other"
    )
    for name in ("one", "two"):
        place.create(name)
    chosen = [
        place(place.networks.inspect, name)["IPAM"]["Config"][0]["Subnet"]
        for name in ("one", "two", "bridge")
    ]
    assert chosen == ["172.19.0.0/16", "172.20.0.0/16", "172.29.0.0/16"]


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ({"Name": "back"}, Conflict, "network with name back already exists"),
        ({"Name": " "}, InvalidArgument, "invalid name: name is empty"),
        ({"Name": "a\n192.0.2.1 db"}, InvalidArgument, "it must be one line of text"),
        ({"Driver": "overlay"}, NotFound, 'plugin "overlay" not found'),
        ({"Driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"EnableIPv6": True}, Unsupported, "IPv6 is not supported yet"),
        ({"IPAM": {"Config": [{"Subnet": "x"}]}}, InvalidArgument, "invalid subnet x"),
        ({"IPAM": {"Config": [{"Subnet": "10.1.0.0/31"}]}}, InvalidArgument, "no address for a c"),
        ({"IPAM": {"Config": [{"Subnet": "10.77.0.0/16"}]}}, Forbidden, "Pool overlaps with other"),
        (
            {"IPAM": {"Config": [{"Subnet": "10.1.0.0/16", "Gateway": "10.2.0.1"}]}},
            InvalidArgument, "no matching subnet for gateway 10.2.0.1",
        ),
        (
            {"IPAM": {"Config": [{"Subnet": "10.1.0.0/16", "IPRange": "10.2.0.0/24"}]}},
            InvalidArgument, "no matching subnet for range",
        ),
        (
            {"Options": {"com.docker.network.driver.mtu": "x"}},
            InvalidArgument, "invalid value for com.docker.network.driver.mtu: 'x'",
        ),
        (
            {"Options": {"com.docker.network.bridge.enable_icc": "false"}},
            Unsupported, "enable_icc=false is not supported",
        ),
        (
            {"Options": {"com.docker.network.bridge.host_binding_ipv4": "x"}},
            InvalidArgument, "invalid value for com.docker.network.bridge.host_binding_ipv4: 'x'",
        ),
        ({"Labels": {"a": 1}}, InvalidArgument, "Labels: expected an object of strings"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be(place: Place, body: Json, error: type[Error], says: str) -> None:
    """Refused in Docker's words, and not kept."""
    place.create("back", IPAM=SUBNET)
    with pytest.raises(error, match=says):
        place(place.networks.create, {"Name": "new", **body})
    assert len(place.table.rows) == 4


def test_a_container_on_a_users_network(place: Place) -> None:
    """With the network's gateway, names for DNS, and reaching its neighbours."""
    place.create("back", IPAM=SUBNET)
    web, netns = place.run("web", "back", places={"back": {"Aliases": ["www"]}})
    _, client = place.run("client", "back")
    settings = web.endpoints["back"]
    assert (settings["IPAddress"], settings["Gateway"]) == ("10.77.0.1", "10.77.0.9")
    assert settings["DNSNames"] == ["web", "www", web.id[:12]]
    with netns.listening(80), client.reach("10.77.0.1", 80):
        pass
    _, stranger = place.run("stranger")
    with netns.listening(80), pytest.raises(OSError, match=r"timed out|refused|unreachable"):
        stranger.reach("10.77.0.1", 80)


def test_the_links_of_a_network_have_its_mtu(place: Place) -> None:
    """Both ends, and the bridge: behind a VPN, larger packets would be lost."""
    place.create("back", IPAM=SUBNET, Options={"com.docker.network.driver.mtu": "1400"})
    _, netns = place.run("web", "back")
    assert "mtu 1400" in netns.run("ip link show eth0")
    assert place.host.run("ip -o link show type bridge").count("mtu 1400") == 1


def test_fixed_addresses_and_ranges(place: Place) -> None:
    """The user's address, on networks with the user's subnet alone; others come from the range."""
    config = {
        "Subnet": "10.77.0.0/24", "IPRange": "10.77.0.128/25",
        "AuxiliaryAddresses": {"router": "10.77.0.129"},
    }  # fmt: skip
    place.create("back", IPAM={"Config": [config]})
    fixed = {"back": {"IPAMConfig": {"IPv4Address": "10.77.0.50"}}}
    assert place.run("a", "back", places=fixed)[0].endpoints["back"]["IPAddress"] == "10.77.0.50"
    assert place.run("b", "back")[0].endpoints["back"]["IPAddress"] == "10.77.0.130"
    with pytest.raises(Error, match="Address already in use"):
        place.run("c", "back", places=fixed)
    place.create("auto")
    check = place.networks.check
    for mode, says in (
        ("auto", "only when connecting to networks with user"),
        ("bridge", "user d"),
    ):
        refused = place.container("d", mode, places={mode: fixed["back"]})
        with pytest.raises(InvalidArgument, match=says):
            place(check, refused.config)
    outside = {"back": {"IPAMConfig": {"IPv4Address": "10.78.0.1"}}}
    with pytest.raises(InvalidArgument, match=r"contain the IP address 10.78.0.1"):
        place(check, place.container("e", "back", places=outside).config)


def test_a_container_on_several_networks(place: Place) -> None:
    """One link each; the way to everywhere else is the main one's."""
    place.create("back", IPAM=SUBNET)
    one, netns = place.run("one", "bridge", places={"back": {}})
    assert sorted(one.endpoints) == ["back", "bridge"]
    assert {"eth0", "eth1"} <= names(netns)
    (default,) = netns.ip("route show default")
    assert default["gateway"] == "172.29.0.1"
    place.stop(one)
    assert names(place.host) == {"lo"}


def test_an_internal_network_has_no_way_out(place: Place) -> None:
    """No default route; containers on it reach each other."""
    place.create("back", IPAM=SUBNET, Internal=True)
    one, netns = place.run("one", "back")
    _, other = place.run("other", "back")
    assert netns.ip("route show default") == []
    with netns.listening(80), other.reach(one.endpoints["back"]["IPAddress"], 80):
        pass


def test_an_unknown_network_is_refused(place: Place) -> None:
    """When the container is started: it may be made before."""
    one = place.container("one", "nosuch")
    place(place.networks.check, one.config)
    with pytest.raises(NotFound, match="set up container networking: network nosuch not found"):
        place.start(one)
    place.create("nosuch")
    place.start(one)
    assert one.endpoints["nosuch"]["IPAddress"]


# ---- ports


def test_published_ports_are_shown_and_work(place: Place) -> None:
    """On both families' wildcards, as Docker shows them; -P takes the image's ports too."""
    web, netns = place.run(
        "web", ports={"80/tcp": [("", "8080"), ("127.0.0.1", "")]},
        exposed={"80/tcp": {}, "53/udp": {}}, publish_all=True,
    )  # fmt: skip
    assert web.published == {
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"},
            {"HostIp": "127.0.0.1", "HostPort": "32768"},
        ],
        "53/udp": [
            {"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"},
        ],
    }  # fmt: skip
    for port in (8080, 32768):
        with netns.listening(80), place.host.reach("127.0.0.1", port):
            pass
    with pytest.raises(OSError, match="in use"), place.host.listening(8080):
        pass
    place.stop(web)
    assert web.published == {}
    with place.host.listening(8080):
        pass


def test_a_network_chooses_where_its_ports_are_published(place: Place) -> None:
    """Unless a port names an address itself: the rest is closed to other machines."""
    option = {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}
    place.create("back", IPAM=SUBNET, Options=option)
    web, _ = place.run("web", "back", ports={"80/tcp": [("", "8080"), ("0.0.0.0", "8081")]})
    assert web.published["80/tcp"][0] == {"HostIp": "127.0.0.1", "HostPort": "8080"}
    assert web.published["80/tcp"][1] == {"HostIp": "0.0.0.0", "HostPort": "8081"}


def test_a_port_stays_taken_when_another_network_is_left(place: Place) -> None:
    """Each network of a container keeps its own ports from programs of the host."""
    place.create("back", IPAM=SUBNET)
    place.run("web", ports={"80/tcp": [("", "8080")]})
    place(place.networks.connect, "back", {"Container": "web"})
    place(place.networks.disconnect, "back", {"Container": "web"})
    with pytest.raises(OSError, match="in use"), place.host.listening(8080):
        pass
    place(place.networks.disconnect, "bridge", {"Container": "web"})
    with place.host.listening(8080):
        pass


def test_a_taken_port_fails_the_start_in_dockers_words(place: Place) -> None:
    """Clients look for them. Nothing stays of the second container."""
    place.run("one", ports={"80/tcp": [("", "8080")]})
    two = place.container("two", ports={"80/tcp": [("", "8080")]})
    says = (
        "driver failed programming external connectivity on endpoint two (.*): "
        "Bind for 0.0.0.0:8080 failed: port is already allocated"
    )
    with pytest.raises(Error, match=says):
        place.start(two)
    assert two.endpoints["bridge"]["IPAddress"] == ""
    assert names(two.netns) == {"lo"}


def test_an_engine_that_comes_back_knows_the_ports(place: Place) -> None:
    """They are shown again, work meanwhile, and are kept from programs of the host."""
    web, netns = place.run("web", ports={"80/tcp": [("", "8080")]})
    shown, web.published = web.published, {}
    network = place.networks.find("bridge")["Id"]
    for held in place.networks._held.pop((web.id, network)):  # as the kernel, at the engine's kill
        held.close()
    with netns.listening(80), place.host.reach("127.0.0.1", 8080):
        pass
    place.networks = place.again()
    place(place.networks.adopt, web)
    assert web.published == shown
    with pytest.raises(OSError, match="in use"), place.host.listening(8080):
        pass
    place.stop(web)
    with place.host.listening(8080):
        pass


@pytest.mark.parametrize(
    ("port", "bindings", "says"),
    [
        ("80/xyz", [("", "")], "invalid proto: xyz"),
        ("x/tcp", [("", "")], "invalid port specification: 'x/tcp'"),
        ("0/tcp", [("", "")], "invalid port specification: '0/tcp'"),
        ("80/tcp", [("", "x")], 'invalid port specification: "x"'),
        ("80/tcp", [("", "65536")], 'invalid port specification: "65536"'),
        ("80/tcp", [("", "90-80")], "the range ends before it begins"),
        ("80/tcp", [("300.1.1.1", "80")], "invalid IP address: '300.1.1.1'"),
    ],
)
def test_a_port_that_makes_no_sense(
    place: Place, port: str, bindings: list[tuple[str, str]], says: str
) -> None:
    """Refused when the container is made."""
    with pytest.raises(InvalidArgument, match=says):
        place(place.networks.check, place.container("one", ports={port: bindings}).config)


# ---- lists and prune


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"name": ["ac"]}, ["back"]),
        ({"driver": ["null", "host"]}, ["host", "none"]),
        ({"type": ["custom"]}, ["back", "front"]),
        ({"type": ["builtin"], "name": ["o"]}, ["host", "none"]),
        ({"label": ["tier=1"]}, ["back"]),
        ({"label": ["tier"]}, ["back", "front"]),
        ({"label": ["tier", "x"]}, []),
        ({"dangling": ["true"]}, ["front"]),
        ({"dangling": ["0"], "type": ["custom"]}, ["back"]),
        ({"scope": ["swarm"]}, []),
    ],
)
def test_filters(place: Place, filters: dict[str, list[str]], found: list[str]) -> None:
    """Each of Docker's; an unknown one is refused."""
    place.create("back", Labels={"tier": "1"})
    place.create("front", Labels={"tier": "2"})
    place.run("web", "back")
    assert [one["Name"] for one in place(place.networks.list, filters)] == found
    with pytest.raises(InvalidArgument, match="invalid filter 'what'"):
        place(place.networks.list, {"what": ["x"]})
    with pytest.raises(InvalidArgument, match="more than one value for filter key"):
        place(place.networks.list, {"dangling": ["true", "0"]})


def test_prune_removes_what_nobody_uses(place: Place) -> None:
    """A stopped container uses its networks too; predefined ones stay."""
    for name in ("back", "front", "kept"):
        place.create(name, Labels={"keep": ""} if name == "kept" else {})
    web, _ = place.run("web", "back")
    place.stop(web)
    assert place(place.networks.prune, {"label!": ["keep"], "until": ["10m"]}) == {
        "NetworksDeleted": None
    }
    assert place(place.networks.prune, {"label!": ["keep"]}) == {"NetworksDeleted": ["front"]}
    assert place(place.networks.prune, {}) == {"NetworksDeleted": ["kept"]}


def test_the_first_network_that_leads_outside_has_the_ports(place: Place) -> None:
    """A container of an internal network alone has no way out, until it is connected to another."""
    place.create("inside", Internal=True)
    place.create("outside")
    one = place.run("one", "inside", ports={"80/tcp": [("", "18080")]})[0]
    assert one.published == {}
    place(place.networks.connect, "outside", {"Container": "one"})
    assert one.published["80/tcp"][0]["HostPort"] == "18080"
    routes = Path(f"/proc/{one.state.pid}/net/route").read_text().splitlines()
    assert [line.split()[0] for line in routes if line.split()[1] == "00000000"] == ["eth1"]
