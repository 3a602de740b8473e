"""Leases: the containers that have the addresses of a network's subnet.

A network's directory holds one symbolic link for each address in use: its name is the address, its
text the container's id. The kernel makes a symbolic link completely or not at all, and never over
another. So a crash leaves no lease half written, and no address is leased twice.

    /run/minicontainer/network/leases/minic0/172.29.0.2 -> 4f1c0d…
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress

from minicontainer import steps
from minicontainer.errors import Conflict, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Interface, IPv4Network


@contextmanager
def locked(state_dir: str) -> Iterator[None]:
    """Hold the lock of all networks in *state_dir*, which is made if missing.

    A process that changes leases, bridges or rules holds it, so that the removal for the last
    container does not mix with the setup for the next one. The kernel releases it when its holder
    ends: flock(2).

    Raises:
        KernelError: EACCES, EROFS: the lock can't be made there.
    """
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        lock = os.open(f"{state_dir}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"open({state_dir}/lock)") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        # Closing is not enough: a child forked meanwhile has a copy of the descriptor.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def anywhere(state_dir: str) -> bool:
    """Report whether any network in *state_dir* has a lease."""
    try:
        return bool(os.listdir(f"{state_dir}/leases"))
    except FileNotFoundError:
        return False


class Leases:
    """The leases of one network; only for the holder of the lock."""

    def __init__(self, state_dir: str, network: str) -> None:
        """Open them; nothing is made before the first lease.

        Args:
            network: the name of its bridge.
        """
        self._directory = f"{state_dir}/leases/{network}"

    def all(self) -> dict[str, str]:
        """List the leases: address and container id."""
        try:
            addresses = os.listdir(self._directory)
        except FileNotFoundError:
            return {}
        return {address: os.readlink(f"{self._directory}/{address}") for address in addresses}

    def take(
        self,
        container_id: str,
        gateway: IPv4Interface,
        *,
        wanted: str = "",
        within: IPv4Network | None = None,
        reserved: tuple[str, ...] = (),
    ) -> str:
        """Lease an address of the gateway's subnet: see `free` for the arguments.

        Raises:
            Conflict: all are taken, or the wanted one is.
        """
        address = self.free(gateway, wanted=wanted, within=within, reserved=reserved)
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        os.symlink(container_id, f"{self._directory}/{address}")
        steps.reach("after lease-address")
        return address

    def free(
        self,
        gateway: IPv4Interface,
        *,
        wanted: str = "",
        within: IPv4Network | None = None,
        reserved: tuple[str, ...] = (),
    ) -> str:
        """Find the lowest free address of the gateway's subnet, or check the one that is wanted.

        Args:
            gateway: the bridge's own address, with the subnet's prefix; it is never leased, and
                the first and the last address of the subnet (network and broadcast) are not either.
            within: a part of the subnet to choose from; the whole subnet without it.
            reserved: addresses that are not chosen.
        Raises:
            Conflict: all are taken, or the wanted one is.
        """
        taken = self.all()
        if wanted:
            if wanted in taken or wanted == str(gateway.ip):
                raise Conflict(f"Address already in use: {wanted}")
            return wanted
        for host in (within or gateway.network).hosts():
            address = str(host)
            if host != gateway.ip and address not in taken and address not in reserved:
                return address
        raise Conflict(
            f"no address left in {within or gateway.network}: {len(taken)} containers have one: "
            "stop some"
        )

    def release(self, container_id: str) -> None:
        """Release what a container has leased, if anything."""
        for address, holder in self.all().items():
            if holder == container_id:
                os.unlink(f"{self._directory}/{address}")
        # ENOTEMPTY while others have leases, ENOENT when there never was one.
        with suppress(OSError):
            os.rmdir(self._directory)
