"""Names by which the containers of a user's network find one another: lines of their /etc/hosts.

Docker has a DNS server in each network namespace for that. Here the engine writes a line for each
container of a network that runs, and takes it away when that one ends or leaves:

    172.18.0.3	web 3ddc66d6b82c web.shop_back	# network shop_back

The engine changes the lines with this comment at their end, and no others: a program may add its
own. The default bridge has no names, as Docker's.

See: hosts(5); Docker's "Bridge network driver", on differences from the default bridge.
"""

from __future__ import annotations

import os

from minicontainer.contexts import suppress
from minicontainer.engine import endpoints
from minicontainer.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.engine.networks import Member

_MARK = "\t# network "
_NO_HOST_NAME = frozenset(" #")  # a network's name may have any characters of one line


def write(network: str, members: Iterable[Member]) -> None:
    """Write the names of all that are connected to a network for each of them.

    Raises:
        KernelError: a file can't be written.
    """
    there = [one for one in members if _names(one, network)]
    common = "".join(_line(one, network, []) for one in there)
    for member in there:
        links = _links(member, network)
        own = "".join(_line(one, network, links) for one in there) if links else common
        _replace(member, network, own)


def forget(network: str, member: Member) -> None:
    """Take away a network's names from a container that has left it."""
    _replace(member, network, "")


def _names(member: Member, network: str) -> list[str]:
    settings = member.endpoints.get(network) or {}
    return list(settings.get("DNSNames") or ())


def _links(member: Member, network: str) -> list[tuple[str, str]]:
    """List the names that a container alone has for others: `--link db:database`."""
    settings = member.endpoints.get(network) or {}
    main = next(iter(member.endpoints), "") == network  # those of `run` are for that one
    texts = (
        *(member.config.host_config.links if main else ()),
        *(settings.get("Links") or ()),
    )
    return list(map(endpoints.link, texts))


def _line(member: Member, network: str, links: list[tuple[str, str]]) -> str:
    address, names = member.endpoints[network]["IPAddress"], _names(member, network)
    if not _NO_HOST_NAME & set(network):
        names += [f"{name}.{network}" for name in names[:-1]]  # the last one is the short ID
    names += [alias for ref, alias in links if ref == member.name or member.id.startswith(ref)]
    return f"{address}\t{' '.join(dict.fromkeys(names))}{_MARK}{network}\n"


def _replace(member: Member, network: str, lines: str) -> None:
    """Put lines in the place of those that the network has in a container's file.

    The file is mounted in the container: it is written in place.
    """
    path = f"{member.directory}/hosts"
    try:
        with suppress(FileNotFoundError):  # the container is being removed
            _replace_in(path, f"{_MARK}{network}\n", lines)
    except OSError as error:
        raise KernelError(error.errno, error.strerror, f"write {path}") from None


def _replace_in(path: str, ending: str, lines: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "r+", encoding="utf-8", errors="surrogateescape", newline="") as file:
        old = file.read()
        kept = [line for line in old.splitlines(keepends=True) if not line.endswith(ending)]
        new = "".join(kept) + lines
        if new != old:
            file.seek(0)
            file.write(new)
            file.truncate()
