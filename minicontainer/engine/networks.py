"""Networks as Docker knows them: bridge, host, none, and those that users make.

A bridge network's link and rules are there while a container is connected (`network/networks.py`);
its subnet is its own from its creation on. A container is connected when its network namespace
exists and its program does not run yet, and disconnected when its monitor has ended.

See: Docker Engine API, "Network".
"""

from __future__ import annotations

import contextlib
import os
import threading
from ipaddress import IPv4Network

from minicontainer.engine import endpoints, network_plans, peer_names
from minicontainer.engine.filters import check_known
from minicontainer.errors import Conflict, Error, Forbidden, InvalidArgument, KernelError, NotFound
from minicontainer.kernel import namespaces
from minicontainer.network import networks, ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from minicontainer.engine.config import ContainerConfig
    from minicontainer.network.networks import Endpoint, Place
    from minicontainer.network.ports import PortRequest

    Json = dict[str, Any]
    Filters = dict[str, list[str]]
    Objects = list[Json]

    class Member(Protocol):
        """A container, as networks see it."""

        id: str
        name: str
        directory: str
        config: ContainerConfig
        endpoints: Json
        published: Json
        state: Any

    class Table(Protocol):
        """Where networks are kept."""

        def insert(self, identifier: str, name: str, body: Json) -> None:
            """Add a network."""

        def delete(self, identifier: str) -> None:
            """Remove a network."""

        def all(self) -> list[tuple[str, str, Json]]:
            """List all: ID, name, body."""


_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")


