"""What a container's start would be made from, when nothing is started.

It is the engine's own plan: the OCI specification that the monitor would get, the files of /etc,
and the container's places in networks. `minicontainer explain --script` is written from it.
"""

from __future__ import annotations

from minicontainer.engine import bundles, endpoints, network_plans, parts
from minicontainer.network import networks
from minicontainer.network.networks import Endpoint
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine

    Json = dict[str, Any]


class NetworkPlan(Record):
    """A container's place in one bridge network, and that network.

    Args:
        network: its name.
        bridge: the bridge's link;  bridge_mac: its hardware address.
        gateway: the bridge's address with the bits of its subnet: 172.29.0.1/16.
        internal, masquerade, mtu: as `network.networks.Network` has them.
        default_route: packets for all other networks go this way.
        endpoint: the container's place.
    """

    network: str
    bridge: str
    bridge_mac: str
    gateway: str
    internal: bool
    masquerade: bool
    mtu: int = 0
    default_route: bool
    endpoint: Endpoint


def plan_of(engine: Engine, container: Container) -> Json:
    """Plan a container's start.

    Raises:
        NotFound: one of its networks, or a container whose namespaces it shares, is gone.
        Conflict: such a container does not run; a port of the host is taken; no address is left.
    """
    places = _networks(engine, container)
    shown = [
        {"IPAddress": place.endpoint.address, "Gateway": place.endpoint.gateway} for place in places
    ]
    linked = endpoints.linked(container.config.host_config, engine.containers.find)
    return {
        "Id": container.id,
        "Directory": container.directory,
        "Spec": engine.spec_of(container).to_json(),
        "Files": bundles.etc_texts(container, linked, shown),
        "Networks": [place.to_json() for place in places],
        "Volumes": container.mounts,
        "Without": parts.steps_of(container.config.host_config.without),
    }


def _networks(engine: Engine, container: Container) -> list[NetworkPlan]:
    known = engine.networks
    wanted = container.endpoints
    bodies = {name: known.find(name) for name in wanted}
    route = endpoints.default_route(wanted, bodies)
    requests = endpoints.port_requests(container.config)
    found: list[NetworkPlan] = []
    for name, settings in wanted.items():
        if bodies[name]["Driver"] != "bridge":
            continue
        network = network_plans.network_of(bodies[name])
        interface = endpoints.free_interface({one.endpoint.interface for one in found})
        place = endpoints.place_of(
            container.config, bodies[name], settings, interface, name == route,
            requests if name == route else (),
        )  # fmt: skip
        endpoint, gateway = networks.planned(network, container.id, known.state_dir, place)
        found.append(
            NetworkPlan(
                network=name,
                bridge=network.bridge,
                bridge_mac=networks.mac_of(str(gateway.ip)),
                gateway=str(gateway),
                internal=network.internal,
                masquerade=network.masquerade,
                mtu=network.mtu,
                default_route=place.default_route,
                endpoint=endpoint,
            )
        )
    return found
