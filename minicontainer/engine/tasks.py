"""What a monitor and its creator are told of the container that they start and hold.

See: `protocol.StartContainer` for the message; `creator` for who does what.
"""

from __future__ import annotations

from minicontainer.engine import parts, runtimes
from minicontainer.engine.protocol import StartContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine
    from minicontainer.engine.protocol import AttachStreams
    from minicontainer.runtime.config.spec import Spec


def message_for(
    engine: Engine, container: Container, spec: Spec, attached: tuple[AttachStreams, ...]
) -> StartContainer:
    """Write the message that has a container started; its bundle is written.

    Args:
        spec: of this start.
        attached: the streams of the clients that wait for the start.
    """
    config, host = container.config, container.config.host_config
    without = parts.steps_of(host.without)
    runtime = runtimes.program_of(host.runtime, engine.runtimes)
    # Without a step, or with another runtime, the monitor creates the container by itself.
    apart = not (without or runtime) and spec.may_be_handed_over()
    return StartContainer(
        id=container.id,
        directory=container.directory,
        state_root=engine.supervisor.state_store.root,
        socket=engine.supervisor.socket_of(container),
        tty=config.tty,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        log=engine.log_options(container),
        attached=attached,
        explain=engine.traces.begun_ns(),
        without=without,
        hold=engine.traces.hold_of(container.story) is not None,
        runtime=runtime,
        durable=container.outlives_power_cut,
        apart=apart,
        alone=apart and _needs_no_network(engine, container),
    )


def _needs_no_network(engine: Engine, container: Container) -> bool:
    """Say whether nothing is to be done between the creation and the start of a container."""
    host = container.config.host_config
    return not (host.links or host.without or engine.networks.joins(container))
