"""Containers by the names of links to them: `web/db` is what the container `web` calls `db`.

See: Docker's "Legacy container links"; `docker rm --link`.
"""

from __future__ import annotations

from minicontainer.engine import endpoints
from minicontainer.errors import Conflict, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine


def leads_to(ref: str, known: Callable[[str], Container | None]) -> str:
    """Give the container that a name such as `web/db` leads to, as the link has it; "" for none.

    Args:
        known: finds a container by its ID or its own name.
    """
    holder, _, alias = ref.strip("/").rpartition("/")
    container = known(holder) if holder else None
    if container is None:
        return ""
    links = map(endpoints.link, container.config.host_config.links)
    return next((name for name, called in links if called == alias), "")


def remove(engine: Engine, ref: str) -> None:
    """Remove a link from the container that has it; the one that it leads to stays.

    Its next start does not know the name any more.

    Raises:
        Conflict: *ref* is the name of a container, not of a link.
        NotFound: there is no such container, or it has no such link.
    """
    holder, _, alias = ref.strip("/").rpartition("/")
    if not holder:
        raise Conflict("Conflict, cannot remove the default link name of the container")
    container = engine.containers.find(holder)
    with container.operating:
        links = container.config.host_config.links
        kept = [text for text in links if endpoints.link(text)[1] != alias]
        if len(kept) == len(links):
            raise NotFound(f"Cannot get link {alias} of container {holder}")
        host = {**container.body["HostConfig"], "Links": kept or None}
        container.set_body({**container.body, "HostConfig": host})
        container.save(engine.table)
