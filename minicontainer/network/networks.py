"""Networks: a bridge on the host, a subnet, and the containers that are connected.

    container's network namespace │ host's network namespace
                                  │
        eth0 172.29.0.2 ──────────┼── mc4f1c0d… ──┐
    default route: 172.29.0.1     │ (veth pair)   minic0 172.29.0.1 ── routing, NAT ── the world
        eth0 172.29.0.3 ──────────┼── mc99be27… ──┘ (bridge)

The bridge, the rules and IP forwarding come with the first container and go with the last. What a
killed predecessor left half made is completed or removed by whoever connects or disconnects next,
under one lock; a lease holds only as long as its veth link, which the kernel removes with the
container's network namespace.
"""

from __future__ import annotations

from contextlib import ExitStack

from minicontainer.errors import Conflict
from minicontainer.kernel.namespaces import in_network
from minicontainer.network import leases, nat
from minicontainer.network.links import Link, Links
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv4Network


class Network(Record):
    """What a network shall be.

    Args:
        name: for messages.
        bridge: the bridge's link; at most 15 bytes.
        subnets: tried in this order when the bridge is made: the first one that the host has no
            address in and no route to. A bridge that is there keeps the subnet of its address.
    """

    name: str = "minicontainer's default bridge"
    bridge: str = "minic0"
    subnets: tuple[str, ...] = ("172.29.0.0/16", "172.28.0.0/16", "10.231.0.0/16")


class Endpoint(Record):
    """A container's place in a network.

    Args:
        interface: its link inside the container.
        address: its IPv4 address, and of how many bits its network part is (`prefix`).
        gateway: the bridge's address: the next hop to everywhere else.
        mac: the interface's; made from the address, so that who has an address again also has
            its MAC, and no neighbour's ARP cache is wrong.
        host_interface: the veth pair's other end, a port of the bridge.
    """

    interface: str = "eth0"
    address: str
    prefix: int
    gateway: str
    mac: str
    host_interface: str


def connect(network: Network, container_id: str, netns_fd: int, state_dir: str) -> Endpoint:
    """Connect a container: an address, a veth pair to the bridge, a default route.

    What is left of an earlier container of the same id is removed first. Either all of it is done
    or, when something fails, nothing.

    Args:
        netns_fd: a descriptor of the container's /proc/PID/ns/net, with its lo up already.
        state_dir: where leases are kept, and what is to be put back at the end; made if missing.
    Raises:
        KernelError: EPERM without CAP_NET_ADMIN, and what netlink answers.
        Conflict: the bridge's name is taken by another kind of link, or no address is left.
        Unsupported: nft is missing, or the kernel has no bridges, veth links or NAT.
    """
    with leases.locked(state_dir), Links() as host, ExitStack() as undo:
        held = leases.Leases(state_dir, network.bridge)
        _forget(container_id, host, held)
        if sharer := _sharer(container_id, held):
            raise Conflict(
                f"container {container_id} needs the link {host_interface(sharer)}, which {sharer} "
                "has: choose ids that differ in their first 12 characters"
            )

        undo.callback(_remove_bridge_if_unused, network, host, held)
        bridge, gateway = _ensure_bridge(network, host)
        undo.callback(_remove_rules_if_unused, network, held, state_dir)
        nat.masquerade(network.bridge, gateway.network)
        nat.enable_forwarding(state_dir)

        address = held.take(container_id, gateway)
        undo.callback(held.release, container_id)
        endpoint = Endpoint(
            address=address,
            prefix=gateway.network.prefixlen,
            gateway=str(gateway.ip),
            mac=_mac(address),
            host_interface=host_interface(container_id),
        )
        undo.callback(_delete_if_there, endpoint.host_interface, host)
        host.add_veth(endpoint.host_interface, endpoint.interface, endpoint.mac, netns_fd)
        host.attach(_found(endpoint.host_interface, host), bridge)
        with in_network(netns_fd), Links() as inside:
            _configure(endpoint, inside)
        host.wait_until_running(endpoint.host_interface)
        host.wait_until_running(bridge.name)  # has a carrier when one of its ports has
        undo.pop_all()
    return endpoint


def disconnect(network: Network, container_id: str, state_dir: str) -> None:
    """Take a container's link and lease away, and with the last one the network's bridge and rules.

    Nothing to take away is fine: the container was never connected, or is disconnected, or its
    network namespace is gone and the kernel has removed the links.

    Raises:
        KernelError: EPERM without CAP_NET_ADMIN.
    """
    with leases.locked(state_dir), Links() as host:
        held = leases.Leases(state_dir, network.bridge)
        _forget(container_id, host, held)
        _remove_rules_if_unused(network, held, state_dir)
        _remove_bridge_if_unused(network, host, held)


