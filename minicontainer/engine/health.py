"""Health checks: a program that runs in the container every so often, and what its result means.

    starting ──(success)──► healthy ◄──(success)── unhealthy
        │                      │                        ▲
        └──(failures in a row, after the start period)──┘

One thread a container that has a check and runs; it ends with the container.

See: Dockerfile reference, "HEALTHCHECK"; Docker Engine API, Health.
"""

from __future__ import annotations

import socket
import threading
import time

from minicontainer.engine.log_files import timestamp
from minicontainer.errors import Error, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.config import Healthcheck
    from minicontainer.engine.container import Container
    from minicontainer.engine.engine import Engine

    Json = dict[str, Any]

_SECOND = 10**9
_DEFAULTS = {  # nanoseconds, and a count
    "interval": 30 * _SECOND,
    "timeout": 30 * _SECOND,
    "start_interval": 5 * _SECOND,
    "retries": 3,
}
_SHORTEST_NS = 10**6
_KEPT = 5  # results in the log
_LONGEST_OUTPUT = 4096  # bytes of each


def check(asked: Healthcheck) -> None:
    """Check the numbers of a health check.

    Raises:
        InvalidArgument: in Docker's words.
    """
    for name in ("interval", "timeout", "start_period", "start_interval"):
        if 0 != getattr(asked, name) < _SHORTEST_NS:
            word = "".join(part.title() for part in name.split("_"))
            raise InvalidArgument(f"{word} in Healthcheck cannot be less than 1ms")
    if asked.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")


def is_checked(container: Container) -> bool:
    """Say whether a container has a health check."""
    check = container.config.healthcheck
    return check is not None and bool(check.test) and check.test[0] != "NONE"


def initial(container: Container) -> Json | None:
    """Give the health of a container that has just started; None without a check."""
    if not is_checked(container):
        return None
    return {"Status": "starting", "FailingStreak": 0, "Log": []}


def watch(engine: Engine, container: Container) -> None:
    """Check a container in a thread of its own, from now to its end."""
    if is_checked(container):
        checker = _Checker(engine, container)
        threading.Thread(target=checker.run, name="health", daemon=True).start()


class _Checker:
    """Checks one container while one start of it lasts."""

    def __init__(self, engine: Engine, container: Container) -> None:
        self._engine = engine
        self._container = container
        self._exits = container.exits
        self._begun_ns = container.state.started_ns
        assert container.config.healthcheck is not None
        self._check: Healthcheck = container.config.healthcheck

    def run(self) -> None:
        """Check until the container has ended."""
        while self._wait():
            started_ns = time.time_ns()
            code, output = self._probe()
            if self._is_over():
                return
            self._note(started_ns, code, output)

    def _setting(self, name: str) -> int:
        value: int = getattr(self._check, name)
        return value or _DEFAULTS[name]

    def _in_start_period(self) -> bool:
        return time.time_ns() < self._begun_ns + self._check.start_period

    def _is_over(self) -> bool:
        container = self._container
        return self._engine.closed or container.removed or container.exits != self._exits

    def _wait(self) -> bool:
        """Wait until the next check is due; say whether the container still runs."""
        starting = (self._container.health or {}).get("Status") == "starting"
        early = starting and self._in_start_period() and self._check.start_interval
        name = "start_interval" if early else "interval"
        container = self._container
        with container.changed:
            container.changed.wait_for(self._is_over, self._setting(name) / _SECOND)
            return not self._is_over()

    def _program(self) -> list[str]:
        kind, *words = self._check.test
        if kind == "CMD-SHELL":
            shell = self._container.config.shell or ("/bin/sh", "-c")
            return [*shell, *words]
        return list(words) if kind == "CMD" else list(self._check.test)

    def _probe(self) -> tuple[int, str]:
        """Run the check; give its exit status, -1 for one that took too long, and its output."""
        if self._container.state.status == "paused":
            return 0, ""
        execs, timeout_s = self._engine.execs, self._setting("timeout") / _SECOND
        client, server = socket.socketpair()
        try:
            with server:
                body = {"Cmd": self._program(), "AttachStdout": True, "AttachStderr": True}
                made = execs.create(self._container.id, body)["Id"]
                execs.start(made, {}, _Stream(server))
            output, ended = _read(client, time.monotonic() + timeout_s)
            if not ended:
                execs.kill(made)
                told = f"Health check exceeded timeout ({_duration(self._setting('timeout'))})"
                return -1, f"{told}: {output}" if output else told
            # the status is known before the stream ends
            return int(execs.inspect(made)["ExitCode"]), output
        except (Error, OSError) as error:
            return -1, str(error)
        finally:
            client.close()

    def _note(self, started_ns: int, code: int, output: str) -> None:
        container = self._container
        with container.changed:
            if container.health is None or container.state.status == "paused":
                return
            before = container.health
            streak = 0 if code == 0 else before["FailingStreak"] + 1
            status = before["Status"]
            if code == 0:
                status = "healthy"
            elif self._in_start_period() and status == "starting":
                streak = 0
            elif streak >= self._setting("retries"):
                status = "unhealthy"
            result = {
                "Start": timestamp(started_ns),
                "End": timestamp(time.time_ns()),
                "ExitCode": code,
                "Output": output,
            }
            log = [*before["Log"], result][-_KEPT:]
            container.health = {"Status": status, "FailingStreak": streak, "Log": log}
            container.changed.notify_all()
        if status != before["Status"]:
            self._engine.publish(container, f"health_status: {status}")


class _Stream:
    """The check's output, as a client's connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffered = b""

    def accept(self) -> None:
        """Nothing has to be said."""


def _duration(ns: int) -> str:
    """Write a duration as Go does, which clients know from Docker: 50ms, 1.5s, 1m30s, 1h0m0s."""
    if ns < _SECOND:
        return f"{ns / 10**6:.6f}".rstrip("0").rstrip(".") + "ms"
    minutes, rest = divmod(ns, 60 * _SECOND)
    seconds = f"{rest / _SECOND:.9f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _read(client: socket.socket, deadline: float) -> tuple[str, bool]:
    """Read the frames of a check's output; say whether their end came in time."""
    data, ended = b"", False
    while (left := deadline - time.monotonic()) > 0:
        client.settimeout(left)
        try:
            part = client.recv(65536)
        except TimeoutError:
            break
        if not part:
            ended = True
            break
        if len(data) < 16 * _LONGEST_OUTPUT:
            data += part
    return _payload(data)[:_LONGEST_OUTPUT].decode("utf-8", "replace"), ended


def _payload(data: bytes) -> bytes:
    found = b""
    while len(data) >= 8:
        length = int.from_bytes(data[4:8], "big")
        found += data[8 : 8 + length]
        data = data[8 + length :]
    return found
