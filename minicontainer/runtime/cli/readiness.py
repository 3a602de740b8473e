"""start, run, with NOTIFY_SOCKET: tell the service manager that the program is ready.

`start` and a detached `run` end when the program is ready, since their caller waits for their end.
`run` in the foreground stays the service's main process, and listens while it waits for the
program. See: `parent.notify`.
"""

from __future__ import annotations

import posix

from minicontainer.contexts import ExitStack, contextmanager, suppress
from minicontainer.kernel import pidfds
from minicontainer.runtime.container import operations
from minicontainer.runtime.parent import foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.runtime.cli.main import Session
    from minicontainer.runtime.parent.notify import Relay


def start_service(name: str, session: Session) -> None:
    """Start a created container's program; return when it is ready, or has ended.

    Raises:
        Conflict, InitError: as `operations.start`.
    """
    relay = None

    def listen() -> None:  # not earlier: another `start` may be listening there
        nonlocal relay
        relay = relay_of(name, session, undo)

    with ExitStack() as undo:
        state = operations.load(session.store, name)
        pidfd = pidfds.open_same(state.pid, state.pid_started) if state.pid else None
        if pidfd is not None:
            undo.callback(posix.close, pidfd)
        operations.start(name, session.store, listen)
        if pidfd is not None:
            wait(relay, state.pid, pidfd, session)


def relay_of(name: str, session: Session, undo: ExitStack) -> Relay | None:
    """Listen to the program, if there is a service manager and the program has a socket.

    Raises:
        KernelError: the socket can't be made.
    """
    manager = session.environ.get("NOTIFY_SOCKET")
    if not manager:
        return None
    from minicontainer.runtime.parent import notify  # 5 ms, for services alone

    directory = session.store.directory(name)
    if not notify.is_offered(directory):
        return None
    relay = notify.Relay(directory, manager)
    undo.callback(relay.close)
    return relay


def wait(relay: Relay | None, pid: int, pidfd: int, session: Session) -> None:
    """Wait until the program is ready, and tell the service manager; or until it has ended.

    Args:
        pid, pidfd: the container's first process, which becomes the service's main process.
    """
    if relay is None:
        return
    with foreground.waiting():
        ready = relay.wait(pidfd)
    if ready:
        try:
            relay.tell(pid)
        except OSError as error:
            session.warn(
                f"NOTIFY_SOCKET: can't report that the container is ready: "
                f"{error.strerror or error}"
            )


@contextmanager
def relaying(relay: Relay | None, pidfd: int) -> Iterator[None]:
    """Do the same in a thread, while this thread waits for the program's end.

    It starts where signals are blocked, so that only the waiting thread gets them.
    """
    if relay is None:
        yield
        return
    import threading

    thread = threading.Thread(target=_relay, args=(relay, pidfd))
    thread.start()
    yield
    thread.join()


def _relay(relay: Relay, pidfd: int) -> None:
    if relay.wait(pidfd):
        with suppress(OSError):  # the manager is gone; the program runs all the same
            relay.tell(None)
    while relay.wait(pidfd):
        pass  # nothing more is passed on, but a full queue would block the program
