"""Ports as -p and --expose write them: 127.0.0.1:8080:80/tcp, 9000-9010:9000-9010/udp.

See: Docker's `docker container run` reference, "--publish"; docs.docker.com, "Published ports".
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument

_HIGHEST = 65535
_PROTOCOLS = ("tcp", "udp", "sctp")


def ports_in(text: str) -> tuple[int, int]:
    """Read a port, or a range of ports: its first and its last."""
    first, dash, last = text.partition("-")
    last = last if dash else first
    numbers = [int(part) if part.isascii() and part.isdecimal() else -1 for part in (first, last)]
    if not all(0 <= number <= _HIGHEST for number in numbers) or numbers[0] > numbers[1]:
        raise InvalidArgument(f"invalid range format for ports: {text}")
    return numbers[0], numbers[1]


def expose(text: str) -> list[str]:
    """Read --expose: give the ports as the API names them."""
    if ":" in text:
        raise InvalidArgument(f"invalid port format for --expose: {text}")
    span, _, protocol = text.partition("/")
    try:
        first, last = ports_in(span)
    except InvalidArgument:
        raise InvalidArgument(f"invalid range format for --expose: {text}") from None
    return [f"{port}/{_protocol(protocol or 'tcp')}" for port in range(first, last + 1)]


def _protocol(text: str) -> str:
    if text.lower() not in _PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {text}")
    return text.lower()


def publish(text: str) -> list[tuple[str, str, str]]:
    """Read one -p: give the container's port, the host's address and the host's port of each."""
    if "=" in text:
        return _long(text)
    rest, _, protocol = text.partition("/")
    host, span = _split(rest)
    where, _, inside = span.rpartition(":")
    if not inside:
        raise InvalidArgument(f"no port specified: {text}<empty>")
    first, last = _ports(inside, "container")
    protocol = _protocol(protocol or "tcp")
    if not where:
        return [(f"{port}/{protocol}", host, "") for port in range(first, last + 1)]
    host_first, host_last = _ports(where, "host")
    if host_last - host_first != last - first:
        # Several host ports for one container port: the engine takes one of them that is free.
        if first != last:
            raise InvalidArgument(
                f"invalid ranges specified for container and host Ports: {inside} and {where}"
            )
        return [(f"{first}/{protocol}", host, where)]
    return [
        (f"{first + step}/{protocol}", host, str(host_first + step))
        for step in range(last - first + 1)
    ]


def _split(text: str) -> tuple[str, str]:
    """Cut the host's address off: [::1]:80:80 gives ::1 and 80:80."""
    import _socket

    parts = text.rsplit(":", 2)
    if len(parts) < 3:
        return "", text
    host = parts[0].removeprefix("[").removesuffix("]")
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, host)
        except OSError:
            continue
        return host, ":".join(parts[1:])
    if not host:
        return "", ":".join(parts[1:])
    raise InvalidArgument(f"invalid IP address: {host}")


def _ports(text: str, whose: str) -> tuple[int, int]:
    try:
        return ports_in(text)
    except InvalidArgument:
        word = "containerPort" if whose == "container" else "hostPort"
        raise InvalidArgument(f"invalid {word}: {text}") from None


def _long(text: str) -> list[tuple[str, str, str]]:
    """Read published=8080,target=80,protocol=tcp."""
    found = {"published": "", "target": "", "protocol": "tcp", "mode": "ingress"}
    for field in text.split(","):
        key, _, value = field.partition("=")
        if key not in found or not value:
            raise InvalidArgument(f"invalid field {field}: use published=PORT,target=PORT")
        found[key] = value
    if not found["target"].isdecimal():
        raise InvalidArgument(f"invalid target port (must be an integer): {found['target']}")
    return [(f"{found['target']}/{_protocol(found['protocol'])}", "", found["published"])]
