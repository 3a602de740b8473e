"""`minicontainer daemon`: the engine and its API, in the foreground.

It ends on SIGTERM and SIGINT, and reads its configuration file again on SIGHUP. Containers run on
without it. systemd can hand it its sockets, and hears when it is ready.

See: sd_listen_fds(3); sd_notify(3); signal(7).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import select
import signal
import socket
import time

from minicontainer import faults, steps
from minicontainer.api import listeners
from minicontainer.api.server import Server
from minicontainer.cli import daemon_options
from minicontainer.engine.engine import Engine, Options
from minicontainer.errors import Error
from minicontainer.images.registry import Settings
from minicontainer.kernel import process
from minicontainer.startup import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minicontainer.api.listeners import Listener

_ENDING = (signal.SIGTERM, signal.SIGINT)
_LOOK_S = 1.0  # how often an idle engine looks whether it can end
_GRACE_S = 10.0
_GARBAGE = 10_000  # objects more than were let go, before a collection: every 200 starts
# Docker's name of a proxy, and the environment's.
_PROXIES = (("HttpProxy", "HTTP_PROXY"), ("HttpsProxy", "HTTPS_PROXY"), ("NoProxy", "NO_PROXY"))

_log = logging.getLogger(__name__)


def daemon(argv: list[str], environ: dict[str, str]) -> int:
    """Run the engine in the foreground."""
    values = daemon_options.parse(argv)
    logging.basicConfig(
        level=values["log_level"].upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for library in ("pyroute2", "httpx", "httpcore"):  # they tell of every message
        logging.getLogger(library).setLevel(logging.WARNING)
    process.set_name("minic:engine")
    faults.begin(environ.get(faults.VARIABLE, ""))
    steps.tell_warnings_to(_log.warning)
    registries = Settings(
        insecure=tuple(values["insecure_registry"]), mirrors=tuple(values["registry_mirror"])
    )
    options = Options(
        registries=registries,
        debug=values["log_level"] == "debug",
        cgroup_parent=values["cgroup_parent"],
        runtimes=tuple(values["add_runtime"]),
        proxies={name: environ.get(word, "") for name, word in _PROXIES},
    )
    with contextlib.ExitStack() as undo:
        engine = Engine(values["data_root"], values["exec_root"], options)
        undo.callback(engine.close)
        _raise_file_limit()
        signals = undo.enter_context(_signals())  # before the first client can send one
        server = Server(engine, _listen(values, environ), VERSION)
        undo.callback(server.stop, _GRACE_S)
        server.start()
        _collect_garbage_in_time()
        for listener in server.listeners:
            _log.info("listening at %s", listener.address)
        notify(environ, "READY=1")
        _run(engine, server, signals, values, environ, argv)
        notify(environ, "STOPPING=1")
    return 0


def _collect_garbage_in_time() -> None:
    """Let the garbage of requests not come to tens of megabytes.

    A command has no collection before its end (`startup`). This process stays: of each start some
    fifty objects that refer to each other are left, and only a collection ends those.
    """
    gc.freeze()  # what is there now stays, and need not be looked at
    gc.set_threshold(_GARBAGE)


def _raise_file_limit() -> None:
    """Allow this process as many descriptors as it can have.

    After the spawner's start: containers have the limit that the engine was started with, since
    some programs close every descriptor up to it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(
    engine: Engine,
    server: Server,
    signals: Signals,
    values: dict[str, Any],
    environ: dict[str, str],
    argv: list[str],
) -> None:
    """Wait for the signal to end, or for the end of all work."""
    idle_timeout_s = values["idle_timeout"]
    while True:
        number = signals.wait(_LOOK_S if idle_timeout_s else None)
        if number in _ENDING:
            _log.info("ending on signal %d; containers run on", number)
            return
        if number == signal.SIGHUP:
            notify(environ, f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            idle_timeout_s = _reload(argv, idle_timeout_s)
            notify(environ, "READY=1")
        if idle_timeout_s and server.idle_s() > idle_timeout_s and not _is_busy(engine):
            _log.info("ending after %d idle seconds", idle_timeout_s)
            return


def _is_busy(engine: Engine) -> bool:
    """Say whether a container runs, or will be started again."""
    return any(container.state.is_live() for container in engine.containers.all())


def _reload(argv: list[str], idle_timeout_s: int) -> int:
    """Read the configuration again, as far as it can change; give the new idle timeout."""
    try:
        values = daemon_options.parse(argv)
    except Error as error:
        _log.error("the configuration stays as it was: %s", error)
        return idle_timeout_s
    logging.getLogger().setLevel(values["log_level"].upper())
    _log.info("the configuration was read again: log level and idle timeout")
    return int(values["idle_timeout"])


def _listen(values: dict[str, Any], environ: dict[str, str]) -> list[Listener]:
    """Open all sockets, or none."""
    tls = None
    if values["tlscert"]:
        tls = listeners.TlsFiles(
            ca=values["tlscacert"], cert=values["tlscert"], key=values["tlskey"]
        )
    found = listeners.inherited(_inherited_count(environ), tls)
    with contextlib.ExitStack() as undo:
        for address in values["host"]:
            # systemd's sockets are there already; with the usual address they stand in its place.
            if found and (address == "fd://" or address in [one.address for one in found]):
                continue
            for listener in listeners.listen(address, values["group"], tls):
                undo.callback(listener.close)
                found.append(listener)
        undo.pop_all()
    return found


def _inherited_count(environ: dict[str, str]) -> int:
    """Count the sockets that systemd has opened for this process."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = environ.get("LISTEN_FDS", "")
    return int(count) if count.isdecimal() else 0


def notify(environ: dict[str, str], state: str) -> None:
    """Tell the service manager of a state, if there is one."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.sendall(state.encode())


class Signals:
    """Signals as numbers that can be waited for, whichever thread the kernel gives them to."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def wait(self, timeout_s: float | None) -> int:
        """Wait for a signal; 0 when none came in time."""
        if not select.select([self._pipe], [], [], timeout_s)[0]:
            return 0
        return os.read(self._pipe, 1)[0]


@contextlib.contextmanager
def _signals() -> Iterator[Signals]:
    """Take the signals that end and reload the engine."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    handled = (*_ENDING, signal.SIGHUP)
    before = signal.set_wakeup_fd(writer)
    old = {number: signal.signal(number, lambda *_: None) for number in handled}
    try:
        yield Signals(reader)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
