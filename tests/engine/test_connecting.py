"""Containers that are connected to networks, and disconnected, after they were created."""

from __future__ import annotations

import os

import pytest

from minicontainer.engine import endpoints
from minicontainer.errors import Forbidden, InvalidArgument, NotFound
from tests.network.conftest import names

from .network_places import SUBNET, Place

_IFNAME = "com.docker.network.endpoint.ifname"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_connect_and_disconnect_a_running_container(place: Place) -> None:
    """It stays connected over a stop; the events tell of both."""
    place.create("back", IPAM=SUBNET)
    web, netns = place.run("web")
    place(
        place.networks.connect, "back", {"Container": "web", "EndpointConfig": {"Aliases": ["x"]}}
    )
    assert "eth1" in names(netns)
    assert web.endpoints["back"]["Aliases"] == ["x"]
    with pytest.raises(Forbidden, match="endpoint with name web already exists in network back"):
        place(place.networks.connect, "back", {"Container": "web"})
    with pytest.raises(Forbidden, match=r'has active endpoints \(name:"web"'):
        place(place.networks.remove, "back")
    place.stop(web)
    netns = place.start(web)
    assert {"eth0", "eth1"} <= names(netns)
    place(place.networks.disconnect, "back", {"Container": "web"})
    assert "eth1" not in names(netns)
    assert list(web.endpoints) == ["bridge"]
    with pytest.raises(Forbidden, match="is not connected to network back"):
        place(place.networks.disconnect, "back", {"Container": "web"})
    with pytest.raises(NotFound, match="No such container: x"):
        place(place.networks.connect, "back", {"Container": "x"})
    place(place.networks.remove, "back")


def test_a_link_has_the_chosen_name(place: Place) -> None:
    """It is an option of the endpoint's driver, kept over a stop; impossible ones fail."""
    place.create("back", IPAM=SUBNET)
    web, netns = place.run("web")
    body = {"Container": "web", "EndpointConfig": {"DriverOpts": {_IFNAME: "lan"}}}
    place(place.networks.connect, "back", body)
    assert names(netns) == {"lo", "eth0", "lan"}
    place.stop(web)
    assert names(place.start(web)) == {"lo", "eth0", "lan"}
    place.create("third")
    for bad in ("a/b", "a b", "..", "x" * 16):
        body = {"Container": "web", "EndpointConfig": {"DriverOpts": {_IFNAME: bad}}}
        with pytest.raises(InvalidArgument, match="invalid interface name"):
            place(place.networks.connect, "third", body)
    assert list(web.endpoints) == ["bridge", "back"]


def test_a_chosen_hardware_address_is_that_of_the_main_network(place: Place) -> None:
    """Two links with one address would confuse both networks; the others choose their own."""
    place.create("back", IPAM=SUBNET)
    web, _ = place.run("web", mac="02:42:00:00:00:77")
    place(place.networks.connect, "back", {"Container": "web"})
    macs = [end["MacAddress"] for end in web.endpoints.values()]
    assert macs[0] == "02:42:00:00:00:77" != macs[1]
    place.stop(web)
    place.start(web)
    assert [end["MacAddress"] for end in web.endpoints.values()] == macs


def test_a_network_that_is_gone_can_be_left(place: Place) -> None:
    """By a container that does not run: it could not start any more."""
    place.create("back", IPAM=SUBNET)
    web, _ = place.run("web")
    place(place.networks.connect, "back", {"Container": "web"})
    place.stop(web)
    place(place.networks.remove, "back")
    with pytest.raises(NotFound, match="network back not found"):
        place.start(web)
    place(place.networks.disconnect, "back", {"Container": "web", "Force": True})
    assert list(web.endpoints) == ["bridge"]
    with pytest.raises(NotFound, match="network back not found"):
        place(place.networks.disconnect, "back", {"Container": "web"})
    place.start(web)


def test_a_link_needs_the_default_network(place: Place) -> None:
    """The address is that of the other container there, though it has another first."""
    place.create("back", IPAM=SUBNET)
    db, _ = place.run("db", "back")
    db.config.hostname = "host1"
    host = place.container("web", links=("db:sql",)).config.host_config
    with pytest.raises(InvalidArgument, match="to /db, as it does not belong to the default netw"):
        endpoints.linked(host, place.find)
    place(place.networks.connect, "bridge", {"Container": "db"})
    address = db.endpoints["bridge"]["IPAddress"]
    assert endpoints.linked(host, place.find) == (f"{address}\tsql host1 db\n",)


def test_an_ipv6_address_is_refused(place: Place) -> None:
    """No network has one to give: a container without it would surprise."""
    place.create("back", IPAM=SUBNET)
    place.create("auto")
    place.run("web")
    asked = {"IPAMConfig": {"IPv6Address": "2001:db8::5"}}
    for network, words in (
        ("back", "no configured subnet or ip-range contain the IP address 2001:db8::5"),
        ("auto", "only when connecting to networks with user configured subnets"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            place(place.networks.connect, network, {"Container": "web", "EndpointConfig": asked})


def test_hosts_network_is_neither_joined_nor_left(place: Place) -> None:
    """Nor is that of another container."""
    place.create("back")
    place.run("one", "host")
    place.run("two", "container:one")
    for network, name in (("back", "one"), ("host", "one"), ("back", "two"), ("none", "two")):
        with pytest.raises(InvalidArgument, match="container sharing network namespace"):
            place(place.networks.connect, network, {"Container": name})
    place.run("three")
    with pytest.raises(InvalidArgument, match="cannot connect container to host network"):
        place(place.networks.connect, "host", {"Container": "three"})
    with pytest.raises(InvalidArgument, match="cannot disconnect container from host network"):
        place(place.networks.disconnect, "host", {"Container": "one"})


def test_a_container_can_leave_all_networks(place: Place) -> None:
    """`none` too, which is none beside another; it stays outside until it is connected again."""
    place.create("back", IPAM=SUBNET)
    one, netns = place.run("one", "none")
    with pytest.raises(InvalidArgument, match=r"networks in private \(none\) mode"):
        place(place.networks.connect, "back", {"Container": "one"})
    place(place.networks.disconnect, "none", {"Container": "one"})
    assert one.endpoints == {}
    place(place.networks.connect, "back", {"Container": "one"})
    assert names(netns) == {"lo", "eth0"}
    with pytest.raises(InvalidArgument, match=r"networks in private \(none\) mode"):
        place(place.networks.connect, "none", {"Container": "one"})
    place(place.networks.disconnect, "back", {"Container": "one"})
    place.stop(one)
    assert names(place.start(one)) == {"lo"}
    assert one.endpoints == {}
    place(place.networks.connect, "none", {"Container": "one"})
    assert list(one.endpoints) == ["none"]
