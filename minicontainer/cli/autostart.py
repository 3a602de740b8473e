"""Start the engine when none answers: a newcomer sets nothing up."""

from __future__ import annotations

import fcntl
import os
import sys
import time

from minicontainer.cli import client
from minicontainer.cli.exits import EXIT_FAILED, Exit, Lost
from minicontainer.cli.output import say
from minicontainer.kernel import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from minicontainer.cli.hosts import Address

IDLE_S = 600  # it ends after so long without containers and requests
_PATIENCE_S = 20
_LOOK_S = 0.005


def start(
    address: Address, program: str, options: Mapping[str, Any], environ: Mapping[str, str]
) -> None:
    """Start the engine of this host, and wait until it answers.

    Args:
        address: its socket.
        program: the path of this program.
        options: --data-root and --exec-root, which are passed on.
        environ: the engine's: it reads proxies from it.
    Raises:
        Exit: this user may not, or the engine ended at once; its own last line says why.
    """
    if os.geteuid() != 0:
        group = "join the group minicontainer"
        raise Exit(
            f"no engine runs at {address.url}, and only root can start one: use sudo once, or "
            f"{group} and let the system service run it", EXIT_FAILED, prefix=True,
        )  # fmt: skip
    directory = os.path.dirname(address.path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    # Of two clients that come at once, one starts it and the other waits here.
    with open(f"{directory}/start.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _answers(address):
            return
        say(f"starting the engine; it ends by itself after {IDLE_S // 60} idle minutes")
        log = f"{directory}/engine.log"
        _wait(address, _spawn(_words(program, options), environ, log), log)


def _words(program: str, options: Mapping[str, Any]) -> list[str]:
    """Write the command line of the engine."""
    words = ["daemon", "--idle-timeout", str(IDLE_S)]
    for name in ("data-root", "exec-root"):
        if value := options.get(name.replace("-", "_")):
            words += [f"--{name}", os.path.abspath(value)]
    if os.path.isfile(program) and os.access(program, os.X_OK):
        return [program, *words]
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from minicontainer import startup; "
        "startup.begin(); from minicontainer.cli.main import main; startup.end(main())"
    )
    return [sys.executable, "-IS", "-c", code, *words]


def _spawn(words: list[str], environ: Mapping[str, str], log: str) -> int:
    """Run a program in a session of its own; give its process ID."""
    null = os.open("/dev/null", os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return os.posix_spawn(
            words[0], words, environ, setsid=True, setsigmask=(), setsigdef=signals.CATCHABLE,
            file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, output, 1),
                          (os.POSIX_SPAWN_DUP2, output, 2)],
        )  # fmt: skip
    finally:
        os.close(null)
        os.close(output)


def _answers(address: Address) -> bool:
    try:
        client.Client(address).connect().close()
    except Lost:
        return False
    return True


def _wait(address: Address, pid: int, log: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not _answers(address):
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended:
            with open(log, encoding="utf-8", errors="replace") as file:
                lines = file.read().strip().splitlines() or ["it said nothing"]
            raise Exit(f"the engine did not start: {lines[-1]}", EXIT_FAILED, prefix=True)
        if time.monotonic() > deadline:
            raise Exit(f"the engine does not answer: see {log}", EXIT_FAILED, prefix=True)
        time.sleep(_LOOK_S)