def host_interface(container_id: str) -> str:
    """Name a container's link on the host: `mc` and the short id, since 15 bytes are the limit."""
    return f"mc{container_id[:12]}"


def choose_subnet(candidates: tuple[str, ...], used: list[IPv4Network]) -> IPv4Network:
    """Choose the first subnet that shares no address with those that the host uses.

    With one that does, the host would send its packets for the other network to the bridge.

    Raises:
        Conflict: there is none.
    """
    from ipaddress import IPv4Network

    for candidate in map(IPv4Network, candidates):
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise Conflict(
        f"no free subnet: this host has addresses in or routes to {', '.join(candidates)}: "
        "remove a route, or use --net none or --net host"
    )


def _configure(endpoint: Endpoint, inside: Links) -> None:
    """Set up the container's end, from within its network namespace."""
    from ipaddress import IPv4Interface

    link = _found(endpoint.interface, inside)
    inside.add_address(link, IPv4Interface((endpoint.address, endpoint.prefix)))
    inside.set_up(link)
    inside.add_default_route(link, endpoint.gateway)  # needs the link up, and the gateway in reach
    inside.wait_until_running(link.name)


def _ensure_bridge(network: Network, host: Links) -> tuple[Link, IPv4Interface]:
    """Find the bridge, or make it; in either case with an address, and up."""
    from ipaddress import IPv4Interface

    bridge = host.find(network.bridge)
    if bridge is not None and bridge.kind != "bridge":
        raise Conflict(
            f"link {bridge.name} exists and is no bridge ({bridge.kind or 'hardware'}): "
            f"remove or rename it: ip link set {bridge.name} name NEW"
        )
    addresses = host.addresses()
    gateway = next((own for index, own in addresses if bridge and index == bridge.index), None)
    missing_address = gateway is None
    if gateway is None:
        used = [address.network for _, address in addresses]
        used += [destination for _, destination in host.routes()]
        subnet = choose_subnet(network.subnets, used)
        gateway = IPv4Interface((next(subnet.hosts()), subnet.prefixlen))
    if bridge is None:
        host.add_bridge(network.bridge, _mac(str(gateway.ip)))
        bridge = _found(network.bridge, host)
    if missing_address:
        host.add_address(bridge, gateway)
    if not bridge.up:
        host.set_up(bridge)
    return bridge, gateway


def _forget(container_id: str, host: Links, held: leases.Leases) -> None:
    """Remove what a container has, and the leases of those that died without a disconnect."""
    if _sharer(container_id, held) is None:
        # Before the lease: nobody shall get the address while it still has it.
        _delete_if_there(host_interface(container_id), host)
    held.release(container_id)
    names = {link.name for link in host.all()}
    for holder in held.all().values():
        if host_interface(holder) not in names:
            held.release(holder)


def _sharer(container_id: str, held: leases.Leases) -> str | None:
    """Find another container whose link has the same name, because their ids begin alike."""
    for holder in held.all().values():
        if holder != container_id and host_interface(holder) == host_interface(container_id):
            return holder
    return None


def _remove_bridge_if_unused(network: Network, host: Links, held: leases.Leases) -> None:
    """Remove the bridge, if no container has a lease and nobody else has attached a link to it."""
    if held.all():
        return
    links = host.all()
    for bridge in links:
        is_ours = bridge.name == network.bridge and bridge.kind == "bridge"
        if is_ours and not any(link.master == bridge.index for link in links):
            host.delete(bridge)


def _remove_rules_if_unused(network: Network, held: leases.Leases, state_dir: str) -> None:
    """Remove the bridge's rules, if no container has a lease; with the last network, the table."""
    if held.all():
        return
    if leases.anywhere(state_dir):
        nat.remove_chains(network.bridge)
    else:
        nat.remove_table()
        nat.restore_forwarding(state_dir)


def _delete_if_there(name: str, host: Links) -> None:
    link = host.find(name)
    if link is not None:
        host.delete(link)


def _found(name: str, links: Links) -> Link:
    """Find a link that was just made."""
    link = links.find(name)
    if link is None:
        raise Conflict(f"link {name} is gone: something else removes links here, stop it")
    return link


def _mac(address: str) -> str:
    """Make a MAC from an IPv4 address: 02 says locally administered, 6d is "m"."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x6D, *map(int, address.split("."))))
