"""update, events: a container's limits, and its use of resources."""

from __future__ import annotations

import os
import select
import sys
import time

from minicontainer import jsontext
from minicontainer.errors import Conflict, InvalidArgument, NotFound, Unsupported
from minicontainer.kernel import pidfds, signals
from minicontainer.quantities import duration_s
from minicontainer.runtime.container import operations, updates, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.cgroups.cgroup import Cgroup
    from minicontainer.cgroups.oom import OomWatch
    from minicontainer.runtime.cli.command_line import Asked
    from minicontainer.runtime.cli.main import Session

_INTERVAL = "5s"


def update(session: Session, asked: Asked) -> int:
    """Change a container's limits."""
    name = asked.only_argument()
    file = asked.value("resources")
    if file:
        change = updates.from_json(_read(file))
    else:
        for option in updates.IGNORED:
            if asked.has(option):
                session.say(f"--{option} is ignored: it is part of --memory")
        change = updates.from_options({option: asked.value(option) for option in asked.options})
    updates.update(name, session.store, change)
    return 0


def _read(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read()
        with open(file, encoding="utf-8") as opened:
            return opened.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidArgument(f"--resources {file}: can't be read: {reason}") from None


def events(session: Session, asked: Asked) -> int:
    """Print what a container uses, once or until it ends, and each time that memory runs out."""
    name = asked.only_argument()
    interval_s = duration_s(asked.value("interval", _INTERVAL))
    # The reader may close the pipe at any time: `events … | head -1` then ends without a message.
    signals.handle(signals.SIGPIPE, signals.SIG_DFL)
    state = operations.load(session.store, name)
    pidfd = pidfds.open_same(state.pid, state.pid_started) if state.pid else None
    if pidfd is None:
        now = operations.status(state, session.store)
        raise Conflict(f"container not running: {name} is {now}")
    try:
        cgroup = operations.cgroup_of(state)
        if asked.has("stats"):
            _tell_stats(name, cgroup)
        else:
            _tell_until_it_ends(name, cgroup, pidfd, interval_s, _watch(session, cgroup))
    finally:
        os.close(pidfd)
    return 0


def _watch(session: Session, cgroup: Cgroup) -> OomWatch | None:
    """Watch for memory that runs out, if the kernel reports it; many small boards start without the
    memory controller, and the other numbers are still there.
    """
    try:
        return cgroup.watch_oom()
    except Unsupported as error:
        session.warn(str(error))
        return None


def _tell_until_it_ends(
    name: str, cgroup: Cgroup, pidfd: int, interval_s: float, watch: OomWatch | None
) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if watch is not None:
        poll.register(watch.fd, watch.events)
    due = time.monotonic() + interval_s
    try:
        running = True
        while running:
            ready = dict(poll.poll(max(0.0, due - time.monotonic()) * 1000))
            running = pidfd not in ready
            if watch is not None and watch.happened():
                _tell("oom", name)
            if running and time.monotonic() >= due:
                try:
                    _tell_stats(name, cgroup)
                except (NotFound, OSError):
                    if not pidfds.wait_gone(pidfd, 0):
                        raise
                    return  # it was deleted at this moment
                due += interval_s
    finally:
        if watch is not None:
            watch.close()


def _tell_stats(name: str, cgroup: Cgroup) -> None:
    _tell("stats", name, usage.as_runc(cgroup.stats(), cgroup.version))


def _tell(kind: str, name: str, data: dict[str, Any] | None = None) -> None:
    event = {"type": kind, "id": name} | ({"data": data} if data else {})
    sys.stdout.write(jsontext.dump(event) + "\n")
    sys.stdout.flush()
