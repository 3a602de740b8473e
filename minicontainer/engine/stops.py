"""Ending a container from outside: signals, stop, kill.

See: Docker Engine API, ContainerStop, ContainerKill.
"""

from __future__ import annotations

import contextlib
import errno

from minicontainer import steps
from minicontainer.errors import Conflict, InvalidArgument, KernelError, NotFound, NotModified
from minicontainer.kernel import signals
from minicontainer.runtime.container import operations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine

_DEFAULT_TIMEOUT_S = 10
_KILL_PATIENCE_S = 30
_CLEARING_PATIENCE_S = 5


def signal_number(text: str, default: int = signals.SIGKILL) -> int:
    """Read a signal: TERM, SIGTERM, 15, RTMIN+3; "" for the default.

    Raises:
        InvalidArgument: no such signal.
    """
    if not text:
        return default
    name = text.upper().removeprefix("SIG")
    if text.isascii() and text.isdecimal():
        number = int(text)
    else:
        base, plus, offset = name.partition("+")
        number = signals.NUMBERS.get(f"SIG{base}", 0)
        if plus and base == "RTMIN" and offset.isdecimal():
            number += int(offset)
        elif name.startswith("RTMAX-") and name[6:].isdecimal():
            number = signals.NUMBERS["SIGRTMAX"] - int(name[6:])
    if name.isdecimal() and number > signals.NUMBERS["SIGRTMAX"]:
        raise InvalidArgument(f"the linux daemon does not support signal {number}")
    if number not in signals.VALID:
        raise InvalidArgument(f"invalid signal: {text}")
    return number


def kill(engine: Engine, container: Container, signal: str) -> None:
    """Send a signal to a container that runs; wait for the end, if it is SIGKILL.

    As Docker does it: after `kill` a container can be removed.

    Raises:
        Conflict: it does not run, or does not end.
    """
    try:
        number = signal_number(signal)
    except InvalidArgument as error:
        raise InvalidArgument(f"cannot kill container: {container.name}: {error}") from None
    stops = (signals.SIGKILL, signal_number(container.config.stop_signal, signals.SIGTERM))
    if number in stops and _gave_up_restart(engine, container):
        return
    with container.changed:
        if not container.state.is_running():
            raise Conflict(
                f"cannot kill container: {container.name}: container {container.id} is not running"
            )
        if number in stops:
            container.state.stopped = True
            engine.keep(container)  # now: the next engine may see the end
        exits = container.exits
    send(engine, container, number)
    if number == signals.SIGKILL and not wait_for_end(container, exits, _KILL_PATIENCE_S):
        raise Conflict(f"cannot kill container: {container.name}: its processes do not end")


def send(engine: Engine, container: Container, number: int) -> None:
    """Send a signal; nothing happens when the container has ended meanwhile."""
    engine.supervisor.explain_end(container)
    try:
        steps.take(operations.kill, container.id, engine.supervisor.state_store, number)
    except (Conflict, NotFound):
        return
    engine.publish(container, "kill", signal=str(number))


def stop(
    engine: Engine, container: Container, timeout_s: int | None = None, signal: str = ""
) -> None:
    """Ask a container to end; kill it when it does not.

    Args:
        timeout_s: how long it has; None: as configured; -1: for ever.
        signal: "": as configured.
    Raises:
        NotModified: it does not run.
    """
    config = container.config
    number = signal_number(signal or config.stop_signal, signals.SIGTERM)
    if timeout_s is None:
        timeout_s = _DEFAULT_TIMEOUT_S if config.stop_timeout is None else config.stop_timeout
    if _gave_up_restart(engine, container):
        return
    with container.changed:
        if not container.state.is_running():
            raise NotModified(f"container {container.name} is not running")
        container.state.stopped = True
        engine.keep(container)
        paused = container.state.status == "paused"
        exits = container.exits
    send(engine, container, number)
    if paused:  # the signal has an effect only when its processes run again
        resume(engine, container)
    if not wait_for_end(container, exits, None if timeout_s < 0 else timeout_s):
        send(engine, container, signals.SIGKILL)
        if not wait_for_end(container, exits, _KILL_PATIENCE_S):
            raise Conflict(f"container {container.name}: its processes do not end")
    # Its ports are free then: who stops one container may start another in its place.
    engine.supervisor.wait_for_monitor(container, _CLEARING_PATIENCE_S)
    engine.publish(container, "stop")


def wait_for_end(container: Container, exits: int, timeout_s: float | None) -> bool:
    """Wait until a container has ended once more than *exits* times; say whether it has."""
    with container.changed:
        return container.changed.wait_for(
            lambda: container.exits > exits or container.removed, timeout_s
        )


def _gave_up_restart(engine: Engine, container: Container) -> bool:
    """Stop a container that waits for its next start; False if there is something to signal.

    A restart that has already begun can't be called back: it holds `operating`. After it, the
    container runs, and is stopped as any other.
    """
    if container.state.status != "restarting":
        return False
    with container.operating, container.changed:
        if container.state.status != "restarting":
            return False
        container.state.stopped = True
        container.state.status = "exited"
        engine.keep(container)
        container.changed.notify_all()
        return True


def pause(engine: Engine, container: Container) -> None:
    """Freeze all processes of a container.

    Raises:
        Conflict: it does not run, or is paused.
    """
    # Not under `changed`: freezing can take a while, and the watching thread needs that.
    with container.operating:
        status = container.state.status
        if status == "paused":
            raise Conflict(f"Container {container.id} is already paused")
        if status == "restarting":
            raise Conflict(
                f"Container {container.id} is restarting, wait until the container is running"
            )
        if status != "running":
            raise Conflict(f"Container {container.id} is not running")
        with _still_there(f"Container {container.id} is not running"):
            operations.pause(container.id, engine.supervisor.state_store)
        _change_status(engine, container, "running", "paused")
    engine.publish(container, "pause")


def resume(engine: Engine, container: Container) -> None:
    """Let a paused container run on.

    Raises:
        Conflict: it is not paused.
    """
    with container.operating:
        if container.state.status != "paused":
            raise Conflict(f"Container {container.id} is not paused")
        with _still_there(f"Container {container.id} is not paused"):
            operations.resume(container.id, engine.supervisor.state_store)
        _change_status(engine, container, "paused", "running")
    engine.publish(container, "unpause")


@contextlib.contextmanager
def _still_there(otherwise: str) -> Iterator[None]:
    """Say *otherwise* when a container has just ended: its state or its cgroup is gone."""
    try:
        yield
    except NotFound:
        raise Conflict(otherwise) from None
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        raise Conflict(otherwise) from None


def _change_status(engine: Engine, container: Container, before: str, after: str) -> None:
    """Note a change, unless the container has ended meanwhile."""
    with container.changed:
        if container.state.status == before:
            container.state.status = after
            engine.keep(container)
            container.changed.notify_all()
