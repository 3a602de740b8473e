"""Links, addresses and routes: rtnetlink, through pyroute2.

Each method that changes something sends one netlink message, and notes it with the iproute2 command
that sends the same one. The first `Links` of a process costs 100 ms (`kernel/netlink.py`).

See: rtnetlink(7), netlink(7), veth(4), ip-link(8), ip-address(8), ip-route(8).
"""

from __future__ import annotations

import errno
import os
import time

from minicontainer.errors import Error, KernelError, Unsupported
from minicontainer.kernel import netlink
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Interface, IPv4Network
    from typing import Any

_IFF_UP = 0x1
_IFF_RUNNING = 0x40


class Link(Record):
    """A network interface, as RTM_GETLINK reports it.

    Args:
        index: its number in this network namespace.
        kind: of software links: bridge, veth, dummy; "" for hardware and lo.
        master: the index of its bridge; 0 for none.
        up: switched on.
        running: switched on and with a carrier, so that packets pass.
    """

    index: int
    name: str
    kind: str = ""
    master: int = 0
    up: bool = False
    running: bool = False


class Links:
    """The links of this thread's network namespace, by one netlink socket.

    A context manager, only for the thread that opened it: in another one, pyroute2 would open
    another socket, in that thread's namespace.
    """

    def __init__(self) -> None:
        self._socket = netlink.open_socket()

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def all(self) -> list[Link]:
        """List every link."""
        return [_link(message) for message in self._socket.get_links()]

    def find(self, name: str) -> Link | None:
        """Find a link by its name."""
        try:
            with netlink.named(f"RTM_GETLINK({name})"):
                return next(map(_link, self._socket.link("get", ifname=name)), None)
        except KernelError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def wait_until_running(self, name: str, deadline_s: float = 1.0) -> None:
        """Wait until packets pass a link that was switched on; this takes a millisecond or two.

        The kernel notices a veth link's carrier in the background, and drops packets that come
        earlier. Without the wait, every third container loses its first packet, and its first
        connection takes a second, until TCP or ARP tries again. Since Linux 6.8 the query itself
        makes the kernel update it.

        A link without carrier at the deadline comes up later: it is configured all the same.
        """
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            link = self.find(name)
            if link is None or link.running:
                return
            time.sleep(0.001)

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """List every IPv4 address with its prefix, and the index of its link."""
        from socket import AF_INET

        return [
            (message["index"], _interface(message.get_attr("IFA_LOCAL"), message["prefixlen"]))
            for message in self._socket.get_addr(family=AF_INET)
        ]

    def routes(self) -> list[tuple[int, IPv4Network]]:
        """List the destination of every IPv4 route except the default one, with its link's index.

        The index is 0 for a route through no link, or through several.
        """
        from socket import AF_INET

        return [
            (
                message.get_attr("RTA_OIF") or 0,
                _interface(message.get_attr("RTA_DST"), message["dst_len"]).network,
            )
            for message in self._socket.get_routes(family=AF_INET)
            if message["dst_len"]
        ]

    def add_bridge(self, name: str, mac: str) -> None:
        """Make a bridge, down and without address.

        Args:
            mac: a fixed one; otherwise a bridge takes the lowest of its ports', which changes when
                a container comes or goes.
        Raises:
            KernelError: EPERM, EEXIST.
            Unsupported: the kernel has no bridges.
        """
        self._change(
            "RTM_NEWLINK", ("add", name, "kind=bridge", f"address={mac}"), name,
            f"ip link add {name} address {mac} type bridge",
            lambda: self._socket.link("add", ifname=name, kind="bridge", address=mac),
        )  # fmt: skip

    def add_veth(self, name: str, peer: str, peer_mac: str, netns_fd: int, mtu: int = 0) -> None:
        """Make a veth pair, with its other end in another network namespace from the start.

        An end made here and then moved would clash with the host's own eth0.

        Args:
            name: of the end that stays here.
            peer: the name of the other end.
            netns_fd: a descriptor of the other end's /proc/PID/ns/net.
            mtu: of both ends, in bytes; 0 for the kernel's own. A bridge has the lowest of its
                ports'.
        Raises:
            KernelError: EPERM, EEXIST, EINVAL (the MTU is out of range).
            Unsupported: the kernel has no veth links.
        """
        chosen = {"mtu": mtu} if mtu else {}
        shown = f"mtu {mtu} " if mtu else ""
        far_end = {"ifname": peer, "address": peer_mac, "net_ns_fd": netns_fd, **chosen}
        self._change(
            "RTM_NEWLINK",
            ("add", name, "kind=veth", f"peer={peer}", f"address={peer_mac}", f"netns={netns_fd}",
             *(f"{key}={value}" for key, value in chosen.items())),
            name,
            f"ip link add {name} {shown}type veth "
            f"peer name {peer} address {peer_mac} {shown}netns /proc/{os.getpid()}/fd/{netns_fd}",
            lambda: self._socket.link("add", ifname=name, kind="veth", peer=far_end, **chosen),
        )  # fmt: skip

    def set_up(self, link: Link) -> None:
        """Switch a link on.

        Raises:
            KernelError: EPERM, ENODEV.
        """
        self._change(
            "RTM_NEWLINK", ("set", link.name, "up"), link.name, f"ip link set {link.name} up",
            lambda: self._socket.link("set", index=link.index, state="up"),
        )  # fmt: skip

    def attach(self, link: Link, bridge: Link) -> None:
        """Make a link a port of a bridge, and switch it on.

        Raises:
            KernelError: EPERM, ENODEV, EXFULL (a bridge has 1024 ports at most).
        """
        self._change(
            "RTM_NEWLINK", ("set", link.name, f"master={bridge.name}", "up"), link.name,
            f"ip link set {link.name} master {bridge.name} up",
            lambda: self._socket.link("set", index=link.index, master=bridge.index, state="up"),
        )  # fmt: skip

    def set_hairpin(self, link: Link) -> None:
        """Let the bridge send a packet out of the port that it came in by.

        A container that asks for its own published port needs it where packets on a bridge pass the
        rules (br_netfilter): they are translated there, and turn round.

        Raises:
            KernelError: EPERM, EOPNOTSUPP (the link is no port of a bridge).
        """
        self._change(
            "RTM_NEWLINK", ("set", link.name, "hairpin=on"), link.name,
            f"bridge link set dev {link.name} hairpin on",
            lambda: self._socket.brport("set", index=link.index, mode=1),
        )  # fmt: skip

    def add_address(self, link: Link, address: IPv4Interface) -> None:
        """Give a link an address; the kernel adds the route to its subnet.

        Raises:
            KernelError: EPERM, EEXIST.
        """
        broadcast = str(address.network.broadcast_address)
        self._change(
            "RTM_NEWADDR", (link.name, str(address), f"broadcast={broadcast}"), link.name,
            f"ip address add {address} broadcast {broadcast} dev {link.name}",
            lambda: self._socket.addr(
                "add", index=link.index, address=str(address.ip),
                prefixlen=address.network.prefixlen, broadcast=broadcast,
            ),
        )  # fmt: skip

    def add_default_route(self, link: Link, gateway: str) -> None:
        """Send packets that match no other route to *gateway*, through *link*.

        Raises:
            KernelError: ENETUNREACH if the link is down or has no address in the gateway's subnet.
        """
        self._change(
            "RTM_NEWROUTE", ("default", f"gateway={gateway}", f"oif={link.name}"), link.name,
            f"ip route add default via {gateway} dev {link.name} proto static",
            lambda: self._socket.route("add", dst="default", gateway=gateway, oif=link.index),
        )  # fmt: skip

    def delete(self, link: Link) -> None:
        """Delete a link, which deletes the other end of a veth pair too; a missing one is no error.

        Raises:
            KernelError: EPERM, EOPNOTSUPP (hardware can't be deleted).
        """
        try:
            self._change(
                "RTM_DELLINK", (link.name,), link.name, f"ip link delete {link.name}",
                lambda: self._socket.link("del", index=link.index),
            )  # fmt: skip
        except KernelError as error:
            # The kernel deletes the links of a network namespace some time after its last process
            # has ended: here it was faster.
            if error.errno != errno.ENODEV:
                raise

    def _change(
        self,
        call: str,
        args: tuple[object, ...],
        name: str,
        shell: str,
        request: Callable[[], object],
    ) -> None:
        """Send one request that changes the link *name*, and note it."""
        try:
            netlink.change(call, args, name, shell, request)
        except KernelError as error:
            raise _failure(error, args) from None


def _link(message: Any) -> Link:
    """Convert a link's message; some attributes are in it only if they are set."""
    about = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(about.get_attr("IFLA_INFO_KIND") if about else None) or "",
        master=message.get_attr("IFLA_MASTER") or 0,
        up=bool(message["flags"] & _IFF_UP),
        running=bool(message["flags"] & _IFF_RUNNING),
    )


def _interface(address: str, prefix: int) -> IPv4Interface:
    from ipaddress import IPv4Interface  # loaded with pyroute2

    return IPv4Interface((address, prefix))


def _failure(error: KernelError, args: tuple[object, ...]) -> Error:
    """Return the error for a refused request, with the usual way out if there is one."""
    if error.errno == errno.EOPNOTSUPP and "add" in args:
        return Unsupported(
            f"{error.filename}: this kernel has no such links: load its module (modprobe bridge "
            "veth), or use --net none"
        )
    if error.errno == errno.EPERM:
        reason = ": a bridge needs CAP_NET_ADMIN on the host: run as root, or use --net none"
        return KernelError(error.errno, f"{error.strerror}{reason}", error.filename)
    return error
