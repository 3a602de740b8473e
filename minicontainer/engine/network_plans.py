"""A network that a user asks for: the request checked, and its subnet chosen.

See: Docker Engine API, NetworkCreate, IPAM.
"""

from __future__ import annotations

import time
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, NetmaskValueError

from minicontainer.engine.endpoints import chosen_address
from minicontainer.engine.filters import has_labels, moment_s
from minicontainer.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unsupported
from minicontainer.network import networks
from minicontainer.network.networks import Network, choose_subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

PREDEFINED = ("bridge", "host", "none")
DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}
# Where a subnet comes from when the user names none: those of Docker, without the default bridge's.
_POOLS = (
    *(f"172.{second}.0.0/16" for second in range(18, 32) if second not in (28, 29)),
    *(f"192.168.{third}.0/20" for third in range(0, 256, 16)),
)
_BRIDGE_NAME = "com.docker.network.bridge.name"
_HOST_IP = "com.docker.network.bridge.host_binding_ipv4"
_ICC = "com.docker.network.bridge.enable_icc"
_MTU = "com.docker.network.driver.mtu"
_LEAST_MTU, _MOST_MTU = 68, 65535
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"


def body_of(
    asked: Json, identifier: str, used: list[IPv4Network], others: list[IPv4Network]
) -> Json:
    """Complete a create request: what is kept of the network, and shown by `inspect`.

    Args:
        identifier: the network's ID, whose begin names the bridge.
        used: subnets that the host has addresses in or routes to.
        others: those of the other networks.
    Raises:
        InvalidArgument, Forbidden, NotFound, Unsupported: in Docker's words.
    """
    name = str(asked.get("Name") or "")
    _check_name(name)
    driver = asked.get("Driver") or "bridge"
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver != "bridge":
        raise NotFound(f'plugin "{driver}" not found')
    if asked.get("EnableIPv6"):
        raise Unsupported(f"network {name}: IPv6 is not supported yet: create it without --ipv6")
    if asked.get("ConfigOnly") or (asked.get("ConfigFrom") or {}).get("Network"):
        raise Unsupported(f"network {name}: config-only networks are not supported")
    options = _texts(asked, "Options")
    bridge = options.get(_BRIDGE_NAME) or f"br-{identifier[:12]}"
    if len(bridge) > 15 or "/" in bridge:
        raise InvalidArgument(f"invalid bridge name {bridge!r}: use at most 15 characters, no /")
    _check_options(name, options)
    return {
        "Name": name,
        "Id": identifier,
        "Created": time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime()),
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": _ipam(asked.get("IPAM") or {}, used, others),
        "Internal": bool(asked.get("Internal")),
        "Attachable": bool(asked.get("Attachable")),
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Options": options,
        "Labels": _texts(asked, "Labels"),
    }


def predefined(name: str, identifier: str) -> Json:
    """Give the body of bridge, host or none."""
    return {
        "Name": name,
        "Id": identifier,
        "Created": time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime()),
        "Scope": "local",
        "Driver": DRIVERS[name],
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Options": {_BRIDGE_NAME: Network().bridge} if name == "bridge" else {},
        "Labels": {},
    }


def network_of(body: Json) -> Network:
    """Say what a network with that body is to the part that makes links and rules."""
    if body["Name"] == "bridge":
        return Network()
    config = body["IPAM"]["Config"][0]
    return Network(
        name=body["Name"],
        bridge=body["Options"].get(_BRIDGE_NAME) or f"br-{body['Id'][:12]}",
        subnets=(config["Subnet"],),
        gateway=config["Gateway"],
        ip_range=config.get("IPRange") or "",
        reserved=tuple((config.get("AuxiliaryAddresses") or {}).values()),
        internal=body["Internal"],
        masquerade=body["Options"].get(_MASQUERADE, "true") != "false",
        mtu=_mtu(body["Options"]),
        host_ip=body["Options"].get(_HOST_IP) or "",
    )


def sweep(body: Json, connected: set[str], state_dir: str) -> None:
    """Remove what containers left in a network that are not connected to it.

    Args:
        connected: the IDs of all containers that are.
    Raises:
        KernelError: EPERM without CAP_NET_ADMIN.
    """
    if body["Driver"] == "bridge":
        network = network_of(body)
        if networks.has_remains(network, connected, state_dir):
            networks.sweep(network, connected, state_dir)


def has_chosen_subnet(asked: Json) -> bool:
    """Say whether the user named the subnet: only there can containers have fixed addresses."""
    return bool(((asked.get("IPAM") or {}).get("Config") or [{}])[0].get("Subnet"))


def _check_name(name: str) -> None:
    if not name.strip():
        raise InvalidArgument("invalid name: name is empty")
    if not name.isprintable():  # it ends lines of /etc/hosts: `peer_names`
        raise InvalidArgument(f"invalid network name {name!r}: it must be one line of text")
    if name in PREDEFINED or name == "default":
        raise Forbidden(f"operation is not permitted on predefined {name} network")
    if name.startswith("container:"):
        raise InvalidArgument(f"invalid network name {name!r}")


def _check_options(name: str, options: dict[str, str]) -> None:
    """Refuse what has no effect here, or no meaning: a user may rely on it."""
    _mtu(options)
    if address := options.get(_HOST_IP):
        try:
            IPv4Address(address)
        except ValueError:
            raise InvalidArgument(f"invalid value for {_HOST_IP}: {address!r}") from None
    if options.get(_ICC, "true").lower() in ("false", "f", "0"):
        raise Unsupported(
            f"network {name}: {_ICC}=false is not supported: give each container its own network"
        )


