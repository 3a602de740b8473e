"""Published ports: ports of the host that lead to ports of containers.

A port of the host is taken like a lease (`leases.py`): by a symbolic link, which the kernel makes
completely or not at all. Its name is the port, its text the container and its address and port:

    /run/minicontainer/network/ports/minic0/tcp-0.0.0.0-8080 -> 4f1c0d… 172.29.0.2 80

`nat.py` makes rules from them. The rules catch a packet before any program of the host gets it, so
a program that listens on the port already would silently get no more packets. So a port in use is
refused, and `hold` keeps it from programs of the host while the container runs.

See: Docker's "Port publishing and mapping"; nft(8) "NAT STATEMENTS".
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from minicontainer.errors import Conflict, KernelError
from minicontainer.record import Record

PROTOCOLS = ("tcp", "udp", "sctp")
EVERY_ADDRESS = "0.0.0.0"
_EPHEMERAL = (32768, 60999)  # as Docker; the kernel's own are in ip_local_port_range
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


class PortRequest(Record):
    """A port of the container to publish.

    Args:
        port: in the container;  protocol: tcp, udp or sctp.
        host_ip: the address of the host on which it is published; "" for all.
        first, last: the ports of the host to choose from; 0, 0 for an ephemeral one.
    """

    port: int
    protocol: str = "tcp"
    host_ip: str = ""
    first: int = 0
    last: int = 0


class PublishedPort(Record):
    """A port of the host that leads to a container.

    Args:
        host_ip: 0.0.0.0 for all addresses.
        address, port: where packets go.
    """

    protocol: str
    host_ip: str
    host_port: int
    container_id: str
    address: str
    port: int

    def overlaps(self, host_ip: str, host_port: int, protocol: str) -> bool:
        """Report whether both would get the same packets."""
        same_address = host_ip == self.host_ip or EVERY_ADDRESS in (host_ip, self.host_ip)
        return same_address and (host_port, protocol) == (self.host_port, self.protocol)


class Ports:
    """The published ports of one network; only for the holder of the lock of all networks.

    Args:
        state_dir: the directory of leases.
        network: the name of the network's bridge.
    """

    def __init__(self, state_dir: str, network: str) -> None:
        self._every_network = f"{state_dir}/ports"
        self._directory = f"{state_dir}/ports/{network}"

    def all(self) -> list[PublishedPort]:
        """List the published ports of this network, in order."""
        return _listed(self._directory)

    def of(self, container_id: str) -> tuple[PublishedPort, ...]:
        """List a container's."""
        return tuple(port for port in self.all() if port.container_id == container_id)

    def take(
        self,
        container_id: str,
        address: str,
        requests: tuple[PortRequest, ...],
        host_ip: str = "",
    ) -> tuple[PublishedPort, ...]:
        """Take ports of the host for a container: all of them, or none.

        Args:
            host_ip: where those are published that name no address; "" for all addresses.
        Raises:
            Conflict: a port is taken, by another container or by a program of the host.
        """
        try:
            return tuple(
                self._take(
                    container_id, address, request, request.host_ip or host_ip or EVERY_ADDRESS
                )
                for request in requests
            )
        except BaseException:  # whatever it was: the request ends here, and nothing is left
            self.release(container_id)
            raise

    def release(self, container_id: str) -> bool:
        """Release a container's ports; report whether there were any."""
        mine = self.of(container_id)
        for port in mine:
            os.unlink(f"{self._directory}/{_name(port)}")
        with suppress(OSError):  # ENOTEMPTY while others have ports
            os.rmdir(self._directory)
            os.rmdir(self._every_network)
        return bool(mine)

    def _take(
        self, container_id: str, address: str, request: PortRequest, host_ip: str
    ) -> PublishedPort:
        first, last = request.first, request.last or request.first
        if not first:
            first, last = _EPHEMERAL
        taken = self._taken()
        refusal = Conflict("no port of the host is free")
        for host_port in range(first, last + 1):
            try:
                if any(port.overlaps(host_ip, host_port, request.protocol) for port in taken):
                    raise Conflict(
                        f"Bind for {host_ip}:{host_port} failed: port is already allocated"
                    )
                bound(host_ip, host_port, request.protocol).close()
            except Conflict as error:
                refusal = error
                continue
            port = PublishedPort(
                protocol=request.protocol, host_ip=host_ip, host_port=host_port,
                container_id=container_id, address=address, port=request.port,
            )  # fmt: skip
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            os.symlink(
                f"{container_id} {address} {request.port}", f"{self._directory}/{_name(port)}"
            )
            return port
        raise refusal

    def _taken(self) -> list[PublishedPort]:
        """List the published ports of all networks: they share the host's ports."""
        try:
            networks = os.listdir(self._every_network)
        except FileNotFoundError:
            return []
        return [port for name in networks for port in _listed(f"{self._every_network}/{name}")]


def bound(host_ip: str, host_port: int, protocol: str) -> socket.socket:
    """Bind a socket to a port of the host: to check that it is free, or to keep it.

    No program listens on the socket: a rule redirects the packets before they get here.

    Raises:
        Conflict: a program of the host has the port.
        KernelError: EADDRNOTAVAIL: the host has no such address.
    """
    kind, number = _KINDS[protocol]
    try:
        found = socket.socket(socket.AF_INET, kind, number)
    except OSError:  # a kernel without SCTP: no program can have the port
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # After a connection of an earlier container, the port stays in TIME_WAIT for a minute.
        if protocol == "tcp":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host_ip, host_port))
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"failed to bind host port {host_ip}:{host_port}/{protocol}: address already in use"
            ) from None
        raise KernelError(
            error.errno, os.strerror(error.errno or 0),
            f"failed to bind host port {host_ip}:{host_port}/{protocol}",
        ) from None  # fmt: skip
    return found


def hold(published: tuple[PublishedPort, ...]) -> list[socket.socket]:
    """Keep published ports from programs of the host, until the sockets are closed.

    A port that can't be kept is ignored: its packets reach the container all the same.
    """
    held = []
    for port in published:
        with suppress(Conflict, KernelError):
            held.append(bound(port.host_ip, port.host_port, port.protocol))
            if port.protocol == "tcp":
                held[-1].listen(0)  # otherwise a program that sets SO_REUSEADDR could still bind
    return held


def _name(port: PublishedPort) -> str:
    return f"{port.protocol}-{port.host_ip}-{port.host_port}"


def _listed(directory: str) -> list[PublishedPort]:
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [_read(name, os.readlink(f"{directory}/{name}")) for name in names]


def _read(name: str, text: str) -> PublishedPort:
    protocol, host_ip, host_port = name.split("-")
    container_id, address, port = text.split(" ")
    return PublishedPort(
        protocol=protocol, host_ip=host_ip, host_port=int(host_port),
        container_id=container_id, address=address, port=int(port),
    )  # fmt: skip
