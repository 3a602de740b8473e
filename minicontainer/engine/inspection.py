"""All that is known of a container, as `docker inspect` shows it.

See: Docker Engine API, ContainerInspectResponse.
"""

from __future__ import annotations

import os

from minicontainer.engine import endpoints as ends
from minicontainer.engine.config import ContainerConfig
from minicontainer.engine.container import moment
from minicontainer.engine.system import directory_size
from minicontainer.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine

    Json = dict[str, Any]

# Docker's fields and ours: what else a client sent, as dockerode its `name`, is not kept either.
_CONFIG = frozenset(ContainerConfig.json_names().values()) - {"HostConfig", "NetworkingConfig"}
_ALSO_CONFIG = ("ArgsEscaped", "OnBuild")
_MASKED = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def inspect(engine: Engine, container: Container, size: bool = False) -> Json:
    """Show a container.

    Args:
        size: count the bytes of its writable layer, and of all its files.
    """
    with container.changed:
        state = container.state.as_docker()
        if container.health is not None:
            state["Health"] = dict(container.health)
        body, endpoints = container.body, {**container.endpoints}
        exec_ids = list(container.exec_ids)
    host = dict(body["HostConfig"])
    for name, usual in (("MaskedPaths", _MASKED), ("ReadonlyPaths", _READONLY)):
        if host.get(name) is None:  # Go's clients send null where nothing was chosen
            host[name] = None if host.get("Privileged") else usual
    # "/db:/web/dbhost": whom a link leads to, who has it, and by which name
    host["Links"] = [
        f"/{_name_of(engine, ref)}:/{container.name}/{alias}"
        for ref, alias in map(ends.link, container.config.host_config.links)
    ] or None
    program = container.program()
    etc = engine.etc_directory(container)
    found: Json = {
        "Id": container.id,
        "Created": moment(container.created_ns),
        "Path": program[0] if program else "",
        "Args": list(program[1:]),
        "State": state,
        "Image": container.image_id,
        "ResolvConfPath": f"{etc}/resolv.conf",
        "HostnamePath": f"{etc}/hostname",
        "HostsPath": f"{etc}/hosts",
        "LogPath": container.log_path if os.path.exists(container.log_path) else "",
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": exec_ids or None,
        "HostConfig": host,
        "GraphDriver": _graph_driver(engine, container),
        "Mounts": container.mounts,
        "Config": {
            name: value for name, value in body.items() if name in _CONFIG or name in _ALSO_CONFIG
        },
        "NetworkSettings": network_settings(container, endpoints),
    }
    if size:
        found |= sizes(engine, container)
    return found


def _name_of(engine: Engine, ref: str) -> str:
    """Give the name of a container that a link leads to; *ref* when it is gone."""
    try:
        return engine.containers.find(ref).name
    except NotFound:
        return ref


def _graph_driver(engine: Engine, container: Container) -> Json:
    directory = container.directory
    lowers = engine.lowers_of(container)
    return {
        "Name": "overlay2",
        "Data": {
            "ID": container.id,
            "LowerDir": ":".join(lowers),
            "MergedDir": f"{directory}/rootfs",
            "UpperDir": f"{directory}/upper",
            "WorkDir": f"{directory}/work",
        },
    }


def network_settings(container: Container, endpoints: Json) -> Json:
    """Show a container's networks; the flat fields are those of the default bridge."""
    first = endpoints.get("bridge") or {}
    return {
        "Bridge": "",
        "SandboxID": container.id if container.state.is_running() else "",
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if container.state.pid else "",
        "Ports": ports_map(container),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": first.get("EndpointID", ""),
        "Gateway": first.get("Gateway", ""),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": first.get("IPAddress", ""),
        "IPPrefixLen": first.get("IPPrefixLen", 0),
        "IPv6Gateway": "",
        "MacAddress": first.get("MacAddress", ""),
        "Networks": endpoints,
    }


def ports_map(container: Container) -> Json:
    """Show the ports: published ones with their places on the host, others as null."""
    if not container.state.is_running():
        return {}
    found: Json = dict.fromkeys(container.config.exposed_ports)
    found |= container.published
    return found


def sizes(engine: Engine, container: Container) -> Json:
    """Count the bytes of a container's own layer, and of all its files."""
    own = directory_size(f"{container.directory}/upper")
    below = engine.image_size(container)
    return {"SizeRw": own, "SizeRootFs": own + below}