def _mtu(options: dict[str, str]) -> int:
    """Read the MTU that a network's links have; 0 for the kernel's own."""
    text = options.get(_MTU) or "0"
    if not text.isdecimal() or (int(text) and not _LEAST_MTU <= int(text) <= _MOST_MTU):
        raise InvalidArgument(
            f"invalid value for {_MTU}: {text!r}: use {_LEAST_MTU} to {_MOST_MTU}"
        )
    return int(text)


def _texts(asked: Json, field: str) -> dict[str, str]:
    found = asked.get(field) or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InvalidArgument(f"{field}: expected an object of strings")
    return dict(found)


def _ipam(asked: Json, used: list[IPv4Network], others: list[IPv4Network]) -> Json:
    driver = asked.get("Driver") or "default"
    if driver != "default":
        raise NotFound(f"could not find IPAM driver {driver}: use default")
    configs = asked.get("Config") or [{}]
    if len(configs) > 1:
        raise InvalidArgument("bridge driver doesn't support multiple subnets")
    config = dict(configs[0])
    if not config.get("Subnet"):
        if config.get("Gateway") or config.get("IPRange"):
            raise InvalidArgument("failed to parse ipam config: a gateway needs a subnet")
        try:
            subnet = choose_subnet(_POOLS, used + others)
        except Conflict:
            raise InvalidArgument(
                "could not find an available, non-overlapping IPv4 address pool among the defaults "
                "to assign to the network: name one with --subnet"
            ) from None
    else:
        subnet = _network(config["Subnet"], "subnet")
        if any(subnet.overlaps(other) for other in others):
            raise Forbidden(
                "invalid pool request: Pool overlaps with other one on this address space"
            )
    shown: Json = {"Subnet": str(subnet)}
    if config.get("IPRange"):
        ip_range = _network(config["IPRange"], "IP range")
        if not ip_range.subnet_of(subnet):
            raise InvalidArgument(f"no matching subnet for range {ip_range}")
        shown["IPRange"] = str(ip_range)
    gateway = config.get("Gateway") or str(next(subnet.hosts()))
    shown["Gateway"] = _inside(gateway, subnet, "gateway")
    if auxiliary := config.get("AuxiliaryAddresses"):
        shown["AuxiliaryAddresses"] = {
            name: _inside(address, subnet, "aux-address") for name, address in auxiliary.items()
        }
    return {"Driver": "default", "Options": asked.get("Options"), "Config": [shown]}


def _network(text: object, what: str) -> IPv4Network:
    try:
        found = IPv4Network(str(text), strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidArgument(
            f"invalid network config:\ninvalid {what} {text}: use an IPv4 network such as "
            "10.1.0.0/16"
        ) from None
    if found.prefixlen > 30:
        raise InvalidArgument(f"invalid {what} {text}: it has no address for a container")
    return found


def _inside(text: object, subnet: IPv4Network, what: str) -> str:
    try:
        address = IPv4Address(str(text))
    except AddressValueError:
        raise InvalidArgument(f"invalid {what} {text}: use an IPv4 address of {subnet}") from None
    if address not in subnet:
        raise InvalidArgument(f"no matching subnet for {what} {text}")
    return str(address)


def check_addresses(settings: Json, body: Json) -> None:
    """Check the addresses that a user chose for a container in a network."""
    for version in (4, 6):
        check_address(chosen_address(settings, version), body, version)


def check_address(text: str, body: Json, version: int = 4) -> None:
    """Check an address that a user chose for a container; "" is no choice.

    Raises:
        InvalidArgument: the network's subnet does not contain it, or the engine chooses there.
    """
    if not text:
        return
    if not body.get("ChosenSubnet"):
        where = f"invalid config for network {body['Name']}: invalid endpoint settings:\n"
        why = (
            "user specified IP address is supported only when connecting to networks with user "
            "configured subnets"
        )
        if body["Name"] in PREDEFINED:
            first = "user specified IP address is supported on user defined networks only"
            why = f"* {first}\n* {why}"
        raise InvalidArgument(f"{where}{why}")
    try:
        address = (IPv4Address if version == 4 else IPv6Address)(text)
    except AddressValueError:
        raise InvalidArgument(f"invalid IPv{version} address: {text}") from None
    subnet = IPv4Network(body["IPAM"]["Config"][0]["Subnet"])
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        raise InvalidArgument(
            f"invalid config for network {body['Name']}: invalid endpoint settings: "
            f"no configured subnet or ip-range contain the IP address {text}"
        )


def matches(body: Json, filters: dict[str, list[str]], used: bool) -> bool:
    """Say whether a network passes all filters of a list.

    Args:
        used: whether a container is connected to it.
    """
    if len(filters.get("dangling", [])) > 1:
        raise InvalidArgument('got more than one value for filter key "dangling"')
    builtin = body["Name"] in PREDEFINED
    dangling = str(not used and not builtin).lower()
    tests = {
        "driver": lambda value: body["Driver"] == value,
        "id": lambda value: body["Id"].startswith(value),
        "name": lambda value: value in body["Name"],
        "scope": lambda value: value == "local",
        "type": lambda value: value == ("builtin" if builtin else "custom"),
        "dangling": lambda value: {"1": "true", "0": "false"}.get(value, value) == dangling,
    }
    return has_labels(body["Labels"], filters.get("label", [])) and all(
        any(map(tests[name], values)) for name, values in filters.items() if name in tests
    )


def is_prunable(body: Json, filters: dict[str, list[str]]) -> bool:
    """Say whether the filters of prune let a network be removed."""
    labels, made_s = body["Labels"], moment_s(body["Created"])
    return (
        has_labels(labels, filters.get("label", []))
        and not any(has_labels(labels, [label]) for label in filters.get("label!", []))
        and all(made_s < moment_s(until) for until in filters.get("until", []))
    )
