"""Networks: a bridge on the host, a subnet, and the containers that are connected.

    container's network namespace │ host's network namespace
                                  │
        eth0 172.29.0.2 ──────────┼── mc4f1c0d… ──┐
    default route: 172.29.0.1     │ (veth pair)   minic0 172.29.0.1 ── routing, NAT ── the world
        eth0 172.29.0.3 ──────────┼── mc99be27… ──┘ (bridge)

The bridge, the rules and IP forwarding are set up for the first container, and removed with the
last. If a command was killed half way, the next one that connects or disconnects completes or
removes what it left, under one lock. A lease is valid only as long as its veth link, which the
kernel removes with the container's network namespace.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from zlib import crc32

from minicontainer import steps
from minicontainer.errors import Conflict
from minicontainer.kernel.namespaces import in_network
from minicontainer.network import leases, nat
from minicontainer.network.links import Link, Links
from minicontainer.network.ports import PortRequest, Ports, PublishedPort
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv4Network


class Network(Record):
    """The properties of a network.

    Args:
        name: for messages.
        bridge: the bridge's link; at most 15 bytes.
        subnets: candidates, in order, when the bridge is made: the first one in which the host has
            no address and to which it has no route. An existing bridge keeps the subnet of its
            address.
        gateway: the bridge's address; "" for the first of the subnet.
        ip_range: the part of the subnet that containers get addresses from; "" for all of it.
        reserved: addresses that a container gets only on request.
        internal: no packet leaves or enters the subnet.
        masquerade: packets that leave the subnet get the host's address.
        mtu: of its links, in bytes; 0 for the kernel's own, 1500.
        host_ip: where ports are published that name no address; "" for all addresses.
    """

    name: str = "minicontainer's default bridge"
    bridge: str = "minic0"
    subnets: tuple[str, ...] = ("172.29.0.0/16", "172.28.0.0/16", "10.231.0.0/16")
    gateway: str = ""
    ip_range: str = ""
    reserved: tuple[str, ...] = ()
    internal: bool = False
    masquerade: bool = True
    mtu: int = 0
    host_ip: str = ""


class Place(Record):
    """The requested place of a container in a network.

    Args:
        interface: the name of its link.
        address, mac: "" to choose one.
        default_route: packets for all other networks go this way.
        ports: those to publish.
    """

    interface: str = "eth0"
    address: str = ""
    mac: str = ""
    default_route: bool = True
    ports: tuple[PortRequest, ...] = ()


class Endpoint(Record):
    """A container's place in a network.

    Args:
        interface: its link inside the container.
        address: its IPv4 address;  prefix: the number of bits of the network part.
        gateway: the bridge's address: the next hop to everywhere else.
        mac: the interface's, made from the address. A container that gets the same address again
            has the same MAC, so that no neighbour's ARP cache is wrong.
        host_interface: the veth pair's other end, a port of the bridge.
        published: the container's ports that ports of the host lead to.
    """

    interface: str = "eth0"
    address: str
    prefix: int
    gateway: str
    mac: str
    host_interface: str
    published: tuple[PublishedPort, ...] = ()


def connect(
    network: Network, container_id: str, netns_fd: int, state_dir: str, place: Place | None = None
) -> Endpoint:
    """Connect a container: an address, a veth pair to the bridge, a default route, ports.

    What an earlier container with the same id left is removed first. If a step fails, everything is
    undone.

    Args:
        netns_fd: a descriptor of the container's /proc/PID/ns/net, with its lo up already.
        state_dir: the directory of leases, and of settings to restore at the end; made if missing.
        place: the requested place.
    Raises:
        KernelError: EPERM without CAP_NET_ADMIN, and other answers of netlink.
        Conflict: the bridge's name is taken by another kind of link, or no address is left, or a
            port of the host is taken.
        Unsupported: nft is missing, or the kernel has no bridges, veth links or NAT.
    """
    place = place or Place()
    with leases.locked(state_dir), Links() as host, ExitStack() as undo:
        held = leases.Leases(state_dir, network.bridge)
        ports = Ports(state_dir, network.bridge)
        _forget(network, container_id, host, held, ports)
        if sharer := _sharer(network, container_id, held):
            raise Conflict(
                f"container {container_id} needs the link {host_interface(sharer, network.bridge)},"
                f" which {sharer} has: choose ids that differ in their first 12 characters"
            )
        undo.callback(_remove_bridge_if_unused, network, host, held)
        bridge, gateway = _ensure_bridge(network, host)
        steps.reach("after ensure-bridge")
        undo.callback(_remove_rules_if_unused, network, held, state_dir)
        endpoint = _lease(network, container_id, gateway, held, ports, place, undo)
        _write_rules(network, gateway.network, ports)
        steps.reach("after write-rules")
        if not network.internal:
            nat.enable_forwarding(state_dir)
        undo.callback(_delete_if_there, endpoint.host_interface, host)
        ends = endpoint.host_interface, endpoint.interface
        host.add_veth(*ends, endpoint.mac, netns_fd, network.mtu)
        steps.reach("after add-veth")
        host.attach(_found(endpoint.host_interface, host), bridge)
        if endpoint.published:
            host.set_hairpin(_found(endpoint.host_interface, host))
        with in_network(netns_fd), Links() as inside:
            _configure(endpoint, inside, place.default_route and not network.internal)
        host.wait_until_running(endpoint.host_interface)
        host.wait_until_running(bridge.name)  # it has a carrier when one of its ports has
        undo.pop_all()
    return endpoint


def planned(
    network: Network, container_id: str, state_dir: str, place: Place
) -> tuple[Endpoint, IPv4Interface]:
    """Say what `connect` would give a container now, and the bridge's address; change nothing.

    Raises:
        Conflict: no address or subnet is left, or a port of the host is taken.
    """
    gateway = subnet_of(network, [])
    held, ports = leases.Leases(state_dir, network.bridge), Ports(state_dir, network.bridge)
    with leases.locked(state_dir), ExitStack() as back:
        back.callback(held.release, container_id)
        back.callback(ports.release, container_id)
        # its undo would write rules, and none are made: so it gets a stack that nobody closes
        found = _lease(network, container_id, gateway, held, ports, place, ExitStack())
    return found, gateway


def _lease(
    network: Network, container_id: str, gateway: IPv4Interface, held: leases.Leases,
    ports: Ports, place: Place, undo: ExitStack,
) -> Endpoint:  # fmt: skip
    """Lease an address and ports for a container."""
    from ipaddress import IPv4Network

    address = held.take(
        container_id, gateway, wanted=place.address, reserved=network.reserved,
        within=IPv4Network(network.ip_range) if network.ip_range else None,
    )  # fmt: skip
    undo.callback(held.release, container_id)
    published = ports.take(container_id, address, place.ports, network.host_ip)
    if published:
        undo.callback(_withdraw, network, container_id, gateway.network, ports)
    return Endpoint(
        interface=place.interface,
        address=address,
        prefix=gateway.network.prefixlen,
        gateway=str(gateway.ip),
        mac=place.mac or mac_of(address),
        host_interface=host_interface(container_id, network.bridge),
        published=published,
    )


def disconnect(network: Network, container_id: str, state_dir: str) -> None:
    """Remove a container's link and lease, and with the last one the network's bridge and rules.

    It is no error if there is nothing to remove: the container was never connected, or is
    disconnected, or its network namespace is gone, and with it the links.

    Raises:
        KernelError: EPERM without CAP_NET_ADMIN.
    """
    with leases.locked(state_dir), Links() as host:
        held, ports = leases.Leases(state_dir, network.bridge), Ports(state_dir, network.bridge)
        had_ports = bool(ports.all())
        _forget(network, container_id, host, held, ports)
        steps.reach("after forget-endpoint")
        if had_ports and held.all():
            _, gateway = _ensure_bridge(network, host)
            _write_rules(network, gateway.network, ports)
        _remove_rules_if_unused(network, held, state_dir)
        _remove_bridge_if_unused(network, host, held)


def has_remains(network: Network, connected: set[str], state_dir: str) -> bool:
    """Report whether `sweep` has something to do; this asks no library that is slow to load."""
    held = {*leases.Leases(state_dir, network.bridge).all().values()}
    published = {port.container_id for port in Ports(state_dir, network.bridge).all()}
    if (held | published) - connected:
        return True
    try:
        return not held and bool(socket.if_nametoindex(network.bridge))
    except OSError:  # there is no such link
        return False


def sweep(network: Network, connected: set[str], state_dir: str) -> None:
    """Remove what an engine left that was killed while a container ended.

    Another engine may use a bridge of the same name: one with a link is not touched.

    Args:
        connected: the ids of all containers that are connected: they keep what they have.
    Raises:
        KernelError: EPERM without CAP_NET_ADMIN.
    """
    with leases.locked(state_dir), Links() as host:
        held, ports = leases.Leases(state_dir, network.bridge), Ports(state_dir, network.bridge)
        known = {*held.all().values()} | {port.container_id for port in ports.all()}
        for container_id in known - connected:
            _delete_if_there(host_interface(container_id, network.bridge), host)
            held.release(container_id)
            ports.release(container_id)
        bridge = host.find(network.bridge)
        if held.all():
            _write_rules(network, _ensure_bridge(network, host)[1].network, ports)
        elif bridge and not any(link.master == bridge.index for link in host.all()):
            nat.remove_chains(network.bridge)
            _remove_bridge_if_unused(network, host, held)
            if not leases.anywhere(state_dir):
                nat.restore_forwarding(state_dir)


def host_interface(container_id: str, bridge: str = "minic0") -> str:
    """Return the name of a container's link on the host, in the 15 bytes of a link's name.

    On the default bridge it is `mc` and the short id; on others `m`, four digits for the bridge,
    and ten of the id.
    """
    if bridge == "minic0":
        return f"mc{container_id[:12]}"
    return f"m{crc32(bridge.encode()) & 0xFFFF:04x}{container_id[:10]}"


def subnet_of(network: Network, taken: list[IPv4Network]) -> IPv4Interface:
    """Return the address that the bridge has, or will get with the first container.

    Args:
        taken: subnets that other networks will have.
    Raises:
        Conflict: no subnet is free.
    """
    with Links() as host:
        bridge = host.find(network.bridge)
        addresses = host.addresses()
        for index, own in addresses:
            if bridge and index == bridge.index:
                return own
        return _choose_gateway(network, addresses, host, taken)


def choose_subnet(candidates: tuple[str, ...], used: list[IPv4Network]) -> IPv4Network:
    """Choose the first subnet that shares no address with the subnets that the host uses.

    Otherwise the host would send its packets for another network to the bridge.

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


