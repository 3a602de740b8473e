"""Ask a registry whether it knows a name and a password, before they are kept.

See: Docker Engine API, "Check auth configuration".
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument, Unauthorized
from minicontainer.images.credentials import HUB
from minicontainer.images.references import DEFAULT_DOMAIN, shown
from minicontainer.images.registry import Registry, Settings
from minicontainer.images.registry_errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.credentials import Credentials

_HUB_HOSTS = (DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io")


def domain_of(address: str) -> str:
    """Give the registry that a user logs in to, as references name it.

    Args:
        address: `quay.io`, `https://index.docker.io/v1/`; "" is Docker Hub.
    Raises:
        InvalidArgument: it names no host.
    """
    address = address or HUB
    _, scheme, rest = address.partition("://")
    host = (rest if scheme else address).partition("/")[0]
    if not host or any(char.isspace() or char in "@?#" for char in host):
        raise InvalidArgument(f"invalid registry address {shown(address)!a}: use HOST[:PORT]")
    return DEFAULT_DOMAIN if host in _HUB_HOSTS else host


def check(
    address: str,
    credentials: Credentials | None,
    settings: Settings = Settings(),  # noqa: B008  # a Record is frozen
) -> None:
    """Ask a registry whether it accepts the credentials.

    Args:
        address: the registry, as `domain_of` reads it.
        credentials: who asks.
        settings: of registries.
    Raises:
        Unauthorized: it does not accept them. Error: it can't be reached.
    """
    with Registry(domain_of(address), credentials, settings) as registry:
        try:
            registry.call("GET", "/v2/", (200, 404))
        except Refused as error:
            if error.status in (401, 403):
                raise Unauthorized(f'Get "{registry.base()}/v2/": {error}') from error
            raise
