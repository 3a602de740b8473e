"""create, run: make a container from a bundle."""

from __future__ import annotations

from minicontainer.contexts import ExitStack
from minicontainer.runtime.cli import handover, readiness
from minicontainer.runtime.config.spec import read_bundle
from minicontainer.runtime.config.spec_check import warnings
from minicontainer.runtime.inputs import Options
from minicontainer.runtime.parent import foreground, lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from minicontainer.runtime.cli.command_line import Asked
    from minicontainer.runtime.cli.main import Session
    from minicontainer.runtime.parent.lifecycle import Container


def create(session: Session, asked: Asked) -> int:
    """Create a container; return while it waits for `start`."""
    with foreground.interruptible(), ExitStack() as undo:
        container, _ = _create(session, asked, undo, detached=True)
        undo.pop_all()
        container.leave()
    return 0


def run(session: Session, asked: Asked) -> int:
    """Create and start a container; wait for it and delete it, unless --detach is given."""
    detached = asked.has("detach")
    with foreground.interruptible(), ExitStack() as undo:
        container, console = _create(session, asked, undo, detached=detached)
        relay = readiness.relay_of(container.state.id, session, undo)
        container.start()
        if detached:
            readiness.wait(relay, container.pid, container.pidfd, session)
            undo.pop_all()
            container.leave()
            return 0
        with readiness.relaying(relay, container.pidfd):
            status = handover.follow(container, console)
        if asked.has("keep"):
            undo.pop_all()
        return status


def _create(
    session: Session, asked: Asked, undo: ExitStack, *, detached: bool
) -> tuple[Container, socket.socket | None]:
    """Create the container; *undo* deletes it.

    Returns:
        The container, and the socket that gets its terminal, if this process connects it.
    """
    name = asked.only_argument()
    bundle = read_bundle(asked.value("bundle", "."), asked.value("config", "config.json"))
    for warning in warnings(bundle.spec):
        session.warn(warning)
    process = bundle.spec.process
    listening, told = handover.listening_sockets(session.environ)
    preserved = handover.preserved_descriptors(asked, listening)
    if told:
        process = process.replace(env=(*process.env, *told))
        bundle = bundle.replace(spec=bundle.spec.replace(process=process))
    ours, theirs = handover.console(process, asked, undo, detached=detached)
    wanted = handover.pidfd_socket(asked, undo)
    options = Options(
        console=theirs,
        plain_lines=handover.shows_in_a_file(ours),
        detached=detached,
        gated=session.command == "create",
        preserve_fds=preserved,
        cgroup_manager=session.cgroup_manager,
        no_pivot=asked.has("no-pivot"),
        new_keyring=not asked.has("no-new-keyring"),
        notifies=bool(session.environ.get("NOTIFY_SOCKET")),
    )
    container = lifecycle.create_container(name, bundle, session.store, options)
    undo.callback(container.delete)
    handover.write_pid_file(asked, container.pid)
    handover.send_pidfd(wanted, container.pidfd)
    return container, ours
