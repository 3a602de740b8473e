"""A container's places in networks, and its ports, in the shapes of Docker's API.

See: Docker Engine API, EndpointSettings, PortMap; "Port publishing and mapping".
"""

from __future__ import annotations

import ipaddress
import os
import re

from minicontainer.errors import Forbidden, InvalidArgument, NotFound, Unsupported
from minicontainer.network.networks import Place
from minicontainer.network.ports import EVERY_ADDRESS, PROTOCOLS, PortRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from minicontainer.engine.config import ContainerConfig, HostConfig
    from minicontainer.engine.networks import Member
    from minicontainer.network.networks import Endpoint
    from minicontainer.network.ports import PublishedPort

    Json = dict[str, Any]

_INTERFACE = "com.docker.network.endpoint.ifname"  # a driver option: the link's name inside
_MAC = re.compile("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_LINK_NAME = re.compile(r"(?!\.{1,2}$)[^\s/:\0]{1,15}")  # dev_valid_name in net/core/dev.c
HOSTS = "container cannot be disconnected from host network or connected to host network"
_NO_LINKS = "can't be used with links. This would result in undefined behavior"
PRIVATE = (
    "container cannot be connected to multiple networks with one of the networks in private (none) "
    "mode"
)
# What the user chooses; it stays while the container is stopped.
_CHOSEN: Json = {
    "IPAMConfig": None, "Links": None, "Aliases": None, "DriverOpts": None, "GwPriority": 0,
}  # fmt: skip
# What a running container has.
_NOTHING: Json = {
    "MacAddress": "", "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
    "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
    "DNSNames": None,
}  # fmt: skip


def disconnected(chosen: Json | None) -> Json:
    """Show the place of a container that does not run.

    Args:
        chosen: what the user asked for: an EndpointSettings, of the client or as shown here.
    """
    kept = {name: (chosen or {}).get(name) or empty for name, empty in _CHOSEN.items()}
    return kept | _NOTHING


def has_place(known: Json) -> bool:
    """Say whether one of a container's endpoints is shown as connected."""
    return any(end.get("EndpointID") for end in known.values())


def all_disconnected(known: Json) -> Json:
    """Show the places of a container that has ended."""
    return {name: disconnected(settings) for name, settings in known.items()}


def default_route(wanted: Json, bodies: dict[str, Json]) -> str:
    """Choose the network by which a container reaches everything else; "" for none."""
    able = [name for name, body in bodies.items() if body["Driver"] == "bridge"]
    able = [name for name in able if not bodies[name]["Internal"]]
    by_priority = sorted(able, key=lambda name: -int(wanted[name].get("GwPriority") or 0))
    return by_priority[0] if by_priority else ""


def connected(chosen: Json, network_id: str, endpoint: Endpoint, names: list[str] | None) -> Json:
    """Show the place of a container that runs.

    Args:
        names: those by which other containers of the network find it; None for no such network.
    """
    return disconnected(chosen) | {
        "MacAddress": endpoint.mac,
        "NetworkID": network_id,
        "EndpointID": os.urandom(32).hex(),
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.address,
        "IPPrefixLen": endpoint.prefix,
        "DNSNames": names,
    }


def dns_names(name: str, settings: Json, container_id: str) -> list[str]:
    """Give the names by which the others of a user's network find a container."""
    return list(dict.fromkeys([name, *(settings.get("Aliases") or ()), container_id[:12]]))


def renamed(known: Json, name: str, container_id: str) -> Json:
    """Show the places of a container that has another name from now on."""
    return {
        network: settings | {"DNSNames": dns_names(name, settings, container_id)}
        if settings.get("DNSNames")
        else settings
        for network, settings in known.items()
    }


def chosen_address(settings: Json | None, version: int = 4) -> str:
    """Give the address that the user chose, of IPv4 or IPv6; "" for none."""
    return str(((settings or {}).get("IPAMConfig") or {}).get(f"IPv{version}Address") or "")


def place_of(
    config: ContainerConfig, network: Json, settings: Json, interface: str, default_route: bool,
    ports: tuple[PortRequest, ...],
) -> Place:  # fmt: skip
    """Say what a container gets in one network, as `networks.connect` takes it.

    Args:
        network: as it is kept.
        settings: its EndpointSettings there.
        interface: the name of its link, if the user chose none.
        default_route, ports: as of `Place`.
    Raises:
        InvalidArgument: no link can have the chosen name.
    """
    chosen = str((settings.get("DriverOpts") or {}).get(_INTERFACE) or "")
    if chosen and not _LINK_NAME.fullmatch(chosen):
        raise InvalidArgument(f"invalid interface name {chosen!r}: 1 to 15 characters, none of / :")
    main = _main_network(config) in (network["Name"], network["Id"], network["Id"][:12])
    return Place(
        interface=chosen or interface,
        address=chosen_address(settings),
        mac=settings.get("MacAddress") or (config.mac_address if main else ""),
        default_route=default_route,
        ports=ports,
    )


def requested_networks(config: ContainerConfig) -> dict[str, Json]:
    """Say which networks a new container is to be connected to, the main one first.

    `default` means the default bridge, also as a key of NetworkingConfig.
    """
    if config.host_config.network_mode.startswith(("container:", "ns:")):
        return {}
    first = _main_network(config)
    asked = config.networking_config.endpoints_config
    settings = {("bridge" if name == "default" else name): one for name, one in asked.items()}
    found = {first: settings.pop(first, None)}
    found |= settings
    return {name: disconnected(one) | {"MacAddress": _mac(one)} for name, one in found.items()}


def _main_network(config: ContainerConfig) -> str:
    mode = config.host_config.network_mode
    return "bridge" if mode in ("", "default", "private") else mode


def _mac(settings: Json | None) -> str:
    return str((settings or {}).get("MacAddress") or "")


def chosen_mac(body: Json) -> str:
    """Give the hardware address chosen for the main network: clients of API 1.44 put it there."""
    mode = str(body["HostConfig"].get("NetworkMode") or "default")
    asked = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    names = ("default", "bridge") if mode in ("default", "bridge") else (mode,)
    return next((_mac(asked[name]) for name in names if name in asked), "")


def check(config: ContainerConfig) -> None:
    """Check ports, hardware addresses, and what a shared network rules out.

    Raises:
        InvalidArgument: with Docker's words.
    """
    _check_shared(config)
    for mac in (config.mac_address, *map(_mac, requested_networks(config).values())):
        if mac and not _MAC.fullmatch(mac):
            raise InvalidArgument(f"{mac} is not a valid mac address")


def _check_shared(config: ContainerConfig) -> None:
    host, asked = config.host_config, port_requests(config)
    if host.network_mode in ("container", "container:"):
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    if host.network_mode == "host" and host.links:
        raise InvalidArgument(f"conflicting options: host type networking {_NO_LINKS}")
    if not host.network_mode.startswith("container:"):
        return
    for given, what in (
        (host.links, f"container type network {_NO_LINKS}"),
        (host.dns, "dns and the network mode"),
        (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (
            asked or host.publish_all_ports,
            "port publishing and the container type network mode",
        ),
        (config.exposed_ports, "port exposing and the container type network mode"),
    ):
        if given:
            raise InvalidArgument(f"conflicting options: {what}")


def link(text: str) -> tuple[str, str]:
    """Read NAME or NAME:ALIAS; inspect's own /NAME:/PARENT/ALIAS is read too, for it comes back."""
    name, _, alias = text.partition(":")
    alias = alias.rpartition("/")[2]
    name = name.removeprefix("/")
    return name, alias or name


def linked(
    host: HostConfig, find: Callable[[str], Member], *, must_run: bool = True
) -> tuple[str, ...]:
    """Give a line of /etc/hosts for each linked container: address, alias, hostname, name.

    In a network of a user's own a link is no more than a further name, which `peer_names` writes:
    the other container need not be there.

    Raises:
        InvalidArgument: there is no such container, or it does not run.
    """
    lines = []
    for text in host.links if host.network_mode == "bridge" else ():
        name, alias = link(text)
        try:
            other = find(name)
        except NotFound as error:
            raise InvalidArgument(f"could not get container for {name}: {error}") from None
        if must_run and not other.state.pid:
            raise InvalidArgument(f"Cannot link to a non running container: /{other.name}")
        if other.config.host_config.network_mode == "host":
            raise InvalidArgument(f"conflicting options: host type networking {_NO_LINKS}")
        if must_run and "bridge" not in other.endpoints:
            raise InvalidArgument(
                f"Cannot link to /{other.name}, as it does not belong to the default network"
            )
        if address := other.endpoints.get("bridge", {}).get("IPAddress"):
            hostname = other.config.hostname or other.id[:12]
            lines.append(f"{address}\t{alias} {hostname} {other.name}\n")
    return tuple(lines)


def port_requests(config: ContainerConfig) -> tuple[PortRequest, ...]:
    """Read PortBindings and PublishAllPorts.

    Raises:
        InvalidArgument: naming the text and what is wrong with it.
    """
    host = config.host_config
    found: list[PortRequest] = []
    for text, bindings in host.port_bindings.items():
        for port, protocol in exposed(text):
            found += [
                _request(port, protocol, binding.host_ip, binding.host_port)
                for binding in bindings or ()
            ]
    if host.publish_all_ports:
        chosen = {(one.port, one.protocol) for one in found}
        for port, protocol in (pair for text in config.exposed_ports for pair in exposed(text)):
            if (port, protocol) not in chosen:
                found.append(PortRequest(port=port, protocol=protocol))
    # Those that name a port of the host first: a free choice must not take it from them.
    return tuple(sorted(found, key=lambda one: one.first == 0))


def exposed(text: str) -> Iterator[tuple[int, str]]:
    """Read a key of ExposedPorts: 80, 80/tcp, 3000-3005/udp."""
    numbers, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}: use {', '.join(PROTOCOLS)}")
    first, last = _range(numbers, f"invalid port specification: {text!r}")
    if first == 0:
        raise InvalidArgument(f"invalid port specification: {text!r}: a port is 1 to 65535")
    for port in range(first, last + 1):
        yield port, protocol


def _request(port: int, protocol: str, host_ip: str, host_port: str) -> PortRequest:
    first, last = _range(host_port or "0", f'invalid port specification: "{host_port}"')
    if host_ip:
        try:
            address = ipaddress.ip_address(host_ip)
        except ValueError:
            raise InvalidArgument(f"invalid IP address: {host_ip!r}") from None
        if address.version == 6:
            raise Unsupported(f"ports are published on IPv4 addresses only, not on {host_ip}")
    return PortRequest(port=port, protocol=protocol, host_ip=host_ip, first=first, last=last)


def _range(text: str, refusal: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = [first, last if dash else first]
    if not all(one.isascii() and one.isdecimal() and int(one) <= 65535 for one in numbers):
        raise InvalidArgument(f"{refusal}: a port is 0 to 65535")
    if int(numbers[0]) > int(numbers[1]):
        raise InvalidArgument(f"{refusal}: the range ends before it begins")
    return int(numbers[0]), int(numbers[1])


def published_map(published: Iterable[PublishedPort], requests: Iterable[PortRequest]) -> Json:
    """Show published ports as `inspect` does: `{"80/tcp": [{"HostIp": …, "HostPort": …}]}`.

    A port of every address is shown twice where the host has IPv6, as by Docker.
    """
    everywhere = {(one.port, one.protocol) for one in requests if not one.host_ip}
    found: dict[str, list[Json]] = {}
    for port in published:
        places = found.setdefault(f"{port.port}/{port.protocol}", [])
        places.append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
        every = port.host_ip == EVERY_ADDRESS and (port.port, port.protocol) in everywhere
        if every and os.path.exists("/proc/net/if_inet6"):
            places.append({"HostIp": "::", "HostPort": str(port.host_port)})
    return found


def check_connectable(name: str, config: ContainerConfig, network: Json, known: Json) -> None:
    """Check that a container can be connected to one more network.

    Args:
        name: the container's;  known: the networks that it is connected to.
    Raises:
        Forbidden, InvalidArgument: in Docker's words.
    """
    mode = config.host_config.network_mode
    if mode == "host" or mode.startswith("container:"):
        raise InvalidArgument(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network"
        )
    if network["Driver"] == "host":
        raise InvalidArgument(
            "cannot connect container to host network - container must be created in host network "
            "mode"
        )
    if network["Name"] in known:
        raise Forbidden(f"endpoint with name {name} already exists in network {network['Name']}")
    if "none" in known or (network["Driver"] == "null" and known):
        raise InvalidArgument(PRIVATE)


def check_disconnectable(container_id: str, network: Json, known: Json) -> None:
    """Check that a container can leave a network.

    Args:
        known: the networks that it is connected to.
    Raises:
        Forbidden, InvalidArgument: in Docker's words.
    """
    if network["Driver"] == "host":
        raise InvalidArgument(
            "cannot disconnect container from host network - container was created in host "
            "network mode"
        )
    if network["Name"] not in known:
        raise Forbidden(f"container {container_id} is not connected to network {network['Name']}")


def interfaces_of(pid: int) -> set[str]:
    """List the links in the network namespace of a process."""
    with open(f"/proc/{pid}/net/dev", encoding="utf-8") as file:
        return {line.partition(":")[0].strip() for line in file}


def free_interface(there: set[str]) -> str:
    """Name the first ethN that is not there."""
    return next(name for name in map("eth{}".format, range(1 << 16)) if name not in there)


def members(network: str, containers: Iterable[Any]) -> Json:
    """Show the containers that are connected to a network now, by ID."""
    found = {}
    for container in containers:
        settings = container.endpoints.get(network)
        if settings and settings.get("EndpointID"):
            found[container.id] = {
                "Name": container.name,
                "EndpointID": settings["EndpointID"],
                "MacAddress": settings["MacAddress"],
                "IPv4Address": f"{settings['IPAddress']}/{settings['IPPrefixLen']}",
                "IPv6Address": "",
            }
    return found
