"""Commands about networks."""

from __future__ import annotations

import sys

from minicontainer.cli import filters, units
from minicontainer.cli.client import EngineError, quoted
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import (
    FILTER,
    FORMAT,
    NO_TRUNC,
    Asked,
    Flag,
    command,
    number,
    switch,
    toggle,
)
from minicontainer.cli.output import show_list, tell, write_lines
from minicontainer.cli.run_values import key_and_value
from minicontainer.cli.volumes import LABEL, natural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADERS = {
    "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4",
    "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
}  # fmt: skip


@command("", FILTER, FORMAT, NO_TRUNC, toggle("quiet", "q", "show only network IDs"), most=0)
def network_ls(asked: Asked) -> int:
    """List networks."""
    found = asked.session.client.get("/networks", {"filters": filters.as_json(asked.filter)})
    found.sort(key=lambda network: natural(network["Name"]))
    entries = [_fields(network, asked.no_trunc) for network in found]
    if asked.quiet and asked.format in ("", "table"):
        write_lines(entry["ID"] for entry in entries)
        return 0
    show_list(entries, _HEADERS, ("ID", "Name", "Driver", "Scope"), asked.format, "network")
    return 0


def _fields(network: dict[str, Any], whole: bool) -> dict[str, Any]:
    labels = network.get("Labels") or {}
    created = units.parse_time(network.get("Created", ""))

    def truth(name: str) -> str:
        return "true" if network.get(name) else "false"

    return {
        "ID": network["Id"] if whole else network["Id"][:12],
        "Name": network["Name"],
        "Driver": network["Driver"],
        "Scope": network["Scope"],
        "IPv4": truth("EnableIPv4"),
        "IPv6": truth("EnableIPv6"),
        "Internal": truth("Internal"),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Label": lambda key: labels.get(key, ""),
        "CreatedAt": units.local_time_exact(network.get("Created", ""), created),
    }


def _map(name: str, letter: str, help: str) -> Flag:
    return Flag(name=name, letter=letter, help=f"{help}: KEY=VALUE", read=key_and_value, many=True,
                metavar="map")  # fmt: skip


@command(
    "NETWORK",
    toggle("attachable", "", "let containers be attached by hand (Swarm)"),
    _map("aux-address", "", "addresses that are taken, by name"),
    Flag(name="config-from", help="network to copy the configuration from"),
    toggle("config-only", "", "create a configuration only"),
    Flag(name="driver", letter="d", default="bridge", help="driver of the network"),
    Flag(name="gateway", many=True, metavar="strings", help="address of the bridge in the subnet"),
    toggle("ingress", "", "create the routing mesh's network (Swarm)"),
    toggle("internal", "", "no way to the outside"),
    Flag(name="ip-range", many=True, metavar="strings", help="part of the subnet for containers"),
    Flag(name="ipam-driver", default="default", help="driver that gives addresses"),
    _map("ipam-opt", "", "option of that driver"),
    Flag(
        name="ipv4", read=switch, alone="true", default=None, help="give containers IPv4 addresses"
    ),
    Flag(
        name="ipv6", read=switch, alone="true", default=None, help="give containers IPv6 addresses"
    ),
    LABEL,
    _map("opt", "o", "set an option of the driver"),
    Flag(name="scope", help="reach of the network"),
    Flag(name="subnet", many=True, metavar="strings", help="addresses: 10.1.0.0/24"),
    least=1,
    most=1,
)
def network_create(asked: Asked) -> int:
    """Create a network."""
    ipam = {
        "Driver": asked.ipam_driver, "Options": dict(asked.ipam_opt), "Config": _ipam(asked),
    }  # fmt: skip
    body: dict[str, Any] = {
        "Name": asked.args[0], "Driver": asked.driver, "Options": dict(asked.opt), "IPAM": ipam,
        "Internal": asked.internal, "Ingress": asked.ingress, "Attachable": asked.attachable,
        "ConfigOnly": asked.config_only, "Scope": asked.scope,
        "Labels": dict(asked.label),
    }  # fmt: skip
    if asked.config_from:
        body["ConfigFrom"] = {"Network": asked.config_from}
    if asked.ipv4 is not None:
        body["EnableIPv4"] = asked.ipv4
    if asked.ipv6 is not None:
        body["EnableIPv6"] = asked.ipv6
    made = asked.session.client.post("/networks/create", body=body)
    if made.get("Warning"):
        tell(f"WARNING: {made['Warning']}")
    sys.stdout.write(f"{made['Id']}\n")
    return 0