class Networks:
    """The networks of an engine.

    Args:
        state_dir: where leases are kept while containers run.
        table: where networks are kept; none: only the predefined ones are there.
        publish: tells an event: kind, action, ID, attributes.
        members: lists the containers.
        find: finds a container by ID or name.
        save: writes a container's endpoints into the database.
    """

    def __init__(
        self,
        state_dir: str,
        table: Table | None = None,
        publish: Callable[[str, str, str, dict[str, str]], None] = lambda *_: None,
        members: Callable[[], Iterable[Member]] = lambda: (),
        find: Callable[[str], Member] | None = None,
        save: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self.state_dir = state_dir
        self._table = table
        self._publish = publish
        self._members = members
        self._find = find
        self._save = save
        self._lock = threading.RLock()
        self._held: dict[tuple[str, str], list[socket.socket]] = {}
        kept = [] if table is None else table.all()
        self._bodies: dict[str, Json] = {identifier: body for identifier, _, body in kept}
        for name in network_plans.PREDEFINED:
            if not self._is_named(name):
                self._keep(network_plans.predefined(name, os.urandom(32).hex()))

    # ---- containers

    def check(self, config: ContainerConfig) -> None:
        """Check what a new container asks for.

        Raises:
            InvalidArgument: a port, an address, or a combination makes no sense.
        """
        endpoints.check(config)
        wanted = endpoints.requested_networks(config)
        for name, settings in wanted.items():
            try:
                body = self.find(name)
            except NotFound:
                continue  # as with Docker, the start says so
            if body["Driver"] == "null" and len(wanted) > 1:
                raise InvalidArgument(endpoints.PRIVATE)
            if body["Driver"] == "host" and len(wanted) > 1:
                raise InvalidArgument(endpoints.HOSTS)
            network_plans.check_addresses(settings, body)

    def requested(self, config: ContainerConfig) -> Json:
        """Give the endpoints of a new container, by the name of each network."""
        found = {}
        for ref, settings in endpoints.requested_networks(config).items():
            name = ref
            with contextlib.suppress(NotFound):  # it may be made before the start
                name = self.find(ref)["Name"]
            found[name] = settings
        return found

    def joins(self, container: Member) -> bool:
        """Report whether its first process must be there before it can be connected."""
        drivers = (self._found_at_start(name)["Driver"] for name in container.endpoints)
        return "bridge" in drivers

    def connect_container(self, container: Member, pid: int) -> None:
        """Connect a container that is about to start; set its endpoints and published ports.

        Args:
            pid: of its first process, which waits; unused if it joins none: `joins`.
        Raises:
            Error: in Docker's words; nothing stays connected.
        """
        wanted = dict(container.endpoints)
        requests = endpoints.port_requests(container.config)
        with contextlib.ExitStack() as undo:
            undo.callback(self.disconnect_container, container)
            container.endpoints = wanted
            bodies = {name: self._found_at_start(name) for name in wanted}
            route = endpoints.default_route(wanted, bodies)
            for name, settings in wanted.items():
                if bodies[name]["Driver"] != "bridge":
                    shown = endpoints.disconnected(settings) | {"NetworkID": bodies[name]["Id"]}
                    container.endpoints[name] = shown
                    continue
                published = requests if name == route else ()
                self._join(container, bodies[name], settings, pid, published, name == route)
            undo.pop_all()

    def disconnect_container(self, container: Member) -> None:
        """Delete the container's link; with a network's last container, its bridge and rules.

        Often the kernel was faster: it deletes a veth pair with the network namespace of one end.
        """
        for name, settings in dict(container.endpoints).items():
            with contextlib.suppress(NotFound):  # its row is gone, and its bridge with it
                self._leave(container, self.find(name), settings)
            container.endpoints[name] = endpoints.disconnected(settings)
        container.published = {}
        with contextlib.suppress(KernelError):  # a full disk: the next one to come or go does it
            self.tell_names(container)

    def tell_names(self, container: Member, write_own: Callable[[], None] | None = None) -> None:
        """Let the containers of each of its networks find one another by name.

        Args:
            write_own: writes the container's own lines first, while nobody else changes its file.
        """
        with self._lock:
            if write_own:
                write_own()
            for name in set(container.endpoints) - set(network_plans.PREDEFINED):
                peer_names.write(name, self._members())

    def _is_named(self, name: object) -> bool:
        return any(body["Name"] == name for body in self._bodies.values())

    def _found_at_start(self, ref: str) -> Json:
        try:
            return self.find(ref)
        except NotFound as error:
            raise NotFound(f"failed to set up container networking: {error}") from None

    def adopt(self, container: Member) -> None:
        """Keep and show the ports of a container that runs already, when the engine starts."""
        with self._lock:
            for name in container.endpoints:
                body = self.find(name)
                if body["Driver"] != "bridge":
                    continue
                bridge = network_plans.network_of(body).bridge
                mine = ports.Ports(self.state_dir, bridge).of(container.id)
                self._held.setdefault((container.id, body["Id"]), []).extend(ports.hold(mine))
                requests = endpoints.port_requests(container.config)
                container.published |= endpoints.published_map(mine, requests)

    def sweep(self, running: set[str]) -> None:
        """Remove what containers left that ended, or were being connected, with the last engine."""
        for body in self._bodies.values():
            here = {one.id for one in self._members() if body["Name"] in one.endpoints}
            network_plans.sweep(body, here & running, self.state_dir)
        for one in self._members():  # these ended while there was no engine
            if one.id not in running and endpoints.has_place(one.endpoints):
                one.endpoints = endpoints.all_disconnected(one.endpoints)
                self._save(one)
        for one in self._members():
            self.tell_names(one)

    def _join(
        self, container: Member, body: Json, settings: Json, pid: int,
        requests: tuple[PortRequest, ...], route: bool,
    ) -> None:  # fmt: skip
        fd = namespaces.open_namespace(f"/proc/{pid}/ns/net", namespaces.BY_TYPE["network"])
        try:
            with self._lock:
                interface = endpoints.free_interface(endpoints.interfaces_of(pid))
                place = endpoints.place_of(
                    container.config, body, settings, interface, route, requests
                )
                network = network_plans.network_of(body)
                endpoint = self._connected(network, container, fd, place)
                held = self._held.setdefault((container.id, body["Id"]), [])
                held.extend(ports.hold(endpoint.published))
        finally:
            os.close(fd)
        names = None
        if body["Name"] != "bridge":
            names = endpoints.dns_names(container.name, settings, container.id)
        shown = endpoints.connected(settings, body["Id"], endpoint, names)
        container.endpoints[body["Name"]] = shown
        container.published = dict(container.published) | endpoints.published_map(
            endpoint.published, requests
        )
        self._tell("connect", body, container=container.id)

    def _connected(self, network: Any, container: Member, fd: int, place: Place) -> Endpoint:
        try:
            return networks.connect(network, container.id, fd, self.state_dir, place)
        except (Conflict, KernelError) as error:
            text = str(error)
            if place.ports and ("Bind for" in text or "host port" in text):
                text = (
                    "driver failed programming external connectivity on endpoint "
                    f"{container.name} ({os.urandom(32).hex()}): {text}"
                )
            raise Error(f"failed to set up container networking: {text}") from None

    def _leave(self, container: Member, body: Json, settings: Json) -> None:
        if body["Driver"] != "bridge":
            return
        with self._lock:
            networks.disconnect(network_plans.network_of(body), container.id, self.state_dir)
            for held in self._held.pop((container.id, body["Id"]), ()):
                held.close()
        if settings.get("EndpointID"):
            self._tell("disconnect", body, container=container.id)

    # ---- Docker's API

    def find(self, ref: str) -> Json:
        """Find a network by its name, its ID, or the unique begin of its ID.

        Raises:
            NotFound, InvalidArgument: there is none; there are several.
        """
        bodies = list(self._bodies.values())
        for exact in ("Id", "Name"):  # a name may be another's ID: that one is meant
            for body in bodies:
                if body[exact] == ref or (ref == "default" and body["Name"] == "bridge"):
                    return body
        found = [body for body in bodies if ref and body["Id"].startswith(ref)]
        if len(found) > 1:
            raise InvalidArgument(
                f"network {ref} is ambiguous (2 matches found based on ID prefix)"
            )
        if not found:
            raise NotFound(f"network {ref} not found")
        return found[0]

    def list(self, filters: Filters) -> Objects:
        """List the networks."""
        check_known(filters, _FILTERS)
        shown = [self._shown(body) for body in list(self._bodies.values())]
        used = {name for one in self._members() for name in one.endpoints}
        return [
            body | {"Containers": {}}
            for body in shown
            if network_plans.matches(body, filters, body["Name"] in used)
        ]

    def inspect(self, ref: str, verbose: bool = False) -> Json:
        """Show a network, with its containers."""
        body = self.find(ref)
        return self._shown(body) | {"Containers": endpoints.members(body["Name"], self._members())}

    def create(self, body: Json) -> Json:
        """Make a network.

        Raises:
            Conflict, Forbidden, InvalidArgument, NotFound, Unsupported: in Docker's words.
        """
        name = body.get("Name")
        identifier = os.urandom(32).hex()
        with self._lock:
            if self._is_named(name) and name not in network_plans.PREDEFINED:
                raise Conflict(f"network with name {name} already exists")
            others = [
                IPv4Network(config["Subnet"])
                for one in self._bodies.values()
                for config in self._shown(one)["IPAM"]["Config"]
            ]
            kept = network_plans.body_of(body, identifier, networks.used_subnets(), others)
            kept["ChosenSubnet"] = network_plans.has_chosen_subnet(body)
            self._keep(kept)
        self._tell("create", kept)
        return {"Id": identifier, "Warning": ""}

    def remove(self, ref: str) -> None:
        """Remove a network that no container is connected to.

        Raises:
            Forbidden: it is predefined, or has endpoints.
        """
        with self._lock:
            body = self.find(ref)
            if body["Name"] in network_plans.PREDEFINED:
                raise Forbidden(f"{body['Name']} is a pre-defined network and cannot be removed")
            if there := endpoints.members(body["Name"], self._members()):
                used = ", ".join(
                    f'name:"{one["Name"]}" id:"{key[:12]}"' for key, one in there.items()
                )
                raise Forbidden(
                    f"error while removing network: network {body['Name']} has active endpoints "
                    f"({used})"
                )
            del self._bodies[body["Id"]]
            if self._table is not None:
                self._table.delete(body["Id"])
        self._tell("destroy", body)

    def connect(self, ref: str, body: Json) -> None:
        """Connect a container, now if it runs, else at its next start.

        Raises:
            Forbidden: it is connected already.
            InvalidArgument: it shares another's network, or has none.
        """
        network, container = self.find(ref), self._container(body.get("Container"))
        asked = body.get("EndpointConfig") or {}
        settings = endpoints.disconnected(asked) | {"MacAddress": asked.get("MacAddress") or ""}
        known = dict(container.endpoints)
        endpoints.check_connectable(container.name, container.config, network, known)
        network_plans.check_addresses(settings, network)
        container.endpoints = {**known, network["Name"]: settings}
        if container.state.pid and network["Driver"] == "bridge":
            try:
                route = endpoints.default_route(known, {name: self.find(name) for name in known})
                first = not route and not network["Internal"]  # it has the route, and the ports
                requests = endpoints.port_requests(container.config) if first else ()
                self._join(container, network, settings, container.state.pid, requests, first)
            except Error:
                container.endpoints = known
                raise
        self._save(container)
        self.tell_names(container)

    def disconnect(self, ref: str, body: Json) -> None:
        """Disconnect a container.

        Raises:
            Forbidden: it is not connected.
            InvalidArgument: it has the host's network.
        """
        container = self._container(body.get("Container"))
        known = dict(container.endpoints)
        if not container.state.pid and ref in known and not self._is_named(ref):
            del container.endpoints[ref]  # the network is gone, and the container could not start
            self._save(container)
            return
        network = self.find(ref)
        endpoints.check_disconnectable(container.id, network, known)
        settings = known.pop(network["Name"])
        self._leave(container, network, settings)
        container.endpoints = known  # none at all, it may be: then the next start joins none
        if not endpoints.has_place(known):
            container.published = {}
        self._save(container)
        with self._lock:
            peer_names.forget(network["Name"], container)
            peer_names.write(network["Name"], self._members())

    def prune(self, filters: Filters) -> Json:
        """Remove the networks of users that no container is connected to."""
        check_known(filters, ("label", "label!", "until"))
        removed = []
        for body in list(self._bodies.values()):
            predefined = body["Name"] in network_plans.PREDEFINED
            if predefined or not network_plans.is_prunable(body, filters):
                continue
            if any(body["Name"] in one.endpoints for one in self._members()):
                continue
            with contextlib.suppress(Forbidden, NotFound):
                self.remove(body["Id"])
                removed.append(body["Name"])
        return {"NetworksDeleted": removed or None}

    # ---- what these share

    def _keep(self, body: Json) -> None:
        if self._table is not None:
            self._table.insert(body["Id"], body["Name"], body)
        self._bodies[body["Id"]] = body

    def _shown(self, body: Json) -> Json:
        shown = {name: value for name, value in body.items() if name != "ChosenSubnet"}
        if body["Name"] == "bridge":
            shown["IPAM"] = body["IPAM"] | {"Config": self._default_subnet()}
        return shown

    def _default_subnet(self) -> Objects:
        others = [
            IPv4Network(config["Subnet"])
            for one in self._bodies.values()
            for config in one["IPAM"]["Config"]
        ]
        try:
            gateway = networks.subnet_of(networks.Network(), others)
        except Error:  # no subnet is free, or we may not ask: there is none to show
            return []
        return [{"Subnet": str(gateway.network), "Gateway": str(gateway.ip)}]

    def _container(self, ref: object) -> Member:
        if self._find is None or not ref:
            raise NotFound(f"No such container: {ref}")
        return self._find(str(ref))

    def _tell(self, action: str, body: Json, **more: str) -> None:
        attributes = {**more, "name": body["Name"], "type": body["Driver"]}
        self._publish("network", action, body["Id"], attributes)
