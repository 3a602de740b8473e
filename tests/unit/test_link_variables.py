"""What a program is told of the containers that it is linked to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from minicontainer.engine.config import ContainerConfig, HostConfig
from minicontainer.engine.link_variables import with_variables
from minicontainer.errors import NotFound


def variables(mode: str = "bridge", address: str = "172.17.0.5", **other: Any) -> list[str]:
    """Give the variables of a container `web` with the links db:my-db and gone."""
    there = SimpleNamespace(
        config=ContainerConfig.from_json(other),
        endpoints={"bridge": {"IPAddress": address}},
    )

    def find(ref: str) -> Any:
        if ref != "db":
            raise NotFound(f"No such container: {ref}")
        return there

    host = HostConfig(links=("db:my-db", "gone"), network_mode=mode)
    config = ContainerConfig(env=("MY_DB_NAME=mine",), host_config=host)
    return list(with_variables(config, "web", find).env)


def test_a_link_tells_ports_name_and_variables() -> None:
    """In Docker's names; the container's own variables come last, and so count more."""
    found = variables(
        ExposedPorts={"53/udp": {}, "6380/tcp": {}, "6379/tcp": {}, "80/tcp": {}},
        Env=["A=b=c", "EMPTY=", "NONE", "PATH=/bin", "HOME=/root"],
    )
    assert found == [
        "MY_DB_PORT=tcp://172.17.0.5:80",
        "MY_DB_PORT_80_TCP=tcp://172.17.0.5:80",
        "MY_DB_PORT_80_TCP_ADDR=172.17.0.5",
        "MY_DB_PORT_80_TCP_PORT=80",
        "MY_DB_PORT_80_TCP_PROTO=tcp",
        "MY_DB_PORT_6379_TCP=tcp://172.17.0.5:6379",
        "MY_DB_PORT_6379_TCP_ADDR=172.17.0.5",
        "MY_DB_PORT_6379_TCP_PORT=6379",
        "MY_DB_PORT_6379_TCP_PROTO=tcp",
        "MY_DB_PORT_6380_TCP=tcp://172.17.0.5:6380",
        "MY_DB_PORT_6380_TCP_ADDR=172.17.0.5",
        "MY_DB_PORT_6380_TCP_PORT=6380",
        "MY_DB_PORT_6380_TCP_PROTO=tcp",
        "MY_DB_PORT_53_UDP=udp://172.17.0.5:53",
        "MY_DB_PORT_53_UDP_ADDR=172.17.0.5",
        "MY_DB_PORT_53_UDP_PORT=53",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        "MY_DB_PORT_6379_TCP_START=tcp://172.17.0.5:6379",
        "MY_DB_PORT_6379_TCP_PORT_START=6379",
        "MY_DB_PORT_6379_TCP_END=tcp://172.17.0.5:6380",
        "MY_DB_PORT_6379_TCP_PORT_END=6380",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_A=b=c",
        "MY_DB_ENV_EMPTY=",
        "MY_DB_NAME=mine",
    ]


def test_a_link_tells_nothing_elsewhere() -> None:
    """On a user's network it is a name; and who does not run has no address."""
    assert variables(mode="back") == variables(address="") == ["MY_DB_NAME=mine"]
