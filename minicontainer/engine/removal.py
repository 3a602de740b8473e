"""A container is removed: its files, its row in the database, and what it held.

The directory goes first, by one rename(2). From then on the removal can't be undone; if the engine
is killed before the end, the next one finds a row without a directory, and ends it.
"""

from __future__ import annotations

import os

from minicontainer import steps
from minicontainer.contexts import suppress
from minicontainer.engine import bundles, stops
from minicontainer.errors import Conflict, Error, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine

_PATIENCE_S = 30  # for processes that were killed to be gone


def remove(engine: Engine, container: Container, *, force: bool, volumes: bool) -> None:
    """Remove a container for a user.

    Args:
        force: kill it first, if it runs.
        volumes: with its anonymous volumes.
    Raises:
        Conflict, NotFound: in Docker's words.
    """
    if container.state.status == "removing":
        raise Conflict(f"removal of container {container.name} is already in progress")
    if hold := engine.traces.hold_of(container.story):
        hold.make_way(container.name, force)
    with container.operating:  # so that nobody starts it meanwhile
        if container.removed:
            raise NotFound(f"No such container: {container.name}")
        if container.state.is_live():
            if not force:
                raise _not_removable(container)
            _end(engine, container)
        _remove(engine, container, volumes)


def remove_quietly(engine: Engine, container: Container) -> None:
    """Remove a container by `--rm`; who else removes it now may be first."""
    try:
        _remove(engine, container, volumes=True)
    except (Error, OSError) as error:
        engine.warn(f"container {container.name} can't be removed: {error}")


def finish(engine: Engine, container: Container) -> bool:
    """End a removal that an earlier engine had begun; say whether it had."""
    if os.path.isdir(container.directory):
        return False
    # its anonymous volumes still have it as owner if they go, too: `Volumes.remove_ownerless`
    _forget(engine, container, volumes=False)
    return True


def _end(engine: Engine, container: Container) -> None:
    """Kill a container, and wait for its end."""
    with suppress(Conflict):  # it has just ended by itself
        stops.kill(engine, container, "KILL")


def _remove(engine: Engine, container: Container, volumes: bool) -> None:
    with container.operating:
        with container.changed:
            if container.removed:
                return
            container.changed.wait_for(lambda: container.monitor is None, _PATIENCE_S)
            if container.monitor is not None:
                raise Conflict(f"container {container.name}: its processes do not end")
            before = container.state.status
            container.state.status = "removing"
            container.state.stopped = True
        try:
            if not volumes:
                engine.volumes.let_stay(container)
            steps.take_back(bundles.discard_directory, container, engine.trash)
        except Error:
            with container.changed:
                container.state.status = before
            raise
        try:
            _forget(engine, container, volumes)
        finally:
            engine.trash.empty()  # not before: its thread would slow this one down
    engine.publish(container, "destroy")


def _forget(engine: Engine, container: Container, volumes: bool) -> None:
    """Remove what is kept of a container, and what it holds.

    Its directory is gone, and so is the container: what can't be written down, because the disk is
    full, is done by the next engine (`finish`). A removal does not wait for the disk: after a power
    cut the container may be there again, whole, as with Docker's engine.
    """
    kept: tuple[Callable[[], object], ...] = (
        lambda: engine.table.delete(container.id, durable=False),
        lambda: engine.images.store.release(container.id),
        lambda: steps.reach("after release-image"),
        lambda: engine.volumes.release(container, anonymous=volumes),
    )
    for forget in kept:
        try:
            forget()
        except Error as error:
            engine.warn(f"container {container.name}: its removal is not kept: {error}")
    engine.containers.forget(container)
    with container.changed:
        container.removed = True
        container.let_clients_go()
        container.changed.notify_all()


def _not_removable(container: Container) -> Conflict:
    status = container.state.status
    what = (
        "is paused and must be unpaused first"
        if status == "paused"
        else f"is {status}: stop the container before removing or force remove"
    )
    return Conflict(f'cannot remove container "/{container.name}": container {what}')
