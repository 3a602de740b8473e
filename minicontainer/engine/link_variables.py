"""Variables that tell a program of the containers that it is linked to: `--link db`.

    DB_NAME=/web/db                         the container's name, and the link's
    DB_PORT=tcp://172.17.0.2:5432           the first port that the other container exposes
    DB_PORT_5432_TCP=tcp://172.17.0.2:5432  each of them; also with _ADDR, _PORT and _PROTO
    DB_PORT_5432_TCP_START=…                a row of ports: also with _END, _PORT_START, _PORT_END
    DB_ENV_PGDATA=/data                     the variables of the other container

So it is on the default bridge. On a network of a user's own a link is a name, and no more.

See: Docker's "Legacy container links", "Environment variables".
"""

from __future__ import annotations

from minicontainer.engine import endpoints
from minicontainer.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.engine.config import ContainerConfig
    from minicontainer.engine.networks import Member

    Port = tuple[int, str]

_NOT_TOLD = ("HOME", "PATH")  # every container has its own


def with_variables(
    config: ContainerConfig, name: str, find: Callable[[str], Member]
) -> ContainerConfig:
    """Put the variables of a container's links before its own, which count more.

    Args:
        name: the container's.
        find: finds a container by ID or name. One that is gone or does not run tells nothing here:
            whether that matters, `endpoints.linked` decides.
    """
    host = config.host_config
    if not host.links or host.network_mode != "bridge":
        return config
    told: list[str] = []
    for ref, alias in map(endpoints.link, host.links):
        try:
            other = find(ref)
        except NotFound:
            continue
        if address := (other.endpoints.get("bridge") or {}).get("IPAddress"):
            told += _variables(f"/{name}/{alias}", address, other.config)
    return config.replace(env=(*told, *config.env))


def _variables(name: str, address: str, other: ContainerConfig) -> Iterator[str]:
    prefix = name.rpartition("/")[2].upper().replace("-", "_")
    exposed = {port for text in other.exposed_ports for port in endpoints.exposed(text)}
    ports = sorted(exposed, key=lambda port: (port[1] != "tcp", port[1], port[0]))
    if ports:
        yield f"{prefix}_PORT={_url(ports[0], address)}"
    for port in ports:
        own = _prefix(prefix, port)
        yield f"{own}={_url(port, address)}"
        yield f"{own}_ADDR={address}"
        yield f"{own}_PORT={port[0]}"
        yield f"{own}_PROTO={port[1]}"
    for first, last in _rows(ports):
        own = _prefix(prefix, first)
        for word, port in (("START", first), ("END", last)):
            yield f"{own}_{word}={_url(port, address)}"
            yield f"{own}_PORT_{word}={port[0]}"
    yield f"{prefix}_NAME={name}"
    for text in other.env:
        variable, equals, value = text.partition("=")
        if equals and variable not in _NOT_TOLD:
            yield f"{prefix}_ENV_{variable}={value}"


def _url(port: Port, address: str) -> str:
    return f"{port[1]}://{address}:{port[0]}"


def _prefix(prefix: str, port: Port) -> str:
    return f"{prefix}_PORT_{port[0]}_{port[1].upper()}"


def _rows(ports: list[Port]) -> Iterator[tuple[Port, Port]]:
    """Yield the first and the last of ports that follow one another, where there are several."""
    for number, protocol in ports:
        if (number - 1, protocol) in ports or (number + 1, protocol) not in ports:
            continue
        last = number
        while (last + 1, protocol) in ports:
            last += 1
        yield (number, protocol), (last, protocol)
