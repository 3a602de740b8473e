"""Networks of an engine on a host of their own, and containers that are nothing but networks."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from minicontainer.engine.networks import Networks
from minicontainer.errors import NotFound
from minicontainer.kernel.namespaces import in_network
from tests.network.conftest import Host, Netns

Json = dict[str, Any]

SUBNET = {"Config": [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.9"}]}


class Table:
    """What is kept, without a database."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, str, Json]] = {}

    def insert(self, identifier: str, name: str, body: Json) -> None:
        """Add a row."""
        self.rows[identifier] = (identifier, name, body)

    def update(self, identifier: str, body: Json) -> None:
        """Replace its body."""
        self.rows[identifier] = (identifier, self.rows[identifier][1], body)

    def delete(self, identifier: str) -> None:
        """Remove it."""
        self.rows.pop(identifier, None)

    def all(self) -> list[tuple[str, str, Json]]:
        """List them."""
        return list(self.rows.values())


class Place:
    """Networks on a host of their own, and the containers that they know."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.table = Table()
        self.containers: list[Any] = []
        self.made: list[Netns] = []
        self.events: list[tuple[str, Json]] = []
        self.networks = self.again()

    def again(self) -> Networks:
        """Open them as an engine does that was started again."""
        return Networks(
            self.host.state_dir,
            self.table,
            publish=lambda kind, action, identifier, attributes: self.events.append(
                (f"{kind} {action}", attributes)
            ),
            members=lambda: self.containers,
            find=self.find,
        )

    def find(self, ref: str) -> Any:
        """Find a container by its name."""
        for one in self.containers:
            if one.name == ref:
                return one
        raise NotFound(f"No such container: {ref}")

    def container(self, name: str, mode: str = "bridge", **more: Any) -> Any:
        """Make a container that does not run."""
        one = SimpleNamespace(
            id=os.urandom(32).hex(), name=name, endpoints={}, published={}, netns=None,
            directory=str(more.get("directory", "/nonexistent")), state=SimpleNamespace(pid=0),
            config=SimpleNamespace(
                mac_address=more.get("mac", ""),
                exposed_ports=more.get("exposed", {}),
                networking_config=SimpleNamespace(endpoints_config=more.get("places", {})),
                host_config=SimpleNamespace(
                    network_mode=mode,
                    links=more.get("links", ()),
                    publish_all_ports=more.get("publish_all", False),
                    port_bindings={
                        port: tuple(
                            SimpleNamespace(host_ip=host_ip, host_port=host_port)
                            for host_ip, host_port in bindings
                        )
                        for port, bindings in more.get("ports", {}).items()
                    },
                ),
            ),
        )  # fmt: skip
        one.endpoints = self.networks.requested(one.config)  # as an engine does
        self.containers.append(one)
        return one

    def start(self, container: Any) -> Netns:
        """Start it, as far as networks are concerned."""
        netns = container.netns = Netns()
        self.made.append(netns)
        with in_network(self.host.fd):
            self.networks.connect_container(container, netns.holder.pid)
        container.state.pid = netns.holder.pid
        return netns

    def run(self, name: str, mode: str = "bridge", **more: Any) -> tuple[Any, Netns]:
        """Make a container and start it."""
        container = self.container(name, mode, **more)
        return container, self.start(container)

    def stop(self, container: Any) -> None:
        """Stop it."""
        with in_network(self.host.fd):
            self.networks.disconnect_container(container)
        container.state.pid = 0
        container.netns.close()

    def __call__(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call a method on the host."""
        with in_network(self.host.fd):
            return call(*args)

    def create(self, name: str, **body: Any) -> str:
        """Create a network; give its ID."""
        return str(self(self.networks.create, {"Name": name, **body})["Id"])