def _ipam(asked: Asked) -> list[dict[str, Any]]:
    """Put subnets, ranges, gateways and taken addresses together, by which subnet has them."""
    import ipaddress  # here: 5 ms that only this command needs

    def within(address: str, subnet: str) -> bool:
        try:
            inner = ipaddress.ip_network(address, strict=False)
            outer = ipaddress.ip_network(subnet, strict=False)
        except ValueError as error:
            raise Exit(f"invalid address: {error}", prefix=True) from None
        return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # of one version

    configs = [{"Subnet": subnet} for subnet in asked.subnet]
    for field, values in (("IPRange", asked.ip_range), ("Gateway", asked.gateway)):
        for value in values:
            match = next(
                (c for c in configs if within(value, c["Subnet"]) and field not in c), None
            )
            if match is None:
                what = "ip-range" if field == "IPRange" else "gateway"
                raise Exit(f"no matching subnet for {what} {value}")
            match[field] = value
    found: list[dict[str, Any]] = list(configs)
    for name, address in asked.aux_address:
        taken = next((c for c in found if within(address, c["Subnet"])), None)
        if taken is None:
            raise Exit(f"no matching subnet for aux-address {address}")
        taken.setdefault("AuxiliaryAddresses", {})[name] = address
    return found


@command(
    "NETWORK [NETWORK...]",
    toggle("force", "f", "do not complain of a network that does not exist"),
    least=1,
)
def network_rm(asked: Asked) -> int:
    """Remove one or more networks."""
    failed = False
    for name in asked.args:
        try:
            asked.session.client.delete(f"/networks/{quoted(name)}")
        except EngineError as error:
            if asked.force and error.status == 404:
                continue
            tell(str(error))
            failed = True
        else:
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()
    if failed:
        raise Exit("exit status 1")
    return 0


@command(
    "NETWORK CONTAINER",
    Flag(name="alias", many=True, metavar="strings", help="one more name in the network"),
    _map("driver-opt", "", "option for the driver"),
    Flag(name="gw-priority", read=number, default=0, metavar="int",
         help="the network with the highest gives the default route"),
    Flag(name="ip", help="IPv4 address of the container"),
    Flag(name="ip6", help="IPv6 address of the container"),
    Flag(name="link", many=True, metavar="list", help="link to another container: NAME:ALIAS"),
    Flag(name="link-local-ip", many=True, metavar="strings", help="link-local address"),
    least=2, most=2,
)  # fmt: skip
def network_connect(asked: Asked) -> int:
    """Connect a container to a network."""
    network, container = asked.args
    ipam = {
        "IPv4Address": asked.ip, "IPv6Address": asked.ip6, "LinkLocalIPs": asked.link_local_ip,
    }  # fmt: skip
    settings: dict[str, Any] = {
        "IPAMConfig": {key: value for key, value in ipam.items() if value},
        "Links": asked.link, "Aliases": asked.alias, "DriverOpts": dict(asked.driver_opt),
    }  # fmt: skip
    if asked.gw_priority:
        settings["GwPriority"] = asked.gw_priority
    body = {"Container": container, "EndpointConfig": settings}
    asked.session.client.post(f"/networks/{quoted(network)}/connect", body=body)
    return 0


@command(
    "NETWORK CONTAINER",
    toggle("force", "f", "disconnect it whatever the driver says"),
    least=2,
    most=2,
)
def network_disconnect(asked: Asked) -> int:
    """Disconnect a container from a network."""
    network, container = asked.args
    body = {"Container": container, "Force": asked.force}
    asked.session.client.post(f"/networks/{quoted(network)}/disconnect", body=body)
    return 0
