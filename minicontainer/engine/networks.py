"""The networks that containers are connected to: `bridge`, `host` and `none`.

A container is connected when its network namespace exists and its program does not run yet; it is
disconnected when its monitor has ended.
"""

from __future__ import annotations

import os
import threading

from minicontainer.errors import NotFound
from minicontainer.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.container import Container

    Json = dict[str, Any]

_EMPTY: Json = {
    "IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": "", "DriverOpts": None,
    "GwPriority": 0, "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
    "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
    "DNSNames": None,
}  # fmt: skip


class Networks:
    """The networks of an engine.

    Args:
        state_dir: where leases are kept while containers run.
    """

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._lock = threading.Lock()

    def connect_container(self, container: Container, pid: int) -> None:
        """Connect a container that is about to start.

        Args:
            pid: of its first process, which waits.
        """
        mode = container.config.host_config.network_mode
        if mode != "bridge":
            name = mode if mode in ("none", "host") else ""
            container.endpoints = {name: dict(_EMPTY)} if name else {}
            return
        from minicontainer.network import networks  # pyroute2: 100 ms, for the first one alone

        fd = namespaces.open_namespace(f"/proc/{pid}/ns/net", namespaces.BY_TYPE["network"])
        try:
            with self._lock:
                endpoint = networks.connect(networks.Network(), container.id, fd, self._state_dir)
        finally:
            os.close(fd)
        container.endpoints = {
            "bridge": {
                **_EMPTY,
                "MacAddress": endpoint.mac,
                "Gateway": endpoint.gateway,
                "IPAddress": endpoint.address,
                "IPPrefixLen": endpoint.prefix,
            }
        }

    def disconnect_container(self, container: Container) -> None:
        """Take back what `connect_container` made; nothing happens when there is nothing."""
        if container.config.host_config.network_mode != "bridge":
            return
        from minicontainer.network import networks  # as above

        with self._lock:
            networks.disconnect(networks.Network(), container.id, self._state_dir)
        container.endpoints = {name: dict(_EMPTY) for name in container.endpoints}

    def list(self, filters: dict[str, list[str]]) -> list[Json]:
        """List the networks."""
        return []

    def inspect(self, ref: str, verbose: bool = False) -> Json:
        """Show a network."""
        raise NotFound(f"network {ref} not found")
