"""Talk to systemd: method calls over D-Bus, and waiting for its jobs.

systemd listens on the system bus; if there is no bus, root can use a socket of its own. Starting or
stopping a unit only queues a job; the signal JobRemoved reports when it is done, and how.

See: org.freedesktop.systemd1(5); D-Bus specification.
"""

from __future__ import annotations

import os
import socket
import time

from jeepney import (
    DBusAddress,
    HeaderFields,
    MatchRule,
    MessageType,
    Parser,
    Properties,
    message_bus,
    new_method_call,
)
from jeepney.auth import BEGIN, Authenticator

from minicontainer import steps
from minicontainer.errors import Conflict, KernelError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BOOTED = "/run/systemd/system"  # sd_booted(3)
_PRIVATE = "/run/systemd/private"
_SYSTEM_BUS = "/run/dbus/system_bus_socket"
_PATIENCE_S = 30  # as runc's
_OVERLOOKED_S = 0.2
_NAME, _PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_INTERFACE = f"{_NAME}.Manager"
_PEER = DBusAddress(_PATH, bus_name=_NAME, interface="org.freedesktop.DBus.Peer")


class RefusedError(KernelError):
    """systemd refused a call.

    Args:
        name: of the D-Bus error: org.freedesktop.systemd1.NoSuchUnit.
        message: systemd's own words.
        call: the refused call.
    """

    def __init__(self, name: str, message: str, call: str) -> None:
        super().__init__(0, message, call)
        self.name = name


def require_systemd() -> None:
    """Check that this host runs systemd.

    Raises:
        Unsupported: it does not.
    """
    if not os.path.isdir(_BOOTED):
        raise Unsupported(
            f"systemd is not running here ({_BOOTED} is missing): leave --systemd-cgroup out"
        )


class SystemdBus:
    """A connection to systemd; close it, or use it in `with`.

    Raises:
        Unsupported: systemd does not run here, or can't be reached.
    """

    def __init__(self) -> None:
        require_systemd()
        self._parser = Parser()
        self._serial = 0
        self._ended: dict[str, str] = {}  # the results of jobs that have ended
        self._socket, self._direct = _connect()
        self._systemd = DBusAddress(_PATH, bus_name=_NAME, interface=_INTERFACE)
        try:
            self._greet()
        except OSError as error:
            self.close()
            raise _unreachable(error) from None

    def __enter__(self) -> SystemdBus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _greet(self) -> None:
        self._socket.settimeout(_PATIENCE_S)
        self._socket.sendall(b"\0")
        login = Authenticator(enable_fds=False, inc_null_byte=False)
        for request in login:
            self._socket.sendall(request)
            login.feed(self._socket.recv(4096))
        self._socket.sendall(BEGIN)
        if not self._direct:  # a bus sends signals only to processes that ask for them
            ended = MatchRule(type="signal", interface=_INTERFACE, member="JobRemoved")
            self._ask(message_bus.Hello())
            self._ask(message_bus.AddMatch(ended))
            self._ask(new_method_call(self._systemd, "Subscribe"))

    def call(self, method: str, signature: str = "", *body: Any, shell: str = "") -> Any:
        """Call a method of systemd's manager; return its result.

        Args:
            signature: the arguments' types, as D-Bus writes them.
            shell: the equivalent command, for the event.
        Raises:
            RefusedError: with systemd's words.
        """
        unit = str(body[0]) if body else ""
        shown = f"{method}({unit})"
        try:
            answer = self._ask(new_method_call(self._systemd, method, signature or None, body))
        except OSError as error:
            raise _unreachable(error) from None
        failed = answer.header.message_type is MessageType.error
        steps.note(
            method, tuple(map(str, body)), -1 if failed else 0, object=f"unit:{unit}",
            shell=shell or None,
        )  # fmt: skip
        if failed:
            name = answer.header.fields[HeaderFields.error_name]
            raise RefusedError(name, str(answer.body[0] if answer.body else name), shown)
        return answer.body[0] if answer.body else None

    def slice_of(self, unit: str) -> str:
        """Return the slice that a scope is in; "" if systemd knows no such scope."""
        try:
            path = self.call("GetUnit", "s", unit)
            asked = Properties(DBusAddress(path, bus_name=_NAME, interface=f"{_NAME}.Scope"))
            answer = self._ask(asked.get("Slice"))
        except RefusedError:
            return ""
        except OSError as error:
            raise _unreachable(error) from None
        if answer.header.message_type is MessageType.error:
            return ""  # it was removed meanwhile
        return str(answer.body[0][1])

    def run_job(self, method: str, signature: str, *body: Any, shell: str = "") -> None:
        """Call a method that queues a job for a unit, and wait for the job's end.

        Raises:
            RefusedError: as `call` does.
            Conflict: the job failed, or did not end in time.
        """
        job = self.call(method, signature, *body, shell=shell)
        deadline = time.monotonic() + _PATIENCE_S
        try:
            while job not in self._ended:
                self._receive(deadline)
        except OSError as error:
            raise Conflict(f"systemd does not finish its job for {body[0]}: {error}") from None
        result = self._ended.pop(job)
        if result != "done":
            raise Conflict(
                f"systemd could not do {method} of {body[0]}: the job's result is {result}: "
                f"see `systemctl status {body[0]}`"
            )

    def _ask(self, message: Any) -> Any:
        """Send a call and wait for its answer."""
        serial = self._send(message)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            # If a call reaches systemd's own socket together with the end of the greeting, systemd
            # reads both at once, and looks at the call only when the next one comes: sd-bus of
            # systemd 252.
            soon = min(deadline, time.monotonic() + _OVERLOOKED_S) if self._direct else deadline
            try:
                answer = self._receive(soon)
            except TimeoutError:
                if soon == deadline:
                    raise
                self._send(new_method_call(_PEER, "Ping"))
                continue
            if answer.header.fields.get(HeaderFields.reply_serial) == serial:
                return answer

    def _send(self, message: Any) -> int:
        self._serial += 1
        self._socket.sendall(message.serialise(serial=self._serial))
        return self._serial

    def _receive(self, deadline: float) -> Any:
        """Wait for the next message; record the end of jobs."""
        while (message := self._parser.get_next_message()) is None:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            if not (data := self._socket.recv(65536)):
                raise ConnectionResetError("the connection was closed")
            self._parser.add_data(data)
        if message.header.fields.get(HeaderFields.member) == "JobRemoved":
            _, job, _, result = message.body
            self._ended[job] = result
        return message


def _connect() -> tuple[socket.socket, bool]:
    """Connect to the bus, or else to systemd's own socket; report whether it is the socket."""
    reason = OSError("")
    for path in (_SYSTEM_BUS, _PRIVATE):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except OSError as error:
            connection.close()
            reason = error
        else:
            return connection, path == _PRIVATE
    raise _unreachable(reason)


def _unreachable(error: OSError) -> Unsupported:
    return Unsupported(
        f"systemd can't be reached by {_SYSTEM_BUS} or {_PRIVATE}: "
        f"{error.strerror or error}: this needs root"
    )
