"""Who is asked for what is under a name: the mirrors of docker.io one by one, then the registry.

See: dockerd(8), "--registry-mirror".
"""

from __future__ import annotations

import logging

from minicontainer.errors import Error
from minicontainer.images.references import DEFAULT_DOMAIN
from minicontainer.images.registry import Registry
from minicontainer.images.registry_errors import Refused, for_pull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from minicontainer.images.credentials import Credentials
    from minicontainer.images.references import Reference
    from minicontainer.images.registry import Settings

    T = TypeVar("T")

_log = logging.getLogger(__name__)


def ask(
    name: Reference,
    credentials: Credentials | None,
    settings: Settings,
    question: Callable[[Registry], T],
) -> T:
    """Ask until one of them has an answer.

    Args:
        credentials: for the registry itself; a mirror is asked without a name.
        question: what is asked; it raises Error when this one has no answer.
    Raises:
        NotFound: the registry has nothing under that name, in Docker's words. Unauthorized: log in.
        Error: what the question raises of the registry itself.
    """
    for mirror in settings.mirrors if name.domain == DEFAULT_DOMAIN else ():
        scheme, _, host = mirror.rstrip("/").rpartition("://")
        trusted = (host,) if scheme == "http" else ()
        changed = settings.replace(insecure=(*settings.insecure, *trusted))
        try:
            with Registry(host, None, changed) as registry:
                return question(registry)
        except Error as error:  # the next one, and last the registry itself, may have it
            _log.info("mirror %s: %s", mirror, error)
    with Registry(name.domain, credentials, settings) as registry:
        try:
            return question(registry)
        except Refused as error:
            raise for_pull(error, name) from error