def used_subnets() -> list[IPv4Network]:
    """List the subnets that the host has addresses in or routes to."""
    with Links() as host:
        return _used(host.addresses(), host)


def _configure(endpoint: Endpoint, inside: Links, default_route: bool) -> None:
    """Configure the container's end, from within its network namespace."""
    from ipaddress import IPv4Interface

    link = _found(endpoint.interface, inside)
    inside.add_address(link, IPv4Interface((endpoint.address, endpoint.prefix)))
    inside.set_up(link)
    if default_route:
        # the link must be up, and the gateway in reach
        inside.add_default_route(link, endpoint.gateway)
    inside.wait_until_running(link.name)


def _ensure_bridge(network: Network, host: Links) -> tuple[Link, IPv4Interface]:
    """Find the bridge, or make it; give it an address, and bring it up."""
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
        gateway = _choose_gateway(network, addresses, host, [])
    if bridge is None:
        host.add_bridge(network.bridge, mac_of(str(gateway.ip)))
        bridge = _found(network.bridge, host)
    if missing_address:
        host.add_address(bridge, gateway)
    if not bridge.up:
        host.set_up(bridge)
    return bridge, gateway


def _choose_gateway(
    network: Network,
    addresses: list[tuple[int, IPv4Interface]],
    host: Links,
    taken: list[IPv4Network],
) -> IPv4Interface:
    from ipaddress import IPv4Interface

    subnet = choose_subnet(network.subnets, _used(addresses, host) + taken)
    return IPv4Interface((network.gateway or next(subnet.hosts()), subnet.prefixlen))


