"""Which name servers a container asks: the host's own, as far as the container can reach them.

See: resolv.conf(5), systemd-resolved.service(8) "/etc/resolv.conf".
"""

from __future__ import annotations

import ipaddress

from minicontainer import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HOST = "/etc/resolv.conf"
# Where the host's file names a stub on its loopback, systemd-resolved keeps what is behind it here.
_BEHIND_STUB = "/run/systemd/resolve/resolv.conf"


def for_network(shared: bool, files: Iterable[str] = (_HOST, _BEHIND_STUB)) -> str:
    """Give the resolv.conf of a container.

    Args:
        shared: it has the host's network, and so its loopback; otherwise 127.0.0.53 is its own
            loopback, on which nobody answers.
        files: the host's; the later ones where the earlier name no server that can be reached.
    """
    texts = [_read(path) for path in files]
    if shared or not _servers(texts[0]):
        return texts[0]
    for text in texts:
        if any(map(_is_reachable, _servers(text))):
            lines = text.splitlines(keepends=True)
            return "".join(line for line in lines if all(map(_is_reachable, _servers(line))))
    steps.warn(
        "the host's name server listens on its loopback only: "
        "names are not found in the container (give it the host's network, or -v a resolv.conf)"
    )
    return texts[0]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _servers(text: str) -> list[str]:
    words = (line.split() for line in text.splitlines())
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def _is_reachable(server: str) -> bool:
    try:
        return not ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True  # the C library judges