def _used(addresses: list[tuple[int, IPv4Interface]], host: Links) -> list[IPv4Network]:
    used = [address.network for _, address in addresses]
    return used + [destination for _, destination in host.routes()]


def _write_rules(network: Network, subnet: IPv4Network, ports: Ports) -> None:
    """Write the bridge's rules for the ports that are published now."""
    published = [] if network.internal else ports.all()
    if published:
        nat.let_localhost_in(network.bridge)
    nat.write_rules(
        network.bridge, subnet, published=published,
        internal=network.internal, masquerade=network.masquerade,
    )  # fmt: skip


def _withdraw(network: Network, container_id: str, subnet: IPv4Network, ports: Ports) -> None:
    """Undo the publishing of a container's ports."""
    ports.release(container_id)
    _write_rules(network, subnet, ports)


def _forget(
    network: Network, container_id: str, host: Links, held: leases.Leases, ports: Ports
) -> None:
    """Remove what a container has, and the leases of containers that ended without a disconnect."""
    if _sharer(network, container_id, held) is None:
        # Before the lease: no other container may get the address while the link still has it.
        _delete_if_there(host_interface(container_id, network.bridge), host)
    held.release(container_id)
    ports.release(container_id)
    names = {link.name for link in host.all()}
    for holder in held.all().values():
        if host_interface(holder, network.bridge) not in names:
            held.release(holder)
            ports.release(holder)


def _sharer(network: Network, container_id: str, held: leases.Leases) -> str | None:
    """Find another container whose link has the same name, because their ids begin with the same
    digits.
    """
    own = host_interface(container_id, network.bridge)
    for holder in held.all().values():
        if holder != container_id and host_interface(holder, network.bridge) == own:
            return holder
    return None


def _remove_bridge_if_unused(network: Network, host: Links, held: leases.Leases) -> None:
    """Remove the bridge, if no container has a lease and no other program has attached a link to
    it.
    """
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


def mac_of(address: str) -> str:
    """Make a MAC from an IPv4 address: 02 says locally administered, 6d is "m"."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x6D, *map(int, address.split("."))))
